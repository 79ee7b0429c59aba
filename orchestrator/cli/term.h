/*
 * What people see on standard error: one live line on a terminal, plain lines in CI, JSON lines
 * for programs. Standard output is never touched. The only file-scope state besides signal flags.
 */
#ifndef ASSAY_TERM_H
#define ASSAY_TERM_H

#include <stdbool.h>

void term_setup(bool no_color, bool quiet, bool verbose, bool events);

/* Replaces the live line (terminal), or prints a plain line at most every few seconds (else). */
void term_progress(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A line that stays. */
void term_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void term_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Only with --verbose. */
void term_detail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* One event: json is an object's text; written only with --events jsonl. */
void term_event(const char *json);
/* Removes the live line. */
void term_clear(void);

bool term_events(void);
bool term_quiet(void);
bool term_is_tty(void);		/* standard error is a terminal and colour is allowed */

#endif
