#include "crossval_report.h"

#include "gguf.h"
#include "report/canonical.h"
#include "sweep/client.h"
#include "sweep/facts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

bool crossval_report_allowed(void)
{
	const char *v = getenv("CROSSVAL_ALLOW_CPP_FAIL");

	return v && *v && strcmp(v, "0") != 0 && strcmp(v, "false") != 0;
}

void crossval_report_note(struct crossval_report *r, const char *what, const char *why)
{
	size_t n = strlen(r->notes);

	snprintf(r->notes + n, sizeof(r->notes) - n, "%s%s: %s", n ? "; " : "", what, why);
}

int crossval_report_validate(struct crossval_report *r, const char *model, struct err *e)
{
	struct gguf g = {0};
	int rc = gguf_open(&g, model, e);

	r->model = model;
	if (rc < 0) {
		char why[1500];

		crossval_report_note(r, "own validation failed", e->msg);
		snprintf(why, sizeof(why), "%.1499s", e->msg);
		return err_set(e, EXIT_MODEL_LOAD, "%s%s", why,
			       strstr(why, "fetch-models") ? "" :
							     "; `assay fetch-models` provides "
							     "verified models");
	}
	r->native_ok = true;
	r->gguf_version = g.version;
	r->n_kv = g.n_kv;
	r->n_tensors = g.n_tensors;
	r->data_offset = g.data_offset;
	r->file_size = g.size;
	gguf_close(&g);
	return 0;
}

static int open_model(struct client *c, const char *model, bool vocab_only, struct err *e)
{
	struct wire_builder b = {0};
	int rc;

	wire_begin(&b, WIRE_OPEN);
	wire_put(&b, "model", "%s", model);
	wire_put(&b, "vocab_only", "%d", vocab_only);
	rc = wire_finish(&b, e);
	if (rc == 0)
		rc = client_call(c, &b, NULL, NULL, e);
	wire_builder_free(&b);
	return rc;
}

int crossval_report_preflight(struct crossval_report *r, const char *reference, struct err *e)
{
	struct client_options o = {.engine = reference};
	struct client *c = NULL;
	const char *what = "reference cannot start";
	int rc = client_open(&c, &o, e);

	if (rc == 0) {
		what = "reference header preflight failed";
		rc = open_model(c, r->model, true, e);
		r->cpp_header_ok = rc == 0;
	}
	if (rc == 0) {
		what = "reference full load failed";
		rc = open_model(c, r->model, false, e);
		r->cpp_full_ok = rc == 0;
	}
	client_close(c);
	if (rc == 0)
		return 0;
	crossval_report_note(r, what, e->msg);
	if (!crossval_report_allowed())
		return rc;
	r->xfail = true;
	crossval_report_note(r, "allowed", "CROSSVAL_ALLOW_CPP_FAIL is set");
	return 0;
}

int crossval_report_write(const struct crossval_report *r, const char *path, struct err *e)
{
	json_t *o = json_object();
	struct utsname u;
	char now[32], platform[160] = "unknown", *text;
	int rc;

	if (uname(&u) == 0)
		snprintf(platform, sizeof(platform), "linux-%s", u.machine);
	facts_time(now);
	canonical_set(o, "model", canonical_text(r->model));
	canonical_set(o, "native_ok", json_boolean(r->native_ok));
	canonical_set(o, "rust_ok", json_boolean(r->native_ok));	/* its name of old */
	canonical_set(o, "cpp_header_ok", json_boolean(r->cpp_header_ok));
	canonical_set(o, "cpp_full_ok", json_boolean(r->cpp_full_ok));
	canonical_set(o, "xfail", json_boolean(r->xfail));
	canonical_set(o, "notes", canonical_text(r->notes));
	canonical_set(o, "timestamp", canonical_text(now));
	canonical_set(o, "platform", canonical_text(platform));
	canonical_set(o, "gguf_version_detected", json_integer(r->gguf_version));
	canonical_set(o, "n_kv", json_integer((json_int_t)r->n_kv));
	canonical_set(o, "n_tensors", json_integer((json_int_t)r->n_tensors));
	canonical_set(o, "data_offset", json_integer((json_int_t)r->data_offset));
	canonical_set(o, "file_size", json_integer((json_int_t)r->file_size));
	text = canonical_indented(o);
	json_decref(o);
	rc = facts_write(path, text, e);
	free(text);
	return rc;
}
