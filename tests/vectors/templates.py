#!/usr/bin/env python3
"""Writes tests/vectors/templates.json: what Python's jinja2, set up as Hugging Face sets it up for
chat templates, makes of the templates below, and of chat templates in a folder (by name only).

    apt-get install python3-jinja2
    tests/vectors/templates.py LLAMA_CPP/models/templates > tests/vectors/templates.json
"""
import json
import os
import sys

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


ENV = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
)
ENV.globals["raise_exception"] = raise_exception
ENV.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)

TALKS = [
    [("user", "Hi")],
    [("system", "  Be brief. "), ("user", "What is 2+2?\n")],
    [("user", "a"), ("assistant", "b\n"), ("user", " c ")],
]

BITNET = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "
    "message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
LLAMA3 = (
    "{% for m in messages %}{% set c = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
    " + m['content'] | trim + '<|eot_id|>' %}{% if loop.first %}{% set c = bos_token + c %}{% endif %}"
    "{{ c }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
CHATML = (
    "{%- for m in messages %}\n{{- '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' }}\n"
    "{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\n' }}\n{%- endif %}\n"
)
SYSTEM_FIRST = (
    "{% if messages[0]['role'] == 'system' %}{% set sys = messages[0].content %}"
    "{% set rest = messages[1:] %}{% else %}{% set sys = 'none' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ loop.index }}/{{ loop.length }}:"
    "{{ m.content.strip() }}]{% endfor %}{{ sys }}"
)
OWN = [
    BITNET, LLAMA3, CHATML, SYSTEM_FIRST,
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n\n",
    "a {%- if true -%} b {%- endif -%} c",
    "x\n   {%+ if true %}y{% endif +%}\nz\n   {# note #}\nw {# n -#}\n  v",
    "{% raw %}{{ not }} {% this %}{% endraw %}!",
    "{{ 1 + 2 * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ 1.5 * 2 }} {{ 10 - 4 - 3 }}",
    "{{ 'a' ~ 1 ~ none ~ true }} {{ 'ab' * 2 }} {{ [1, 'x', none] }} {{ {'k': 1} }} {{ (1, 2) | length }}",
    "{{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ 'a' in 'cab' }} {{ 4 not in [1, 2] }} {{ not 1 == 2 }} {{ 'b' >= 'a' }}",
    "{{ 'yes' if x is defined else 'no' }} {{ (x or 'dflt') }} {{ x | default('d') }} {{ '' | default('e', true) }}",
    "{{ messages | length }} {{ messages[-1].content | upper }} {{ 'hello world'.title() }} {{ 'A-b' | lower }}",
    "{{ 'a,b,c'.split(',') | join('+') }} {{ ' x y '.split() }} {{ 'abcabc'.replace('b', 'X') }} {{ 'a'.startswith(('b', 'a')) }}",
    "{{ 'äöü'[1:] }} {{ 'abcdef'[::-1] }} {{ [1, 2, 3, 4][1:3] }} {{ 'abcdef'[-2:] }} {{ [1,2,3][::2] }}",
    "{% set ns = namespace(n=0, seen=false) %}{% for i in range(5) %}{% if i is odd %}{% continue %}{% endif %}{% if i > 3 %}{% break %}{% endif %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
    "{% set v = 1 %}{% for i in [1, 2] %}{% set v = i + 10 %}{% endfor %}{{ v }}",
    "{% for k, v in {'b': 2, 'a': 1}.items() %}{{ k }}={{ v }}{% if not loop.last %}, {% endif %}{% endfor %}|{% for k, v in {'b': 2, 'a': 1} | dictsort %}{{ k }}{% endfor %}",
    "{% for i in [] %}x{% else %}empty{% endfor %}{% for i in range(6) if i % 2 %}{{ loop.index }}:{{ i }} {% endfor %}",
    "{% macro greet(who, how='Hi') %}{{ how }}, {{ who }}!{% endmacro %}{{ greet('A') }} {{ greet('B', how='Yo') }}",
    "{% set t %}  block {{ 1 }} {% endset %}[{{ t | trim }}] {% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list | tojson }}",
    "{{ {'a': [1, true, none, 'q\"']} | tojson }} {{ {'a': [1]} | tojson(indent=2) }}",
    "{{ tools is none }} {{ tools is defined }} {{ 1 is number }} {{ 'a' is string }} {{ {} is mapping }} {{ [] is iterable }}",
    "{{ 'it''s' }} {{ \"q\\n\\t\\x41\\u00e9\" }} {{ 'x'|replace('x', '<b>') }} {{ ('a' 'b') }}",
    "{% if messages[0].role == 'x' %}1{% elif messages | length > 1 %}2{% else %}3{% endif %}",
    "{{ messages[5] is defined }}{{ messages[0].nothing }}|{{ messages[0].nothing is defined }}",
    "{% generation %}g{{ bos_token }}{% endgeneration %}{{ '%' }}{{ 3 | string + '4' }} {{ '5' | int + 1 }}",
    "{{ 'first\nsecond' | indent(2) }} {{ [1, 2] | first }} {{ [1, 2] | last }} {{ 'abc' | list }} {{ 'abc' | reverse }}",
    "{% set d = {1: 'a', 10: 'b', 2: 'c', 'x': 5} %}{{ d[1] }}{{ d['1'] is defined }}{{ 2 in d }}{{ '2' in d }}{{ d.get(2) }}{{ d.get('2', 'n') }} {{ d }} {{ d | tojson }}{% for k in d %}{{ k is number }}{% endfor %}{% for k, v in {20: 1, 3: 2} | dictsort %}{{ k + 1 }}{% endfor %}{% for k, v in {'b': 1, 'A': 2, 'a2': 3} | dictsort %}{{ k }}{% endfor %}",
    "{{ {1: 2, 'a': 3} | dictsort }}", "{{ 'a{}b{}c'.format(1, 'x') }} {{ '{1}{0}{1}'.format('p', 'q') }} {{ '{n}!{{}}'.format(n='N') }} {{ '{}{}{}'.format(none, true, [1]) }}",
    "{{ '{}{}'.format(1) }}", "{{ '{x'.format(1) }}", "{{ 'x}'.format(1) }}", "{{ '{0}{2}'.format(1) }}",
    "{{ loop_is_undefined.x }}", "{{ raise_exception('no') }}", "{% if %}", "{{ 1 +", "{% for x in 3 %}{% endfor %}",
    "{{ 1 / 0 }}", "{% if 1 %}", "{{ 'a' + 1 }}", "{{ nothing() }}", "{{ 'x' | nofilter }}", "{% include 'x' %}",
]
FILES = [
    "meta-llama-Llama-3.1-8B-Instruct", "meta-llama-Llama-3.2-3B-Instruct",
    "meta-llama-Llama-3.3-70B-Instruct", "Qwen-Qwen2.5-7B-Instruct", "Qwen-Qwen3-0.6B",
    "Qwen-QwQ-32B", "microsoft-Phi-3.5-mini-instruct", "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", "deepseek-ai-DeepSeek-V3.1", "llama-cpp-deepseek-r1",
    "HuggingFaceTB-SmolLM3-3B", "ibm-granite-granite-4.0", "google-gemma-2-2b-it",
    "mistralai-Mistral-Nemo-Instruct-2407", "openbmb-MiniCPM5-1B", "ByteDance-Seed-OSS", "tencent-Hy3",
    "mistralai-Ministral-3-14B-Reasoning-2512", "google-gemma-4-31B-it", "Qwen3-Coder",
]


def render(source, talk):
    messages = [{"role": r, "content": c} for r, c in talk]
    try:
        return ENV.from_string(source).render(
            messages=messages, tools=None, documents=None, add_generation_prompt=True,
            bos_token="<BOS>", eos_token="<EOS>",
        )
    except Exception:
        return None


def main():
    cases = []
    for source in OWN:
        cases.append({"source": source, "expect": [render(source, t) for t in TALKS]})
    for name in FILES:
        path = os.path.join(sys.argv[1], name + ".jinja")
        source = open(path, encoding="utf-8", newline="").read()
        cases.append({"file": name + ".jinja", "expect": [render(source, t) for t in TALKS]})
    json.dump({"talks": TALKS, "cases": cases}, sys.stdout, ensure_ascii=False, indent=0)
    print()


main()
