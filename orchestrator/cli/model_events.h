/* Transfers on standard error: a line for people, lines in CI, JSON lines for programs. */
#ifndef ASSAY_MODEL_EVENTS_H
#define ASSAY_MODEL_EVENTS_H

#include "provision/fetch.h"

enum { MODEL_EVENTS_LINES = 8 };

struct model_events {
	struct model_line {
		char id[80], text[160];
		bool live;
		uint64_t said_ms; /* last plain line or event */
	} lines[MODEL_EVENTS_LINES];
	bool single; /* only one file is fetched */
	struct {
		char id[80];
		int64_t total; /* bytes; -1 not known */
		uint64_t said_ms;
	} hashed;
};

void model_events_init(struct model_events *m);
fetch_event_fn model_events_show;    /* ctx: struct model_events */

/* What the next calls of model_events_hashing are about. */
void model_events_hashes(struct model_events *m, const char *id, int64_t total);
digest_step_fn model_events_hashing; /* says every few seconds how far it is */

#endif
