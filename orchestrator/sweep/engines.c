#include "engines.h"

#include "provision/reference.h"
#include "recorded.h"

#include <assert.h>
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool engine_is_own(const char *engine)
{
	return strcmp(engine, "native") == 0 || strcmp(engine, "oracle") == 0;
}

bool engine_is_reference(const char *engine)
{
	return !engine_is_own(engine) && strncmp(engine, "exec:", 5) != 0 &&
	       strncmp(engine, "recorded:", 9) != 0;
}

static void add_arg(struct engine_command *c, int *n, size_t *at, const char *text)
{
	size_t bytes = strlen(text) + 1;

	assert(*n < CHILD_ARGS_MAX && *at + bytes <= sizeof(c->text));
	c->argv[(*n)++] = memcpy(c->text + *at, text, bytes);
	*at += bytes;
	c->argv[*n] = NULL;
}

static int own_worker(char out[PATH_MAX], struct err *e)
{
	/* the last two are where test programs lie below the build's folder */
	static const char *const beside[] = {"", "../libexec/assay/", "../", "../../"};
	const char *given = getenv("ASSAY_WORKER");
	char self[PATH_MAX];
	ssize_t n;
	char *slash;

	if (given) {
		if (access(given, X_OK) != 0)
			return err_set(e, EXIT_USAGE, "ASSAY_WORKER=%s cannot be run", given);
		snprintf(out, PATH_MAX, "%s", given);
		return 0;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		return err_set(e, EXIT_INTERNAL, "cannot tell where this program lies");
	self[n] = '\0';
	slash = strrchr(self, '/');
	*slash = '\0';
	for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++) {
		snprintf(out, PATH_MAX, "%.4000s/%sassay-worker", self, beside[i]);
		if (access(out, X_OK) == 0)
			return 0;
	}
	return err_set(
	    e, EXIT_INTERNAL,
	    "assay-worker was not found beside this program; set ASSAY_WORKER to its path");
}

static int find_reference(struct reference *r, const char *engine, struct err *e)
{
	char name[REFERENCE_NAME_MAX];
	bool speed = reference_is_speed(engine, name);

	return reference_find(r, name, speed, false, e);
}

void engine_profile(const char *engine, char *out, size_t size)
{
	struct reference r;
	struct err ignored = ERR_NONE;

	out[0] = '\0';
	if (strncmp(engine, "recorded:", 9) == 0)
		recorded_profile(engine + 9, out, size);
	if (engine_is_reference(engine) && find_reference(&r, engine, &ignored) == 0)
		snprintf(out, size, "%s", r.profile);
}

/* The program that ASSAY_WORKER_<NAME> names, or NULL; variable: its name. */
static const char *given_worker(const char *name, char *variable, size_t size)
{
	size_t n = (size_t)snprintf(variable, size, "ASSAY_WORKER_");
	const char *given;

	for (const char *p = name; *p && n + 1 < size; p++)
		variable[n++] = isalnum((unsigned char)*p) ? (char)toupper((unsigned char)*p) : '_';
	variable[n] = '\0';
	given = getenv(variable);
	return given && *given ? given : NULL;
}

char *engine_identity(const char *engine)
{
	struct err ignored = ERR_NONE;
	char variable[128];
	struct reference r;
	char *text = NULL;

	if (!engine_is_reference(engine))
		return NULL;
	if (given_worker(engine, variable, sizeof(variable)))
		return strdup("commit=\nbuild_key=\nself_check=not run\n");
	if (find_reference(&r, engine, &ignored) == 0 &&
	    asprintf(&text,
		     "commit=%s\ntree=%s\nbuild_key=%s\nself_check=%s\nprofile=%s\ncompiler=%s\n"
		     "cpu_features=%s\npinned=%d\nflags=%s\n",
		     r.commit, r.tree, r.key, r.self_check, r.profile, r.compiler, r.cpu_features,
		     r.pinned, r.speed ? "speed" : "parity") < 0)
		text = NULL;
	return text;
}

static int reference_worker(const char *name, char out[PATH_MAX], struct err *e)
{
	char variable[128];
	const char *given = given_worker(name, variable, sizeof(variable));
	struct reference r;
	int status;

	if (given && *given) {
		if (access(given, X_OK) != 0)
			return err_set(e, EXIT_NO_REFERENCE, "%s=%s cannot be run", variable,
				       given);
		snprintf(out, PATH_MAX, "%s", given);
		return 0;
	}
	status = find_reference(&r, name, e);
	if (status == 0)
		snprintf(out, PATH_MAX, "%s", r.worker);
	return status;
}

/* This program itself, as its hidden command. */
static int recorded_command(struct engine_command *out, const char *file, struct err *e)
{
	char self[PATH_MAX];
	int n = 0;
	size_t at = 0;
	ssize_t got = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (got < 0)
		return err_set(e, EXIT_INTERNAL, "cannot tell where this program lies");
	self[got] = '\0';
	if (!*file || access(file, R_OK) != 0)
		return err_set(
			e, EXIT_NO_REFERENCE,
			"recorded:%s cannot be read; `assay record --out FILE.tar.zst` makes a "
			"recording",
			file);
	add_arg(out, &n, &at, self);
	add_arg(out, &n, &at, "__recorded");
	add_arg(out, &n, &at, file);
	return 0;
}

int engine_command(struct engine_command *out, const char *engine, struct err *e)
{
	char path[PATH_MAX];
	int n = 0, r;
	size_t at = 0;

	if (!*engine || strlen(engine) >= ENGINE_NAME_MAX)
		return err_set(e, EXIT_USAGE, "an engine's name has 1 to %d characters",
			       ENGINE_NAME_MAX - 1);
	if (strncmp(engine, "exec:", 5) == 0) {
		if (!engine[5])
			return err_set(e, EXIT_USAGE,
				       "exec: needs a command, as in exec:./my-engine");
		add_arg(out, &n, &at, "/bin/sh");
		add_arg(out, &n, &at, "-c");
		add_arg(out, &n, &at, engine + 5);
		return 0;
	}
	if (strncmp(engine, "recorded:", 9) == 0)
		return recorded_command(out, engine + 9, e);
	r = engine_is_own(engine) ? own_worker(path, e) : reference_worker(engine, path, e);
	if (r < 0)
		return r;
	add_arg(out, &n, &at, path);
	if (engine_is_own(engine)) {
		add_arg(out, &n, &at, "--engine");
		add_arg(out, &n, &at, engine);
	}
	return 0;
}

bool engine_hello_fault(const struct wire_frame *f, char *out, size_t size)
{
	char text[32] = "";
	int64_t protocol = wire_get_int(f, "protocol", -1);
	bool there = wire_get(f, "protocol", 0, text, sizeof(text));
	size_t n = strcspn(text, "\r");

	out[0] = '\0';
	if (f->type != WIRE_HELLO)
		snprintf(out, size, "said %s where HELLO was expected", wire_type_name(f->type));
	else if (!there)
		snprintf(out, size, "HELLO has no protocol=, expected protocol=%d", WIRE_PROTOCOL);
	else if (text[n])
		snprintf(out, size, "header lines end in \\r\\n, expected \\n alone");
	else if (protocol != WIRE_PROTOCOL)
		snprintf(out, size, "speaks protocol %.31s, this program speaks %d", text,
			 WIRE_PROTOCOL);
	return *out;
}

enum exit_code engine_fail_code(int64_t code)
{
	static const enum exit_code of_engines[] = {
		EXIT_NO_REFERENCE, EXIT_TEMPLATE, EXIT_WORKER, EXIT_MODEL_LOAD, EXIT_HASH_MISMATCH,
		EXIT_MODEL_INVALID, EXIT_INFERENCE, EXIT_NO_SPACE, EXIT_USAGE, EXIT_INTERNAL,
	};

	for (size_t i = 0; i < sizeof(of_engines) / sizeof(of_engines[0]); i++)
		if (of_engines[i] == code)
			return of_engines[i];
	return EXIT_INFERENCE;
}
