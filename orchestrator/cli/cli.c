#include "cli.h"

#include "suggest.h"
#include "term.h"
#include "version.h"

#include "provision/store.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_BYTES_MAX = 64 << 10 };

struct value {
	const char *values[CLI_LIST_MAX];
	int n;
};

struct cli {
	const struct command *command;
	const char *invoked_as;
	int n_opts;
	const struct opt *opts[128];
	struct value *values;	/* [n_opts] */
	const char *positional[CLI_POSITIONAL_MAX];
	int n_positional;
	char *config;		/* text of the config file, cut into strings */
};

const struct opt common_opts[] = {
	{"help", OPT_FLAG, NULL, "show this help", NULL, NULL, NULL, 'h'},
	{"format", OPT_STR, "FORM", "form of the result", "text", NULL, "text|json", 0},
	{"verbose", OPT_FLAG, NULL, "say more on standard error", NULL, NULL, NULL, 'v'},
	{"quiet", OPT_FLAG, NULL, "no progress on standard error", NULL, NULL, NULL, 'q'},
	{"no-color", OPT_FLAG, NULL, "plain output", NULL, "NO_COLOR", NULL, 0},
	{"events", OPT_STR, "jsonl", "progress as JSON lines on standard error", NULL, NULL,
	 "jsonl", 0},
	{"config", OPT_STR, "FILE", "defaults as lines `option = value`", NULL, "ASSAY_CONFIG",
	 NULL, 0},
	{0},
};

static int opt_index(const struct cli *c, const char *name, size_t n)
{
	for (int i = 0; i < c->n_opts; i++)
		if (strlen(c->opts[i]->name) == n && memcmp(c->opts[i]->name, name, n) == 0)
			return i;
	return -1;
}

static const struct value *value_of(const struct cli *c, const char *name)
{
	int i = opt_index(c, name, strlen(name));

	assert(i >= 0);	/* a command asks only for options of its own table */
	return &c->values[i];
}

const char *cli_str(const struct cli *c, const char *name)
{
	const struct value *v = value_of(c, name);

	return v->n ? v->values[v->n - 1] : NULL;
}

bool cli_flag(const struct cli *c, const char *name)
{
	const char *s = cli_str(c, name);

	return s && *s && strcmp(s, "0") != 0 && strcmp(s, "false") != 0;
}

int64_t cli_int(const struct cli *c, const char *name)
{
	const char *s = cli_str(c, name);

	return s ? strtoll(s, NULL, 10) : 0;
}

double cli_real(const struct cli *c, const char *name)
{
	const char *s = cli_str(c, name);

	return s ? strtod(s, NULL) : 0;
}

int cli_list(const struct cli *c, const char *name, const char *const **values)
{
	const struct value *v = value_of(c, name);

	*values = v->values;
	return v->n;
}

bool cli_given(const struct cli *c, const char *name)
{
	const struct value *v = value_of(c, name);
	const struct opt *o = c->opts[opt_index(c, name, strlen(name))];

	return v->n > 0 && !(o->def && v->values[v->n - 1] == o->def);
}

int cli_positional(const struct cli *c, const char *const **values)
{
	*values = c->positional;
	return c->n_positional;
}

bool cli_json(const struct cli *c)
{
	const char *s = cli_str(c, "format");

	return s && strcmp(s, "json") == 0;
}

const char *cli_invoked_as(const struct cli *c)
{
	return c->invoked_as;
}

static bool in_choices(const char *choices, const char *value)
{
	size_t n = strlen(value);

	for (const char *p = choices; *p;) {
		size_t len = strcspn(p, "|");

		if (len == n && memcmp(p, value, n) == 0)
			return true;
		p += len + (p[len] == '|');
	}
	return false;
}

static int check_value(const struct opt *o, const char *value, const char *origin, struct err *e)
{
	char *end = NULL;

	errno = 0;
	if (o->kind == OPT_INT)
		(void)strtoll(value, &end, 10);
	else if (o->kind == OPT_REAL)
		(void)strtod(value, &end);
	if ((end && (*end || end == value)) || errno == ERANGE)
		return err_set(e, EXIT_USAGE, "--%s%s: expected %s, got \"%s\"", o->name, origin,
			       o->kind == OPT_INT ? "an integer" : "a number", value);
	if (o->choices && !in_choices(o->choices, value))
		return err_set(e, EXIT_USAGE, "--%s%s: expected one of %s, got \"%s\"", o->name,
			       origin, o->choices, value);
	return 0;
}

static int add_value(struct cli *c, int i, const char *value, const char *origin, struct err *e)
{
	struct value *v = &c->values[i];
	int r = check_value(c->opts[i], value, origin, e);

	if (r < 0)
		return r;
	if (c->opts[i]->kind != OPT_LIST)
		v->n = 0;
	if (v->n == CLI_LIST_MAX)
		return err_set(e, EXIT_USAGE, "--%s is given more than %d times", c->opts[i]->name,
			       CLI_LIST_MAX);
	v->values[v->n++] = value;
	return 0;
}

static int unknown_option(const struct cli *c, const char *arg, struct err *e)
{
	const char *names[128];
	const char *best;

	for (int i = 0; i < c->n_opts; i++)
		names[i] = c->opts[i]->name;
	best = suggest(arg + strspn(arg, "-"), names, c->n_opts);
	if (best)
		return err_set(e, EXIT_USAGE, "unknown option %s; did you mean --%s?", arg,
			       best);
	return err_set(e, EXIT_USAGE, "unknown option %s; see `assay %s --help`", arg, c->invoked_as);
}

static int parse_long(struct cli *c, int argc, char **argv, int *at, struct err *e)
{
	const char *arg = argv[*at] + 2;
	size_t n = strcspn(arg, "=");
	int i = opt_index(c, arg, n);

	if (i < 0)
		return unknown_option(c, argv[*at], e);
	if (c->opts[i]->kind == OPT_FLAG) {
		if (arg[n])
			return err_set(e, EXIT_USAGE, "--%s takes no value", c->opts[i]->name);
		return add_value(c, i, "1", "", e);
	}
	if (arg[n])
		return add_value(c, i, arg + n + 1, "", e);
	if (*at + 1 >= argc)
		return err_set(e, EXIT_USAGE, "--%s needs a value: --%s %s", c->opts[i]->name,
			       c->opts[i]->name, c->opts[i]->arg);
	return add_value(c, i, argv[++*at], "", e);
}

static int parse_short(struct cli *c, int argc, char **argv, int *at, struct err *e)
{
	const char *arg = argv[*at];

	for (int i = 0; i < c->n_opts; i++) {
		if (c->opts[i]->letter != arg[1])
			continue;
		if (c->opts[i]->kind == OPT_FLAG && !arg[2])
			return add_value(c, i, "1", "", e);
		if (c->opts[i]->kind == OPT_FLAG)
			break;
		if (arg[2])
			return add_value(c, i, arg + 2, "", e);
		if (*at + 1 >= argc)
			return err_set(e, EXIT_USAGE, "-%c needs a value", arg[1]);
		return add_value(c, i, argv[++*at], "", e);
	}
	return unknown_option(c, arg, e);
}

static int parse_args(struct cli *c, int argc, char **argv, struct err *e)
{
	bool only_positional = false;

	for (int i = 0; i < argc; i++) {
		const char *arg = argv[i];
		int r = 0;

		if (!only_positional && strcmp(arg, "--") == 0) {
			only_positional = true;
		} else if (!only_positional && strncmp(arg, "--", 2) == 0) {
			r = parse_long(c, argc, argv, &i, e);
		} else if (!only_positional && arg[0] == '-' && arg[1]) {
			r = parse_short(c, argc, argv, &i, e);
		} else {
			if (!c->command->positional)
				return err_set(
					e, EXIT_USAGE,
					"%s takes no argument, got \"%s\"; see `assay %s --help`",
					c->invoked_as, arg, c->invoked_as);
			if (c->n_positional == CLI_POSITIONAL_MAX)
				return err_set(e, EXIT_USAGE, "more than %d arguments",
					       CLI_POSITIONAL_MAX);
			c->positional[c->n_positional++] = arg;
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static char *trim(char *s)
{
	char *end;

	s += strspn(s, " \t\r");
	end = s + strlen(s);
	while (end > s && strchr(" \t\r", end[-1]))
		*--end = '\0';
	return s;
}

/* Lines "option = value"; a line with an option of another command is for that command. */
static int parse_config(struct cli *c, const char *path, bool *set, struct err *e)
{
	FILE *f = fopen(path, "re");
	char origin[300];
	size_t n;

	if (!f)
		return err_set(e, EXIT_USAGE, "config file %s: %s", path, strerror(errno));
	c->config = calloc(1, CONFIG_BYTES_MAX + 1);
	assert(c->config);
	n = fread(c->config, 1, CONFIG_BYTES_MAX, f);
	fclose(f);
	c->config[n] = '\0';
	int line_number = 0;
	for (char *line = c->config, *next; line; line = next) {
		char *eq;
		int i, r;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		line_number++;
		line = trim(line);
		if (!*line || *line == '#')
			continue;
		eq = strchr(line, '=');
		if (!eq)
			return err_set(e, EXIT_USAGE,
				       "%s:%d: expected `option = value`, got \"%s\"", path,
				       line_number, line);
		*eq = '\0';
		line = trim(line);
		i = opt_index(c, line, strlen(line));
		if (i < 0 || set[i])
			continue;
		snprintf(origin, sizeof(origin), " (%.200s:%d)", path, line_number);
		r = add_value(c, i, trim(eq + 1), origin, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int fill_rest(struct cli *c, struct err *e)
{
	bool set[128] = {false};
	const char *config;
	int r;

	for (int i = 0; i < c->n_opts; i++) {
		const char *v = c->opts[i]->env ? getenv(c->opts[i]->env) : NULL;

		if (!c->values[i].n && v && *v) {
			char origin[100];

			snprintf(origin, sizeof(origin), " (from %.60s)", c->opts[i]->env);
			r = add_value(c, i, v, origin, e);
			if (r < 0)
				return r;
		}
		set[i] = c->values[i].n > 0;
	}
	config = cli_str(c, "config");
	if (config) {
		r = parse_config(c, config, set, e);
		if (r < 0)
			return r;
	}
	for (int i = 0; i < c->n_opts; i++)
		if (!c->values[i].n && c->opts[i]->def)
			c->values[i].values[c->values[i].n++] = c->opts[i]->def;
	return 0;
}

static const struct command *find_command(const char *name)
{
	size_t n = strlen(name);

	for (int i = 0; commands[i]; i++) {
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
		for (const char *p = commands[i]->aliases; p && *p;) {
			size_t len = strcspn(p, " ");

			if (len == n && memcmp(p, name, n) == 0)
				return commands[i];
			p += len + (p[len] == ' ');
		}
	}
	return NULL;
}

static int unknown_command(const char *name)
{
	const char *names[128];
	const char *best;
	int n = 0;

	while (commands[n] && n < 128) {
		names[n] = commands[n]->name;
		n++;
	}
	best = suggest(name, names, n);
	if (best)
		fprintf(stderr, "assay: unknown command \"%s\"; did you mean %s?\n", name, best);
	else
		fprintf(stderr, "assay: unknown command \"%s\"; see `assay --help`\n", name);
	return EXIT_USAGE;
}

/* Before the command there is --help and --version alone. */
static int unknown_first(const char *arg)
{
	static const char *const names[] = {"help", "version"};
	const char *best = suggest(arg + strspn(arg, "-"), names, 2);

	if (arg[0] != '-')
		return unknown_command(arg);
	if (best)
		fprintf(stderr, "assay: unknown option %s; did you mean --%s?\n", arg, best);
	else
		fprintf(stderr, "assay: unknown option %s; options come after the command, see "
			"`assay --help`\n", arg);
	return EXIT_USAGE;
}

static int version(int argc, char **argv)
{
	const char *form = argc > 2 ? argv[2] : "--format=text";

	if (argc == 4 && strcmp(form, "--format") == 0)
		form = argv[3];
	else if (argc <= 3 && strncmp(form, "--format=", 9) == 0)
		form += 9;
	if (strcmp(form, "json") == 0 || strcmp(form, "text") == 0)
		return version_print(strcmp(form, "json") == 0);
	fprintf(stderr, "assay: after --version: expected --format text|json, got \"%s\"\n", form);
	return EXIT_USAGE;
}

static void print_error(const struct cli *c, const struct err *e)
{
	fprintf(stderr, "assay %s: %s\n", c->invoked_as, e->msg);
}

/* Files of the cache that a command works with are not deleted under it; freed with the process. */
static void hold_models(const struct cli *c)
{
	static const char *const names[] = {"model", "reference-model", "tokenizer"};

	for (size_t k = 0; k < sizeof(names) / sizeof(*names); k++) {
		int i = opt_index(c, names[k], strlen(names[k]));

		for (int v = 0; i >= 0 && v < c->values[i].n; v++)
			(void)store_lease(c->values[i].values[v]);
	}
	for (int i = 0; i < c->n_positional; i++)
		(void)store_lease(c->positional[i]);
}

/* References are looked up far below the commands, and by the commands that these run. */
static void pass_on(const struct cli *c)
{
	static const char name[] = "allow-bad-reference";

	if (opt_index(c, name, strlen(name)) >= 0 && cli_flag(c, name))
		setenv("ASSAY_ALLOW_BAD_REFERENCE", "1", 1);
}

static int run(struct cli *c, int argc, char **argv)
{
	struct err e = ERR_NONE;
	int r = parse_args(c, argc, argv, &e);

	if (r == 0 && cli_flag(c, "help")) {
		cli_help(c->command);
		return EXIT_AGREE;
	}
	if (r == 0)
		r = fill_rest(c, &e);
	if (r == 0) {
		term_setup(cli_flag(c, "no-color"), cli_flag(c, "quiet"), cli_flag(c, "verbose"),
			   cli_str(c, "events") != NULL);
		hold_models(c);
		pass_on(c);
		r = c->command->run(c, &e);
	}
	if (r < 0) {
		term_clear();
		print_error(c, &e);
		r = -r;
	}
	return r;
}

static int dispatch(int argc, char **argv)
{
	struct cli c = {0};
	int r;

	if (argc < 2) {
		cli_help_all();
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    (strcmp(argv[1], "help") == 0 && argc == 2)) {
		cli_help_all();
		return EXIT_AGREE;
	}
	if (strcmp(argv[1], "--version") == 0)
		return version(argc, argv);
	if (strcmp(argv[1], "help") == 0) {
		c.command = find_command(argv[2]);
		if (!c.command)
			return unknown_command(argv[2]);
		cli_help(c.command);
		return EXIT_AGREE;
	}
	c.command = find_command(argv[1]);
	if (!c.command)
		return unknown_first(argv[1]);
	c.invoked_as = argv[1];
	for (const struct opt *o = c.command->opts; o && o->name; o++)
		c.opts[c.n_opts++] = o;
	for (const struct opt *o = common_opts; o->name; o++)
		if (opt_index(&c, o->name, strlen(o->name)) < 0) /* a command may refine one */
			c.opts[c.n_opts++] = o;
	assert(c.n_opts < 128);
	c.values = calloc((size_t)c.n_opts, sizeof(*c.values));
	assert(c.values);
	r = run(&c, argc - 2, argv + 2);
	free(c.values);
	free(c.config);
	return r;
}

int cli_main(int argc, char **argv)
{
	int r = dispatch(argc, argv);

	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "assay%s%s: writing standard output failed: %s\n",
			argc > 1 ? " " : "", argc > 1 ? argv[1] : "", strerror(errno));
		if (r == 0)
			r = EXIT_INTERNAL;
	}
	return r;
}
