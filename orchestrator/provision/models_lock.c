#include "models_lock.h"

#include "provision/embed.h"
#include "provision/json_line.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct reader {
	const char *text, *name;
	int index; /* the entry being read, -1 outside of one */
	struct err *e;
};

static int refuse(const struct reader *r, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(const struct reader *r, const char *key, const char *fmt, ...)
{
	char path[200], why[ERR_MSG_MAX / 2];
	va_list ap;

	if (r->index >= 0)
		snprintf(path, sizeof(path), "models/%d%s%s", r->index, *key ? "/" : "", key);
	else
		snprintf(path, sizeof(path), "%s", key);
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return err_set(r->e, EXIT_USAGE, "%s:%d: %s: %s", r->name, json_line_of(r->text, path),
		       *path ? path : "lockfile", why);
}

/* ---- what a field may look like; NULL when it is fine, else why not ---------------------- */

static bool only(const char *s, const char *extra)
{
	for (; *s; s++)
		if (!(*s >= 'a' && *s <= 'z') && !(*s >= '0' && *s <= '9') && !strchr(extra, *s))
			return false;
	return true;
}

#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

static const char *bad_id(const char *s)
{
	if (!*s || strlen(s) > 64 || !only(s, "._-") || *s == '.')
		return "expected 1 to 64 of a-z 0-9 . _ -, not starting with a dot";
	return NULL;
}

static const char *bad_tier(const char *s)
{
	return strcmp(s, "ci-light") && strcmp(s, "integration")
		   ? "expected \"ci-light\" or \"integration\""
		   : NULL;
}

static const char *bad_path(const char *s)
{
	if (!*s || strlen(s) > 255 || *s == '/')
		return "expected a relative path of 1 to 255 bytes";
	for (const char *p = s; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f || strchr("\\?#%\"", *p))
			return "a path must not contain control characters, \\ ? # % or quotes";
	for (const char *p = s;; p++) {
		size_t n = strcspn(p, "/");

		if (n == 0 || (n == 1 && *p == '.') || (n == 2 && memcmp(p, "..", 2) == 0))
			return "a path must not leave its folder or have empty parts";
		p += n;
		if (!*p)
			return NULL;
	}
}

static const char *bad_repository(const char *s)
{
	const char *slash = strchr(s, '/');

	if (!slash || strchr(slash + 1, '/') || !only(s, UPPER "._-/") || bad_path(s))
		return "expected \"owner/name\"";
	return NULL;
}

static const char *bad_revision(const char *s)
{
	return strlen(s) != 40 || strspn(s, "0123456789abcdef") != 40
		   ? "expected 40 lower-case hex digits"
		   : NULL;
}

static const char *bad_mirror(const char *s)
{
	const char *host = strstr(s, "://");

	if (strncmp(s, "http://", 7) && strncmp(s, "https://", 8) && strncmp(s, "hf://", 5))
		return "expected an URL that starts with https://, http:// or hf://";
	if (strlen(s) > 2000 || strpbrk(s, " \t\r\n\"<>\\^`{|}") || !host[3] || host[3] == '/')
		return "not a well-formed URL";
	for (const char *p = s; *p; p++)
		if ((unsigned char)*p < 0x21 || (unsigned char)*p > 0x7e)
			return "not a well-formed URL";
	if (*s != 'h' || s[1] != 'f') {
		size_t n = strcspn(host + 3, "/?#");

		if (memchr(host + 3, '@', n))
			return "credentials do not belong into a lockfile";
	} else if (!strchr(host + 3, '/') || !strchr(strchr(host + 3, '/') + 1, '/')) {
		return "expected hf://owner/name/file or hf://owner/name@revision/file";
	}
	if (strstr(host + 3, "/../") || strstr(host + 3, "/./"))
		return "a path must not leave its folder";
	return NULL;
}

static const char *bad_text(const char *s)
{
	return !*s || strlen(s) > 200 ? "expected 1 to 200 bytes" : NULL;
}

/* ---- one entry --------------------------------------------------------------------------- */

static int get_string(const struct reader *r, json_t *o, const char *key, bool needed,
		      const char *(*bad)(const char *), const char **out)
{
	json_t *v = json_object_get(o, key);
	const char *why;

	if (!v && needed)
		return refuse(r, "", "\"%s\" is missing", key);
	if (!v)
		return 0;
	if (!json_is_string(v))
		return refuse(r, key, "expected a string");
	why = bad(json_string_value(v));
	if (why)
		return refuse(r, key, "%s, got \"%.200s\"", why, json_string_value(v));
	*out = json_string_value(v);
	return 0;
}

static int get_size(const struct reader *r, json_t *o, struct lock_model *m)
{
	json_t *v = json_object_get(o, "size");

	m->size = -1;
	if (!v)
		return 0;
	if (!json_is_integer(v))
		return refuse(r, "size", "expected an integer of bytes");
	if (json_integer_value(v) <= 0 || json_integer_value(v) > (json_int_t)1 << 42)
		return refuse(r, "size", "expected 1 byte to 4 TiB, got %lld",
			      (long long)json_integer_value(v));
	m->size = json_integer_value(v);
	return 0;
}

static int get_sha256(const struct reader *r, json_t *v, const char *key, uint8_t out[DIGEST_BYTES])
{
	if (!json_is_string(v) || !digest_parse(json_string_value(v), out))
		return refuse(r, key, "expected 64 lower-case hex digits, got %s%.80s%s",
			      json_is_string(v) ? "\"" : "",
			      json_is_string(v) ? json_string_value(v) : "another type",
			      json_is_string(v) ? "\"" : "");
	return 0;
}

static int get_chunks(const struct reader *r, json_t *o, struct lock_model *m)
{
	json_t *v = json_object_get(o, "chunk_sha256");
	int64_t want;

	if (!v)
		return 0;
	if (!json_is_array(v))
		return refuse(r, "chunk_sha256", "expected an array");
	if (m->size < 0)
		return refuse(r, "chunk_sha256", "needs \"size\" beside it");
	want = (m->size + MODELS_LOCK_CHUNK_BYTES - 1) / MODELS_LOCK_CHUNK_BYTES;
	if ((int64_t)json_array_size(v) != want)
		return refuse(r, "chunk_sha256", "expected %lld hashes for %lld bytes, got %zu",
			      (long long)want, (long long)m->size, json_array_size(v));
	m->chunks = calloc((size_t)want, sizeof(*m->chunks));
	assert(m->chunks);
	m->n_chunks = (int)want;
	for (int i = 0; i < m->n_chunks; i++) {
		char key[40];
		int rc;

		snprintf(key, sizeof(key), "chunk_sha256/%d", i);
		rc = get_sha256(r, json_array_get(v, (size_t)i), key, m->chunks[i]);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int get_mirrors(const struct reader *r, json_t *o, struct lock_model *m)
{
	json_t *v = json_object_get(o, "mirrors");

	if (!v)
		return 0;
	if (!json_is_array(v) || json_array_size(v) > MODELS_LOCK_MIRRORS_MAX)
		return refuse(r, "mirrors", "expected an array of at most %d URLs",
			      MODELS_LOCK_MIRRORS_MAX);
	for (size_t i = 0; i < json_array_size(v); i++) {
		const char *url = json_string_value(json_array_get(v, i));
		const char *why = url ? bad_mirror(url) : "expected a string";
		char key[40];

		snprintf(key, sizeof(key), "mirrors/%zu", i);
		if (why)
			return refuse(r, key, "%s, got \"%.200s\"", why,
				      url ? url : "another type");
		for (int k = 0; k < m->n_mirrors; k++)
			if (strcmp(m->mirrors[k], url) == 0)
				return refuse(r, key, "the same mirror twice: \"%.200s\"", url);
		m->mirrors[m->n_mirrors++] = url;
	}
	return 0;
}

static int get_generate(const struct reader *r, json_t *o, struct lock_model *m)
{
	json_t *v = json_object_get(o, "generate"), *seed;
	const char *key;
	json_t *value;

	if (!v)
		return 0;
	if (!json_is_object(v))
		return refuse(r, "generate", "expected an object");
	json_object_foreach(v, key, value)
	{
		if (strcmp(key, "preset") && strcmp(key, "weights") && strcmp(key, "seed"))
			return refuse(r, "generate", "unknown key \"%.60s\"", key);
		if (strcmp(key, "seed") &&
		    (!json_is_string(value) || bad_text(json_string_value(value))))
			return refuse(r, "generate", "\"%s\" must be a string", key);
	}
	m->generate.preset = json_string_value(json_object_get(v, "preset"));
	m->generate.weights = json_string_value(json_object_get(v, "weights"));
	seed = json_object_get(v, "seed");
	if (!m->generate.preset)
		return refuse(r, "generate", "\"preset\" is missing");
	if (!json_is_integer(seed) || json_integer_value(seed) < 0)
		return refuse(r, "generate", "\"seed\" must be an integer from 0");
	m->generate.seed = (uint64_t)json_integer_value(seed);
	return 0;
}

static int check_sources(const struct reader *r, const struct lock_model *m)
{
	if (m->generate.preset && (m->repository || m->n_mirrors))
		return refuse(r, "generate", "a generated model has no repository and no mirrors");
	if (!m->generate.preset && !m->repository && !m->n_mirrors)
		return refuse(r, "", "needs \"repository\", \"mirrors\" or \"generate\"");
	if (m->revision && !m->repository)
		return refuse(r, "revision", "needs \"repository\" beside it");
	return 0;
}

static const char *const keys[] = {"id",      "tier",    "repository", "revision",
				   "file",    "size",    "sha256",     "chunk_sha256",
				   "licence", "mirrors", "tokenizer",  "generate"};

static int read_model(const struct reader *r, json_t *o, struct lock_model *m)
{
	json_t *value;
	const char *key;
	int rc;

	if (!json_is_object(o))
		return refuse(r, "", "expected an object");
	json_object_foreach(o, key, value)
	{
		size_t i = 0;

		while (i < sizeof(keys) / sizeof(keys[0]) && strcmp(key, keys[i]) != 0)
			i++;
		if (i == sizeof(keys) / sizeof(keys[0]))
			return refuse(r, key, "unknown key");
	}
	if ((rc = get_string(r, o, "id", true, bad_id, &m->id)) < 0 ||
	    (rc = get_string(r, o, "tier", true, bad_tier, &m->tier)) < 0 ||
	    (rc = get_string(r, o, "repository", false, bad_repository, &m->repository)) < 0 ||
	    (rc = get_string(r, o, "revision", false, bad_revision, &m->revision)) < 0 ||
	    (rc = get_string(r, o, "file", true, bad_path, &m->file)) < 0 ||
	    (rc = get_string(r, o, "licence", true, bad_text, &m->licence)) < 0 ||
	    (rc = get_string(r, o, "tokenizer", false, bad_id, &m->tokenizer)) < 0 ||
	    (rc = get_size(r, o, m)) < 0)
		return rc;
	if (!json_object_get(o, "sha256"))
		return refuse(r, "", "\"sha256\" is missing");
	if ((rc = get_sha256(r, json_object_get(o, "sha256"), "sha256", m->sha256)) < 0 ||
	    (rc = get_chunks(r, o, m)) < 0 || (rc = get_mirrors(r, o, m)) < 0 ||
	    (rc = get_generate(r, o, m)) < 0)
		return rc;
	digest_hex(m->sha256, m->sha256_hex);
	return check_sources(r, m);
}

/* ---- the file ---------------------------------------------------------------------------- */

static int check_pairs(struct reader *r, const struct models_lock *l)
{
	for (int i = 0; i < l->n; i++) {
		const struct lock_model *m = &l->models[i];

		r->index = i;
		for (int k = 0; k < i; k++) {
			if (strcmp(l->models[k].id, m->id) == 0)
				return refuse(r, "id", "\"%s\" is there twice", m->id);
			if (memcmp(l->models[k].sha256, m->sha256, DIGEST_BYTES) == 0)
				return refuse(r, "sha256", "the same file as \"%s\"",
					      l->models[k].id);
		}
		if (m->tokenizer &&
		    (!models_lock_find(l, m->tokenizer) || strcmp(m->tokenizer, m->id) == 0))
			return refuse(r, "tokenizer", "no other entry has the id \"%s\"",
				      m->tokenizer);
	}
	r->index = -1;
	return 0;
}

static int read_all(struct reader *r, struct models_lock *l)
{
	json_t *doc = l->doc, *models = json_object_get(doc, "models"), *value;
	json_t *version = json_object_get(doc, "schema_version");
	const char *key;

	if (!json_is_object(doc))
		return refuse(r, "", "expected an object");
	if (!json_is_integer(version) || json_integer_value(version) != MODELS_LOCK_SCHEMA)
		return refuse(r, "schema_version", "expected %d: this program reads no other",
			      MODELS_LOCK_SCHEMA);
	json_object_foreach(doc, key,
			    value) if (strcmp(key, "schema_version") &&
				       strcmp(key, "models")) return refuse(r, key, "unknown key");
	if (!json_is_array(models) || json_array_size(models) > MODELS_LOCK_MODELS_MAX)
		return refuse(r, "models", "expected an array of at most %d entries",
			      MODELS_LOCK_MODELS_MAX);
	l->models = calloc(json_array_size(models) + 1, sizeof(*l->models));
	assert(l->models);
	for (; l->n < (int)json_array_size(models); l->n++) {
		int rc;

		r->index = l->n;
		rc = read_model(r, json_array_get(models, (size_t)l->n), &l->models[l->n]);
		if (rc < 0) {
			l->n++;
			return rc;
		}
	}
	return check_pairs(r, l);
}

int models_lock_parse(struct models_lock *l, const char *text, const char *name, struct err *e)
{
	struct reader r = {text, name, -1, e};
	struct models_lock found = {0};
	json_error_t at;
	int rc;

	found.doc = json_loads(text, JSON_REJECT_DUPLICATES, &at);
	if (!found.doc)
		return err_set(e, EXIT_USAGE, "%s:%d: not valid JSON: %s", name, at.line, at.text);
	rc = read_all(&r, &found);
	if (rc < 0)
		models_lock_free(&found);
	else
		*l = found;
	return rc;
}

static char *read_file(const char *path, struct err *e)
{
	FILE *f = fopen(path, "re");
	char *text = f ? calloc(1, MODELS_LOCK_BYTES_MAX + 1) : NULL;
	size_t n;

	if (!f) {
		err_set(e, EXIT_USAGE, "opening the lockfile %s: %s", path, strerror(errno));
		return NULL;
	}
	assert(text);
	n = fread(text, 1, MODELS_LOCK_BYTES_MAX + 1, f);
	if (ferror(f) || n > MODELS_LOCK_BYTES_MAX || strlen(text) != n) {
		err_set(e, EXIT_USAGE, "%s: %s", path,
			ferror(f)                   ? "cannot be read"
			: n > MODELS_LOCK_BYTES_MAX ? "longer than 4 MiB"
						    : "contains a NUL");
		free(text);
		text = NULL;
	}
	fclose(f);
	return text;
}

int models_lock_open(struct models_lock *l, const char *path, struct err *e)
{
	size_t bytes;
	char *text;
	int r;

	if (!path)
		return models_lock_parse(l, (const char *)embed_find(MODELS_LOCK_PATH, &bytes),
					 MODELS_LOCK_PATH " (built in)", e);
	text = read_file(path, e);
	if (!text)
		return -EXIT_USAGE;
	r = models_lock_parse(l, text, path, e);
	free(text);
	return r;
}

void models_lock_free(struct models_lock *l)
{
	for (int i = 0; i < l->n; i++)
		free(l->models[i].chunks);
	free(l->models);
	json_decref(l->doc);
	*l = (struct models_lock){0};
}

const struct lock_model *models_lock_find(const struct models_lock *l, const char *id)
{
	for (int i = 0; i < l->n; i++)
		if (strcmp(l->models[i].id, id) == 0)
			return &l->models[i];
	return NULL;
}

/* ---- writing ----------------------------------------------------------------------------- */

static void put_string(json_t *o, const char *key, const char *s)
{
	if (s)
		json_object_set_new(o, key, json_string(s));
}

static json_t *to_json(const struct lock_model *m)
{
	json_t *o = json_object(), *mirrors = json_array(), *chunks = json_array();

	put_string(o, "id", m->id);
	put_string(o, "tier", m->tier);
	put_string(o, "repository", m->repository);
	put_string(o, "revision", m->revision);
	put_string(o, "file", m->file);
	if (m->size >= 0)
		json_object_set_new(o, "size", json_integer(m->size));
	put_string(o, "sha256", m->sha256_hex);
	for (int i = 0; i < m->n_chunks; i++) {
		char hex[DIGEST_HEX];

		digest_hex(m->chunks[i], hex);
		json_array_append_new(chunks, json_string(hex));
	}
	if (m->n_chunks)
		json_object_set(o, "chunk_sha256", chunks);
	put_string(o, "licence", m->licence);
	for (int i = 0; i < m->n_mirrors; i++)
		json_array_append_new(mirrors, json_string(m->mirrors[i]));
	if (m->n_mirrors)
		json_object_set(o, "mirrors", mirrors);
	put_string(o, "tokenizer", m->tokenizer);
	json_decref(mirrors);
	json_decref(chunks);
	return o;
}

static int write_new(const char *path, const char *text, struct err *e)
{
	char temporary[4096];
	FILE *f;
	bool written;

	snprintf(temporary, sizeof(temporary), "%s.new", path);
	f = fopen(temporary, "we");
	written = f && fputs(text, f) >= 0 && fputc('\n', f) == '\n' && fflush(f) == 0 &&
		  fsync(fileno(f)) == 0;
	if (f && fclose(f) != 0)
		written = false;
	if (written && rename(temporary, path) == 0)
		return 0;
	err_set(e, EXIT_INTERNAL, "writing %s: %s", path, strerror(errno));
	unlink(temporary);
	return -EXIT_INTERNAL;
}

int models_lock_add(const char *path, const struct lock_model *m, struct err *e)
{
	struct models_lock old = {0}, check = {0};
	char *text = NULL;
	int r = 0;

	if (access(path, F_OK) == 0)
		r = models_lock_open(&old, path, e);
	else
		r = models_lock_parse(&old, "{\"schema_version\": 1, \"models\": []}", path, e);
	if (r < 0)
		return r;
	json_array_append_new(json_object_get(old.doc, "models"), to_json(m));
	text = json_dumps(old.doc, JSON_INDENT(2));
	assert(text);
	r = models_lock_parse(&check, text, path, e);
	if (r == 0)
		r = write_new(path, text, e);
	free(text);
	models_lock_free(&old);
	models_lock_free(&check);
	return r;
}
