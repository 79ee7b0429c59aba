/*
 * What a night found as one sealed record, and its way into the folder of published nights.
 *
 *	<history>/<date>-<commit>/nightly.json		the record, kind "nightly", content_sha256
 *	<history>/<date>-<commit>/LABEL/…		receipts, summaries, bench, baseline of each model
 *	<history>/index.html				the trend page (written by `report --history`)
 *
 * A folder appears by rename, whole. result_sha256 in the record is over what was found and not over
 * when or how fast within the noise; the same result is not published twice for one day and commit.
 */
#ifndef ASSAY_NIGHTLY_PUBLISH_H
#define ASSAY_NIGHTLY_PUBLISH_H

#include "nightly_steps.h"

struct nightly_facts {
	const char *date;		/* YYYY-MM-DD */
	const char *commit;		/* of the tree the night is about, or the build id */
	const char *version, *build;
	const char *const *labels;	/* [n_models], folders of the run */
	int n_models;
};

/* The record from what lies in the run's folder; caller decrefs. */
json_t *nightly_record(const struct nightly_steps *s, const struct nightly_facts *f);

json_t *nightly_steps_json(const struct nightly_steps *s);

/*
 * Copies the run into <dir>, or <dir>.2 … where something else lies there. *already: this very
 * result lies there; dir_out names it. EXIT_NO_SPACE, EXIT_INTERNAL.
 */
int nightly_publish(const struct nightly_steps *s, json_t *record, const char *dir,
		    char dir_out[NIGHTLY_PATH_MAX], bool *already, struct err *e);

#endif
