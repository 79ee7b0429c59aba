/*
 * One table of commands, one table of options per command; parsing, help, completion and man
 * pages all come from them. A command is parse → call → print; commands never call each other.
 *
 * Flags beat environment beat config file beat defaults. Standard output carries results only.
 */
#ifndef ASSAY_CLI_H
#define ASSAY_CLI_H

#include "err.h"

#include <stdbool.h>
#include <stdint.h>

enum opt_kind { OPT_FLAG, OPT_STR, OPT_INT, OPT_REAL, OPT_LIST /* a string, repeatable */ };

struct opt {
	const char *name;	/* without dashes */
	enum opt_kind kind;
	const char *arg;	/* placeholder in help: "FILE", "N", … */
	const char *help;	/* one line */
	const char *def;	/* default as text, or NULL */
	const char *env;	/* environment variable, or NULL */
	const char *choices;	/* "text|json", or NULL */
	char letter;		/* short form, or 0 */
};

/* Options of every command: --help --format --verbose --quiet --no-color --config --events. */
extern const struct opt common_opts[];

struct cli;

struct command {
	const char *name;
	const char *aliases;	/* "download-model tokenizer", or NULL */
	const char *group;	/* heading in `assay --help` */
	const char *summary;	/* one line */
	const char *positional;	/* "A B", "[PROMPT]", or NULL when there is none */
	const char *examples;	/* printed first in --help; whole lines */
	const struct opt *opts;	/* name NULL at the end */
	int (*run)(struct cli *c, struct err *e); /* exit code ≥ 0, or negative with e set */
	const char *details;	/* paragraphs after the options, or NULL */
};

extern const struct command *const commands[];	/* NULL at the end; commands.c */

enum { CLI_POSITIONAL_MAX = 1024, CLI_LIST_MAX = 256 };

const char *cli_str(const struct cli *c, const char *name);	/* NULL when not given */
bool cli_flag(const struct cli *c, const char *name);
int64_t cli_int(const struct cli *c, const char *name);
double cli_real(const struct cli *c, const char *name);
int cli_list(const struct cli *c, const char *name, const char *const **values);
bool cli_given(const struct cli *c, const char *name);	/* by flag, environment or config */
int cli_positional(const struct cli *c, const char *const **values);
bool cli_json(const struct cli *c);		/* --format json */
const char *cli_invoked_as(const struct cli *c);	/* the command name or alias typed */

/* Parses argv and runs; prints the error once; returns the exit code. */
int cli_main(int argc, char **argv);

/* Help as printed; used by the man page and completion generators too. */
void cli_help(const struct command *c);
void cli_help_all(void);

#endif
