/*
 * Steps of a nightly: child runs of this very program, one log each, and a journal from which an
 * interrupted night goes on.
 *
 *	<run>/journal.jsonl	{"key":…} of the whole night, then a line per step that ended with a
 *				result: {"step","key","exit","ms"}; last {"end":exit}
 *	<run>/logs/NN-STEP.log	its command and all that it printed
 *
 * A step is taken from the journal when name and key (arguments and builds) are the same, its exit
 * status is a result that a second try would not change, and every step before it was taken too.
 */
#ifndef ASSAY_NIGHTLY_STEPS_H
#define ASSAY_NIGHTLY_STEPS_H

#include "err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum { NIGHTLY_STEPS_MAX = 256, NIGHTLY_ARGS_MAX = 64, NIGHTLY_PATH_MAX = 2048 };

enum nightly_part {		/* in the order of the night; also which failure is told first */
	NIGHTLY_PROVISION, NIGHTLY_SWEEP, NIGHTLY_EXPLAIN, NIGHTLY_BENCH, NIGHTLY_GATE,
	NIGHTLY_BASELINES, NIGHTLY_PUBLISH, NIGHTLY_PARTS,
};

enum nightly_state {
	NIGHTLY_PASSED,
	NIGHTLY_FAILED,
	NIGHTLY_NOTED,   /* told, and no failure: no baseline of this kind of host yet, … */
	NIGHTLY_NOT_RUN, /* what it stands on failed, or there was nothing to do */
};

struct nightly_step {
	enum nightly_part part;
	char name[96];		/* "sweep tiny-llama" */
	enum nightly_state state;
	int exit;		/* of the child; −1 when none ran */
	long ms;
	bool resumed;		/* taken from the journal */
	char note[256];
	char log[NIGHTLY_PATH_MAX];
};

struct nightly_steps {
	char run[NIGHTLY_PATH_MAX];	/* the night's folder */
	char self[NIGHTLY_PATH_MAX];
	const char *build;
	json_t *journal;		/* array of lines read back */
	bool fresh;			/* a step ran: what follows runs too */
	struct nightly_step steps[NIGHTLY_STEPS_MAX];
	int n;
};

const char *nightly_part_name(enum nightly_part p);
const char *nightly_state_name(enum nightly_state s);

/* Opens or makes the folder; key is of the whole night. */
int nightly_steps_open(struct nightly_steps *s, const char *run, const char *key, const char *build,
		       struct err *e);
/* The night in this folder is not at its end and has this key. */
bool nightly_steps_unfinished(const char *run, const char *key);

/*
 * Runs a step (args: after the program's name, NULL at the end) or takes it from the journal. out:
 * file for its standard output, NULL = into the log only. The step's exit is what the child said;
 * its state is PASSED for 0, else FAILED; callers refine. EXIT_INTERRUPTED ends the night.
 */
int nightly_step_run(struct nightly_steps *s, enum nightly_part part, const char *what,
		     const char *const *args, const char *out, struct nightly_step **step,
		     struct err *e);
/* A step that is not run, with the reason. */
struct nightly_step *nightly_step_note(struct nightly_steps *s, enum nightly_part part,
				       const char *what, enum nightly_state state, const char *why);

/* The first part that failed; NIGHTLY_PARTS when none did. *exit: its worst (first) exit status. */
enum nightly_part nightly_failed_part(const struct nightly_steps *s, int *exit);

int nightly_steps_end(struct nightly_steps *s, int exit, struct err *e);
void nightly_steps_free(struct nightly_steps *s);	/* accepts zeroed */

#endif
