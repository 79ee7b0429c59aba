#include "reference_locked.h"

#include "digest_git.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *part, *what;
	bool of_own_build;
} parts[] = {
	{"options", "the CMake options", false},
	{"patches", "the patches", false},
	{"files", "the generated files", false},
	{"submodules", "the submodules", false},
	{"target", "the build target", false},
	{"claims", "what it is said to compute", true},
};

static void finish(json_t *o, const char *part, struct digest_key *k)
{
	char hex[65];

	digest_key_finish(k, hex);
	json_object_set_new(o, part, json_string(hex));
}

static void lines(json_t *o, const char *part, const char *const *a, int n_a, const char *const *b,
		  int n_b)
{
	struct digest_key *k = digest_key_new();

	for (int i = 0; i < n_a; i++)
		digest_key_text(k, a[i]);
	for (int i = 0; i < n_b; i++)
		digest_key_text(k, b[i]);
	finish(o, part, k);
}

json_t *reference_locked(const struct lock_entry *x, bool speed)
{
	const char *const target[] = {x->target, x->library, x->include, x->cpu_features};
	json_t *o = json_object();
	struct digest_key *k;

	if (!o)
		return NULL;
	lines(o, "options", x->options, x->n_options, speed ? x->speed : x->parity,
	      speed ? x->n_speed : x->n_parity);
	lines(o, "target", target, 4, NULL, 0);
	lines(o, "claims", x->capabilities, x->n_capabilities, &x->canary, 1);
	k = digest_key_new();
	for (int i = 0; i < x->n_patches; i++) {
		digest_key_text(k, x->patches[i].sha256);
		digest_key_text(k, x->patches[i].from);
		digest_key_text(k, x->patches[i].until);
	}
	finish(o, "patches", k);
	k = digest_key_new();
	for (int i = 0; i < x->n_files; i++) {
		digest_key_text(k, x->files[i].path);
		digest_key_text(k, x->files[i].copy_of);
		digest_key_text(k, x->files[i].text);
	}
	finish(o, "files", k);
	k = digest_key_new();
	for (int i = 0; i < x->n_submodules; i++) {
		digest_key_text(k, x->submodules[i].path);
		digest_key_text(k, x->submodules[i].commit);
	}
	finish(o, "submodules", k);
	return o;
}

bool reference_locked_changed(const json_t *manifest, const struct lock_entry *x, bool speed,
			      char *what, size_t size)
{
	json_t *then = json_object_get(manifest, "locked"), *now = reference_locked(x, speed);
	bool own = json_is_true(json_object_get(manifest, "own_build"));
	size_t n = 0;

	what[0] = '\0';
	for (size_t i = 0; then && i < sizeof(parts) / sizeof(parts[0]); i++) {
		if ((own && !parts[i].of_own_build) || n >= size ||
		    json_equal(json_object_get(then, parts[i].part),
			       json_object_get(now, parts[i].part)))
			continue;
		n += (size_t)snprintf(what + n, size - n, "%s%s", n ? ", " : "", parts[i].what);
	}
	json_decref(now);
	return n > 0;
}
