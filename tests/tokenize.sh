#!/usr/bin/env bash
# The command `assay tokenize` as a person meets it.
set -u
A=$B/assay V=../shared/vocab
check() { # what, got, want
	if [ "$2" = "$3" ]; then echo "ok - $1"; else
		echo "not ok - $1"
		printf '# got  %s\n# want %s\n' "$2" "$3"
		failed=1
	fi
}
failed=0
check "no vocabulary is a usage error" \
	"$($A tokenize -q x 2>&1; echo $?)" \
	"assay tokenize: a vocabulary is needed: --model FILE.gguf or --tokenizer FILE (GGUF or tokenizer.json)
64"
if [ ! -f $V/ggml-vocab-llama-bpe.gguf ]; then
	echo "skip - tokenize with real vocabularies # no ../shared/vocab here"
	exit $failed
fi
L=$V/ggml-vocab-llama-bpe.gguf
check "ids, offsets and pieces" "$($A tokenize -q -m $L 'Hi wörld'$'\n\xff')" \
	$'128000\t0\t<|begin_of_text|>\n13347\t0\tHi\n289\t2\t w\n9603\t4\tör\n509\t7\tld\n198\t9\t\\n\n5809\t10\t�'
check "text from standard input" "$(printf 'Hi' | $A tokenize -q -m $L --ids --no-bos)" "13347"
printf 'Hi' >$B/tokenize.txt
check "text from a file" "$($A tokenize -q -m $L --ids --file $B/tokenize.txt)" "128000,13347"
check "special tokens as text" "$($A tokenize -q -m $L --ids --no-bos '<|eot_id|>')" "27,91,68,354,851,91,29"
check "special tokens parsed" "$($A tokenize -q -m $L --ids --no-bos --parse-special '<|eot_id|>')" "128009"
check "a template's rules" "$($A tokenize -q -m $L --ids --prompt-template llama3-chat Hi)" \
	"128000,128006,882,128007,271,13347,128009,128006,78191,128007,271"
check "a system prompt" "$($A tokenize -q -m $L --ids --prompt-template instruct --system-prompt S Hi)" \
	"128000,2374,25,328,271,48,25,21694,198,32,25"
check "unknown template: exit 4" "$($A tokenize -q -m $L --prompt-template x Hi 2>&1; echo $?)" \
	'assay tokenize: unknown template "x"; known: raw, instruct, llama3-chat, bitnet-chat, chatml, auto
4'
check "an override" "$($A tokenize -q -m $L --ids --override-kv tokenizer.ggml.pre=str:gpt-2 --no-bos '1234')" \
	"717,1958"
check "JSON" "$($A tokenize -q -m $L --format json 'é' | tr -d ' ' | grep -o '"ids":.*"parse_special":false')" \
	'"ids":[128000,978],"n_tokens":2,"parse_special":false'
check "two texts: exit 64" "$($A tokenize -q -m $L a --text b >/dev/null 2>&1; echo $?)" "64"
check "no model: exit 10" "$($A tokenize -q -m $B/nowhere.gguf a >/dev/null 2>&1; echo $?)" "10"
exit $failed
