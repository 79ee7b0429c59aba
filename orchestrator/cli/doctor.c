#include "cli.h"
#include "provision/build_log.h"
#include "provision/doctor.h"
#include "reference_show.h"
#include "term.h"
#include "version.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct opt opts[] = {
	{"backend", OPT_STR, "NAME", "only whether this reference is ready: exit 0, or 3", NULL,
	 NULL, NULL, 0},
	{"require-cpp", OPT_FLAG, NULL, "exit 3 when no C++ reference is ready", NULL, NULL, NULL,
	 0},
	{"repair", OPT_STR, "WHEN", "build what is missing; auto: yes, but never in CI", "never",
	 NULL, "auto|never|always", 0},
	{"explain", OPT_STR, "NAME", "why this reference would be built again", NULL, NULL, NULL,
	 0},
	{"symptoms", OPT_FLAG, NULL,
	 "the page of known build failures and their cures, as Markdown", NULL, NULL, NULL, 0},
	{"fast", OPT_FLAG, NULL, "do not try the compilers", NULL, NULL, NULL, 0},
	{0},
};

static void print_symptoms(void)
{
	puts("# References: symptoms and cures\n\n"
	     "Printed by `assay doctor --symptoms` from the table in\n"
	     "`orchestrator/provision/build_signatures.c`, which also puts these cures under a failed\n"
	     "build. Of several that fit the first is shown.");
	for (const struct build_signature *s = build_signatures; s->id; s++)
		printf("\n## %s\n\n- **You see** %s\n- **It is** %s\n- **Do** %s\n", s->id,
		       s->symptom, s->cause, s->cure);
}

static void print_text(const struct doctor *d)
{
	const char *section = "";

	for (int i = 0; i < d->n; i++) {
		const struct doctor_row *r = &d->rows[i];

		if (strcmp(section, r->section) != 0)
			printf("%s%s\n", i ? "\n" : "", r->section);
		section = r->section;
		printf("  %-8s %-22s ", doctor_mark_name(r->mark), r->item);
		for (const char *p = r->detail; *p; p++) {
			putchar(*p);
			if (*p == '\n')
				printf("%34s", "");
		}
		putchar('\n');
	}
}

static void print_json(const struct doctor *d)
{
	json_t *list = json_array(), *o;
	char *text;

	for (int i = 0; i < d->n; i++)
		json_array_append_new(list, json_pack("{s:s s:s s:s s:s}", "section",
						      d->rows[i].section, "item", d->rows[i].item,
						      "mark", doctor_mark_name(d->rows[i].mark),
						      "detail", d->rows[i].detail));
	o = json_pack("{s:s s:s s:o}", "version", ASSAY_VERSION, "build", version_build_id(),
		      "rows", list);
	text = json_dumps(o, JSON_INDENT(2));
	puts(text);
	free(text);
	json_decref(o);
}

static bool may_repair(const struct cli *c)
{
	const char *when = cli_str(c, "repair"), *ci = getenv("CI");

	if (strcmp(when, "auto") == 0)
		return !(ci && *ci && strcmp(ci, "false") != 0);
	return strcmp(when, "always") == 0;
}

static int build(const char *engine, bool explain, struct err *e)
{
	char name[REFERENCE_NAME_MAX];
	struct reference_build_options o = {.name = name, .explain = explain};
	struct reference_build_result *out = calloc(1, sizeof(*out));
	int r;

	if (!out)
		abort();
	o.speed = reference_is_speed(engine, name);
	reference_show_setup(&o);
	r = reference_build(&o, out, e);
	term_clear();
	if (r == 0 && explain)
		reference_show_result(&o, out, false);
	free(out);
	return r;
}

static int check_backend(struct cli *c, const char *name, struct err *e)
{
	int r = doctor_backend(name, e);

	if (r == -EXIT_NO_REFERENCE && may_repair(c)) {
		term_note("%s", e->msg);
		r = build(name, false, e);
		if (r == 0)
			r = doctor_backend(name, e);
	}
	if (r < 0)
		return r;
	printf("%s: ready\n", name);
	return EXIT_AGREE;
}

static bool any_ready(const struct doctor *d)
{
	for (int i = 0; i < d->n; i++)
		if (strcmp(d->rows[i].section, "references") == 0 && d->rows[i].mark == DOCTOR_OK &&
		    !strstr(d->rows[i].item, "_CPP_DIR"))
			return true;
	return false;
}

static int run(struct cli *c, struct err *e)
{
	struct doctor_library libraries[VERSION_LIBRARIES];
	struct doctor *d;
	bool ready, bad = false;

	if (cli_flag(c, "symptoms")) {
		print_symptoms();
		return EXIT_AGREE;
	}
	if (cli_str(c, "explain"))
		return build(cli_str(c, "explain"), true, e);
	if (cli_str(c, "backend"))
		return check_backend(c, cli_str(c, "backend"), e);
	for (int i = 0; i < VERSION_LIBRARIES; i++)
		libraries[i].name =
			version_library(i, libraries[i].version, sizeof(libraries[i].version));
	d = calloc(1, sizeof(*d));
	if (!d)
		abort();
	doctor_collect(d, libraries, VERSION_LIBRARIES, cli_flag(c, "fast"));
	if (cli_json(c))
		print_json(d);
	else
		print_text(d);
	ready = any_ready(d);
	for (int i = 0; i < d->n; i++)
		bad = bad || d->rows[i].mark == DOCTOR_BAD;
	free(d);
	if (!ready && !cli_flag(c, "require-cpp"))
		term_note("no C++ reference is ready: comparing goes against the oracle; "
			  "assay setup provides one");
	if (!ready && cli_flag(c, "require-cpp"))
		return err_set(e, EXIT_NO_REFERENCE, "no C++ reference is ready; run: assay setup");
	return bad ? EXIT_REFERENCE_BUILD : EXIT_AGREE;
}

const struct command cmd_doctor = {
	.name = "doctor",
	.aliases = "preflight gpu-preflight check-features",
	.group = "Provisioning",
	.summary = "what this machine has and lacks for comparing",
	.examples = "assay doctor\n"
		    "assay doctor --backend llama --repair auto\n"
		    "assay preflight --require-cpp",
	.opts = opts,
	.run = run,
	.details =
		"Exit codes: 0 fine, 3 a reference is required and not ready, 5 something is there and\n"
		"wrong. Nothing is repaired unless --repair says so, and with auto never in CI.",
};
