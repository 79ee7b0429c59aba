#include "cli.h"

#include <stdio.h>
#include <string.h>

static void print_opt(const struct opt *o)
{
	char left[64];
	int n;

	if (o->letter)
		n = snprintf(left, sizeof(left), "-%c, --%s", o->letter, o->name);
	else
		n = snprintf(left, sizeof(left), "    --%s", o->name);
	if (o->kind != OPT_FLAG && n > 0 && (size_t)n < sizeof(left))
		snprintf(left + n, sizeof(left) - (size_t)n, " %s", o->arg ? o->arg : "VALUE");
	printf("  %-30s %s", left, o->help);
	if (o->choices)
		printf(" (%s)", o->choices);
	if (o->def)
		printf(" [%s]", o->def);
	if (o->env)
		printf(" {%s}", o->env);
	if (o->kind == OPT_LIST)
		printf(" (may repeat)");
	putchar('\n');
}

static void print_examples(const char *examples)
{
	printf("Examples:\n");
	for (const char *p = examples; *p;) {
		size_t n = strcspn(p, "\n");

		printf("  %.*s\n", (int)n, p);
		p += n + (p[n] == '\n');
	}
	putchar('\n');
}

static bool refined(const struct command *c, const char *name)
{
	for (const struct opt *o = c->opts; o && o->name; o++)
		if (strcmp(o->name, name) == 0)
			return true;
	return false;
}

void cli_help(const struct command *c)
{
	printf("assay %s - %s\n\n", c->name, c->summary);
	if (c->examples)
		print_examples(c->examples);
	printf("Usage: assay %s [options]%s%s\n", c->name, c->positional ? " " : "",
	       c->positional ? c->positional : "");
	if (c->aliases)
		printf("Also known as: %s\n", c->aliases);
	printf("\nOptions:\n");
	for (const struct opt *o = c->opts; o && o->name; o++)
		print_opt(o);
	for (const struct opt *o = common_opts; o->name; o++)
		if (!refined(c, o->name))
			print_opt(o);
	if (c->details)
		printf("\n%s", c->details);
}

/* What a newcomer needs first stands first; a command's group is one of these. */
static const char *const groups[] = {"Comparing", "Models",    "Provisioning", "Receipts",
				     "Speed",     "Reporting", "Engines",      "House"};

void cli_help_all(void)
{
	printf("assay - proves an LLM inference engine against its reference\n\n"
	       "Usage: assay COMMAND [options]\n"
	       "       assay help COMMAND\n"
	       "       assay --version [--format json]\n");
	for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
		printf("\n%s\n", groups[g]);
		for (int i = 0; commands[i]; i++)
			if (strcmp(commands[i]->group, groups[g]) == 0)
				printf("  %-20s %s\n", commands[i]->name, commands[i]->summary);
	}
	printf("\nExit codes: 0 agree, 1 diverged, 2 tokens differ, 3 no reference, 4 template,\n"
	       "5 reference build, 6 worker died, 7 nothing ran, 10 model load, 11 authentication,\n"
	       "12 rate limited, 13 hash, 14 network, 15 model invalid, 16 inference, 17 regression,\n"
	       "18 no space, 20 receipt invalid, 64 usage, 70 internal, 130 interrupted.\n");
}
