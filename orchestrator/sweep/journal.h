/*
 * What a run has finished, one JSON line each, on disk before the next job starts. The first line
 * names the run: a journal of another run is refused.
 */
#ifndef ASSAY_JOURNAL_H
#define ASSAY_JOURNAL_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>

enum { JOURNAL_LINE_MAX = 4096, JOURNAL_IDENTITY_MAX = 2048 };

struct journal {
	int fd;			/* −1: none */
	char **done;		/* [n_done] ids found by journal_open */
	int n_done;
};

/*
 * Begins <out>/journal.jsonl anew, or with resume reads it and goes on behind its last whole line.
 * identity: what must be the same for the receipts to belong together. EXIT_USAGE when it is not,
 * and while another run has the journal open.
 */
int journal_open(struct journal *j, const char *out, const char *identity, bool resume,
		 struct err *e);
bool journal_has(const struct journal *j, const char *id);
int journal_add(struct journal *j, const char *id, const char *verdict, int exit_code,
		struct err *e);
void journal_close(struct journal *j);	/* accepts {.fd = −1} */

#endif
