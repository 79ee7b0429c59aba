#include "reference_show.h"

#include "term.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static void event(json_t *o)
{
	char *text = json_dumps(o, JSON_COMPACT);

	term_event(text);
	free(text);
	json_decref(o);
}

static void on_clone(void *ctx, const struct clone_progress *p)
{
	(void)ctx;
	if (term_events()) {
		event(json_pack("{s:s s:s s:I s:I s:I s:I s:I s:I s:I}", "event", "clone", "what",
				p->what, "objects", (json_int_t)p->objects, "objects_total",
				(json_int_t)p->objects_total, "bytes", (json_int_t)p->bytes,
				"indexed", (json_int_t)p->indexed, "deltas", (json_int_t)p->deltas,
				"deltas_total", (json_int_t)p->deltas_total, "files",
				(json_int_t)p->files));
		return;
	}
	if (p->files)
		term_progress("%s: %llu files written", p->what, (unsigned long long)p->files);
	else
		term_progress("%s: %llu of %llu objects, %.1f MB, %llu of %llu deltas", p->what,
			      (unsigned long long)p->objects, (unsigned long long)p->objects_total,
			      (double)p->bytes / 1e6, (unsigned long long)p->deltas,
			      (unsigned long long)p->deltas_total);
}

static void on_build(void *ctx, const struct build_progress *p)
{
	(void)ctx;
	if (term_events())
		event(json_pack("{s:s s:s s:i s:i}", "event", "build", "what", p->what, "done",
				p->done, "total", p->total));
	else if (p->total)
		term_progress("%s: %d of %d", p->what, p->done, p->total);
	else
		term_progress("%s", p->what);
}

static void on_note(void *ctx, const char *line)
{
	(void)ctx;
	if (term_events())
		event(json_pack("{s:s s:s}", "event", "note", "text", line));
	else
		term_note("%s", line);
}

void reference_show_setup(struct reference_build_options *o)
{
	o->source.progress = on_clone;
	o->source.note = on_note;
	o->build_progress = on_build;
}

static void show_json(const struct reference *r, const struct reference_build_result *b)
{
	json_t *o = json_pack(
		"{s:s s:s s:s s:s s:s s:b s:s s:s s:s s:s s:s s:b s:b s:b s:b s:I s:I s:I s:I s:I s:s}",
		"name", r->name, "state", reference_state_name(r->state), "key", r->key, "commit",
		r->commit, "tree", r->tree, "pinned", r->pinned, "worker", r->worker, "profile",
		r->profile, "compiler", r->compiler, "self_check", r->self_check, "capabilities",
		r->capabilities, "already", b->already, "cloned", b->source_fresh, "built",
		b->libs_fresh, "checked", b->checked, "clone_ms", (json_int_t)b->clone_ms,
		"configure_ms", (json_int_t)b->configure_ms, "compile_ms",
		(json_int_t)b->compile_ms, "check_ms", (json_int_t)b->check_ms, "total_ms",
		(json_int_t)b->total_ms, "note", r->why);
	char *text = json_dumps(o, JSON_INDENT(2) | JSON_SORT_KEYS);

	puts(text);
	free(text);
	json_decref(o);
}

void reference_show_result(const struct reference_build_options *o,
			   const struct reference_build_result *b, bool json)
{
	const struct reference *r = &b->reference;

	if (o->explain) {
		fputs(b->explain, stdout);
		return;
	}
	if (json) {
		show_json(r, b);
		return;
	}
	printf("%s (%s): %s%s\n", r->name, r->speed ? "speed" : "parity",
	       reference_state_name(r->state), b->already ? ", nothing to do" : "");
	printf("  commit    %s%s\n", r->commit[0] ? r->commit : "unknown",
	       r->pinned ? "" : "  NOT the pinned commit");
	printf("  key       %.16s\n  compiler  %s\n  profile   %s\n", r->key, r->compiler,
	       r->profile[0] ? r->profile : "none of native's: bits are not compared");
	printf("  checked   %s: %s\n", r->self_check, r->capabilities);
	printf("  worker    %s\n", r->worker);
	if (!b->already)
		printf("  took      %.1f s (clone %.1f, configure %.1f, compile %.1f, self-check %.1f)\n",
		       (double)b->total_ms / 1e3, b->source_fresh ? (double)b->clone_ms / 1e3 : 0.0,
		       b->libs_fresh ? (double)b->configure_ms / 1e3 : 0.0,
		       b->libs_fresh ? (double)b->compile_ms / 1e3 : 0.0,
		       (double)b->check_ms / 1e3);
}
