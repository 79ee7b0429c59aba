/*
 * One program run to its end: output line by line as it comes, its own process group, a deadline,
 * and Ctrl-C that ends the whole group. Used for compilers, CMake, command-line git and our own
 * hidden commands. Blocks; runs a loop of its own.
 *
 * When this program is killed, the group's leader is told to die with it (the hidden command
 * __exec arms that), and keep_fd tells the next one to wait for what is left of the group.
 */
#ifndef ASSAY_PROCESS_H
#define ASSAY_PROCESS_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>

/* One line of standard output or error, without its newline; lines over 8 KiB come in parts. */
typedef void process_line_fn(void *ctx, const char *line, bool from_stderr);

struct process_options {
	const char *const *argv;	/* NULL at the end; argv[0] is looked up in PATH */
	const char *const *env;		/* "K=V", NULL at the end; NULL = ours */
	const char *cwd;		/* or NULL */
	const char *input;		/* given on standard input, or NULL for none */
	long deadline_ms;		/* 0 = none */
	int keep_fd;			/* handed down as descriptor 3 when > 0 */
	int log_fd;			/* everything printed is also written here when > 0 */
	bool die_with_us;		/* through __exec */
	process_line_fn *line;
	void *ctx;
};

struct process_result {
	int status;		/* exit status; −1 when a signal ended it */
	int signal;		/* 0, or the signal */
	bool timed_out;
	long run_ms;
};

/*
 * 0 when the program ran, whatever it answered; EXIT_INTERNAL when it could not be started (e
 * names it), EXIT_INTERRUPTED after SIGINT or SIGTERM.
 */
int process_run(const struct process_options *o, struct process_result *out, struct err *e);

/* The whole output as text (caller frees), for short programs. */
int process_capture(const char *const *argv, char **text, struct process_result *out,
		    struct err *e);

/* Finds a program in PATH: absolute path into out. False when it is not there. */
bool process_which(const char *name, char *out, size_t size);

/* This program's own executable. */
int process_self(char *out, size_t size, struct err *e);

#endif
