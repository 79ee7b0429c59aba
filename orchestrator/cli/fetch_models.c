#include "cli.h"

#include "cli/model_events.h"
#include "cli/term.h"
#include "provision/models.h"
#include "provision/unpack.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct opt opts[] = {
	{"id", OPT_LIST, "ID", "this entry of the lockfile (repeatable)", NULL, NULL, NULL, 0},
	{"tier", OPT_STR, "TIER", "all entries of a tier", NULL, NULL, "ci-light|integration", 0},
	{"all", OPT_FLAG, NULL, "every entry of the lockfile", NULL, NULL, NULL, 0},
	{"file", OPT_STR, "NAME", "of the selected only the one with this file name",
	 NULL, NULL, NULL, 0},
	{"out", OPT_STR, "PATH", "also place it there (a folder, or a name for a single file)",
	 NULL, NULL, NULL, 'o'},
	{"force", OPT_FLAG, NULL, "let --out replace a different file", NULL, NULL, NULL, 0},
	{"no-tokenizer", OPT_FLAG, NULL, "without the tokenizer that belongs to a model",
	 NULL, NULL, NULL, 0},
	{"verify", OPT_FLAG, NULL, "hash everything anew, even what has a valid stamp",
	 NULL, NULL, NULL, 0},
	{"list", OPT_FLAG, NULL, "show the entries and what is in the cache", NULL, NULL, NULL, 0},
	{"lock", OPT_STR, "FILE", "this lockfile instead of the built-in one",
	 NULL, "ASSAY_MODELS_LOCK", NULL, 0},
	{"lock-check", OPT_FLAG, NULL, "audit the lockfile and stop", NULL, NULL, NULL, 0},
	{"lock-add", OPT_STR, "URL", "fetch URL, trust what comes, write its entry (needs --lock)",
	 NULL, NULL, NULL, 0},
	{"connections", OPT_INT, "N", "connections of all files together, 1 to 32",
	 "8", NULL, NULL, 0},
	{"retries", OPT_INT, "N", "failures in a row before a source is left", "6", NULL, NULL, 0},
	{"stall-timeout", OPT_INT, "S", "reconnect what is silent for so many seconds",
	 "30", NULL, NULL, 0},
	{0},
};

struct run {
	struct cli *c;
	struct models_lock lock;
	struct store store;
	struct hub hub;
	struct fetch_options fetch;
	struct model_events events;
	int n;
	bool *wanted;                   /* [lock.n]; asked for */
	struct models_item *items;      /* [lock.n] */
	struct fetch_request *requests; /* [lock.n] */
	struct fetch_result *results;   /* [lock.n], of items */
	int *request_of;                /* [lock.n], index of the item */
};

static const char *base_name(const char *file)
{
	return strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
}

/* ---- selecting --------------------------------------------------------------------------- */

static int unknown_id(const struct run *r, const char *id, struct err *e)
{
	char known[600] = "";

	for (int i = 0; i < r->lock.n; i++)
		snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s",
			 i ? ", " : "", r->lock.models[i].id);
	return err_set(e, EXIT_USAGE, "no entry \"%s\" in the lockfile; there are: %s", id, known);
}

static int want(struct run *r, const char *id, struct err *e)
{
	const struct lock_model *m = models_lock_find(&r->lock, id);

	if (!m)
		return unknown_id(r, id, e);
	r->wanted[m - r->lock.models] = true;
	return 0;
}

static bool is_tokenizer(const struct run *r, const struct lock_model *m)
{
	for (int i = 0; i < r->lock.n; i++)
		if (r->lock.models[i].tokenizer && strcmp(r->lock.models[i].tokenizer, m->id) == 0)
			return true;
	return false;
}

static int narrow(struct run *r, struct err *e)
{
	const char *file = cli_str(r->c, "file");
	bool tokenizer = strcmp(cli_invoked_as(r->c), "tokenizer") == 0;
	int n = 0;

	for (int i = 0; i < r->lock.n; i++) {
		const struct lock_model *m = &r->lock.models[i];

		if (r->wanted[i] && file && strcmp(m->file, file) &&
		    strcmp(base_name(m->file), file))
			r->wanted[i] = false;
		if (r->wanted[i] && tokenizer && !is_tokenizer(r, m)) {
			r->wanted[i] = false;
			if (m->tokenizer)
				r->wanted[models_lock_find(&r->lock, m->tokenizer) -
					  r->lock.models] = true;
		}
	}
	for (int i = 0; i < r->lock.n; i++)
		n += r->wanted[i];
	return n ? 0 : err_set(e, EXIT_USAGE, "nothing of the lockfile is selected; see --list");
}

/* download-model and tokenizer mean the integration model unless told otherwise. */
static int select_entries(struct run *r, struct err *e)
{
	const char *const *ids, *const *more, *tier = cli_str(r->c, "tier");
	int n = cli_list(r->c, "id", &ids), k = cli_positional(r->c, &more), rc = 0;

	for (int i = 0; i < n && rc == 0; i++)
		rc = want(r, ids[i], e);
	for (int i = 0; i < k && rc == 0; i++)
		rc = want(r, more[i], e);
	for (int i = 0; i < r->lock.n && rc == 0; i++)
		if (cli_flag(r->c, "all") || (tier && strcmp(r->lock.models[i].tier, tier) == 0) ||
		    (!n && !k && !tier && strcmp(r->lock.models[i].tier, "integration") == 0))
			r->wanted[i] = true;
	return rc < 0 ? rc : narrow(r, e);
}

static bool companion(const struct run *r, int i)
{
	if (cli_flag(r->c, "no-tokenizer"))
		return false;
	for (int k = 0; k < r->lock.n; k++)
		if (r->wanted[k] && r->lock.models[k].tokenizer &&
		    strcmp(r->lock.models[k].tokenizer, r->lock.models[i].id) == 0)
			return true;
	return false;
}

/* ---- fetching ---------------------------------------------------------------------------- */

static int prepare(struct run *r, struct err *e)
{
	for (int i = 0; i < r->lock.n; i++) {
		struct models_item *item = &r->items[i];
		int rc;

		if (!r->wanted[i] && !companion(r, i))
			continue;
		model_events_hashes(&r->events, r->lock.models[i].id, r->lock.models[i].size);
		rc = models_prepare(item, &r->store, &r->hub, &r->lock.models[i],
				    cli_flag(r->c, "verify"), model_events_hashing, &r->events, e);
		if (rc < 0)
			return rc;
		if (item->damaged)
			term_warn("%s: the file in the cache was not what the lockfile says; it "
				  "was taken away",
				  item->model->id);
		if (item->how == MODELS_ADOPTED)
			term_note("%s: taken from %s (%s)", item->model->id, item->adopted_from,
				  place_name(item->adopted_by));
		if (item->how == MODELS_REHASHED)
			term_note("%s: its hash is right", item->model->id);
		if (item->how == MODELS_GENERATED)
			term_note("%s: generated", item->model->id);
		if (item->how == MODELS_TO_FETCH) {
			if (r->hub.offline)
				return err_set(
				    e, EXIT_NETWORK,
				    "%s is not in the cache and HF_HUB_OFFLINE forbids to fetch it",
				    item->model->id);
			r->requests[r->n] = item->request;
			r->request_of[r->n++] = i;
		}
	}
	return 0;
}

static int unpack(const struct models_item *item, struct err *e)
{
	char folder[STORE_PATH_MAX];
	struct unpack_result got = {0};
	int rc, lock;

	if (!unpack_is_archive(item->model->file))
		return 0;
	rc = store_path(folder, e, "%s/files", item->request.blob.dir);
	if (rc < 0 || access(folder, F_OK) == 0)
		return rc;
	lock = store_lock_wait(&item->request.blob, e); /* another process may be at it */
	if (lock < 0)
		return lock;
	if (access(folder, F_OK) != 0)
		rc = unpack_file(item->request.blob.path, folder, NULL, &got, e);
	close(lock);
	if (rc == 0 && got.entries)
		term_note("%s: %lld entries, %lld bytes unpacked to %s", item->model->id,
			  (long long)got.entries, (long long)got.bytes, folder);
	return rc;
}

static int target_of(const struct run *r, const struct models_item *item, char to[STORE_PATH_MAX],
		     struct err *e)
{
	const char *out = cli_str(r->c, "out");
	struct stat st;
	bool folder = (stat(out, &st) == 0 && S_ISDIR(st.st_mode)) || out[strlen(out) - 1] == '/';
	int n = 0;

	for (int i = 0; i < r->lock.n; i++)
		n += r->wanted[i];
	if (!folder && n > 1)
		return err_set(e, EXIT_USAGE, "--out %s must be a folder for %d files", out, n);
	if (folder && mkdir(out, 0777) != 0 && errno != EEXIST)
		return err_set(e, EXIT_INTERNAL, "making %s: %s", out, strerror(errno));
	return folder ? store_path(to, e, "%s/%s", out, base_name(item->model->file))
		      : store_path(to, e, "%s", out);
}

static int place(const struct run *r, const struct models_item *item, struct err *e)
{
	char to[STORE_PATH_MAX];
	uint8_t sha256[DIGEST_BYTES];
	struct err ignored = ERR_NONE;
	enum place_how how;
	int rc = target_of(r, item, to, e);

	if (rc < 0)
		return rc;
	if (access(to, F_OK) == 0) {
		if (digest_file(to, sha256, NULL, NULL, &ignored) == 0 &&
		    memcmp(sha256, item->model->sha256, DIGEST_BYTES) == 0)
			return 0;
		if (!cli_flag(r->c, "force"))
			return err_set(e, EXIT_USAGE, "%s is another file; --force replaces it",
				       to);
	}
	rc = place_file(item->request.blob.path, to, &how, e);
	if (rc == 0)
		term_note("%s: placed at %s (%s)", item->model->id, to, place_name(how));
	return rc;
}

/* ---- results ----------------------------------------------------------------------------- */

static json_t *item_json(const struct run *r, int i)
{
	const struct models_item *item = &r->items[i];
	const struct fetch_result *result = &r->results[i];
	json_t *o = json_pack("{ss ss ss ss ss ss sI sI sf}", "id", item->model->id, "tier",
			      item->model->tier, "sha256", item->model->sha256_hex, "status",
			      result->code ? err_code_name(result->code) : "OK", "how",
			      models_how_name(item->how), "path",
			      result->code ? "" : item->request.blob.path, "transferred",
			      (json_int_t)result->transferred, "resumed",
			      (json_int_t)result->resumed, "seconds", result->seconds);

	if (result->code)
		json_object_set_new(o, "error", json_string(result->err.msg));
	return o;
}

static void print_results(const struct run *r, int code)
{
	json_t *all = json_array(), *o;

	for (int i = 0; i < r->lock.n; i++) {
		if (!r->items[i].model)
			continue;
		if (!cli_json(r->c) && r->wanted[i] && !r->results[i].code)
			printf("%s\n", r->items[i].request.blob.path);
		json_array_append_new(all, item_json(r, i));
	}
	o = json_pack("{si ss so}", "exit_code", code, "status", err_code_name(code), "models",
		      all);
	if (cli_json(r->c)) {
		json_dumpf(o, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(o);
}

static void print_failure(const struct run *r, int rc, const struct err *e)
{
	json_t *o = json_pack("{si ss ss s[]}", "exit_code", -rc, "status", err_code_name(-rc),
			      "error", e->msg, "models");

	if (cli_json(r->c) && o) {
		json_dumpf(o, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(o);
}

static int fetch_selected(struct run *r, struct err *e)
{
	struct fetch_result *results;
	int rc = prepare(r, e);

	if (rc < 0) {
		print_failure(r, rc, e);
		return rc;
	}
	results = calloc((size_t)r->n + 1, sizeof(*results));
	assert(results);
	r->events.single = r->n == 1;
	if (r->n)
		rc = fetch_run(r->requests, r->n, &r->fetch, &r->hub, results, e);
	for (int k = 0; k < r->n; k++)
		r->results[r->request_of[k]] = results[k];
	free(results);
	for (int i = 0; i < r->lock.n && rc == 0; i++) {
		if (!r->items[i].model)
			continue;
		rc = unpack(&r->items[i], e);
		if (rc == 0 && cli_given(r->c, "out") && r->wanted[i])
			rc = place(r, &r->items[i], e);
	}
	print_results(r, -rc);
	return rc;
}

/* ---- the lockfile ------------------------------------------------------------------------ */

static const char *megabytes(int64_t bytes, char out[32])
{
	snprintf(out, 32, bytes < 0 ? "?" : "%.1f", (double)bytes / 1e6);
	return out;
}

static int list(const struct run *r, struct err *e)
{
	static const char *const states[] = {"-", "partial", "cached", "unverified"};
	json_t *all = json_array();

	for (int i = 0; i < r->lock.n; i++) {
		const struct lock_model *m = &r->lock.models[i];
		struct store_blob b;
		char mb[32];
		int rc = store_blob(&r->store, m->sha256_hex, m->file, &b, e);

		if (rc < 0) {
			json_decref(all);
			return rc;
		}
		if (!cli_json(r->c))
			printf("%-24s %-12s %10s MB  %-10s %s\n", m->id, m->tier,
			       megabytes(m->size, mb), states[store_state(&b)],
			       m->repository        ? m->repository
			       : m->generate.preset ? "generated"
						    : m->mirrors[0]);
		json_array_append_new(all, json_pack("{ss ss ss sI ss ss}", "id", m->id, "tier",
						     m->tier, "file", m->file, "size",
						     (json_int_t)m->size, "sha256", m->sha256_hex,
						     "state", states[store_state(&b)]));
	}
	if (cli_json(r->c)) {
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(all);
	return 0;
}

static int lock_check(const struct run *r)
{
	int hashed = 0, open_size = 0, open_revision = 0;

	for (int i = 0; i < r->lock.n; i++) {
		const struct lock_model *m = &r->lock.models[i];

		hashed += m->n_chunks > 0;
		open_size += m->size < 0;
		open_revision += m->repository && !m->revision;
		if (m->size < 0)
			term_note("%s: no size: the server's word is taken until the hash decides",
				  m->id);
		if (m->repository && !m->revision)
			term_note("%s: no revision: main is asked, the hash decides", m->id);
	}
	if (cli_json(r->c))
		printf("{\"status\": \"OK\", \"entries\": %d, \"with_chunks\": %d, "
		       "\"without_size\": %d, "
		       "\"without_revision\": %d}\n",
		       r->lock.n, hashed, open_size, open_revision);
	else
		printf("%d entries, all well-formed\n", r->lock.n);
	return EXIT_AGREE;
}

static void default_id(const char *file, char id[65])
{
	size_t n = 0;

	for (const char *p = file; *p && n < 64; p++) {
		char low = *p >= 'A' && *p <= 'Z' ? (char)(*p - 'A' + 'a') : *p;

		if ((low >= 'a' && low <= 'z') || (low >= '0' && low <= '9') || strchr("._-", low))
			id[n++] = low;
	}
	id[n] = '\0';
}

/* .../owner/name/resolve/revision/file of the hub is written as repository, revision and file. */
static void split_hub_url(struct run *r, char *path, struct lock_model *m, const char *commit)
{
	size_t n = strlen(r->hub.endpoint);
	char *resolve = strstr(path, "/resolve/"), *file;

	if (strncmp(path, r->hub.endpoint, n) != 0 || path[n] != '/' || !resolve)
		return;
	file = strchr(resolve + strlen("/resolve/"), '/');
	if (!file)
		return;
	*resolve = '\0';
	m->repository = path + n + 1;
	m->revision = strlen(commit) == 40 ? commit : NULL;
	m->file = file + 1;
	m->n_mirrors = 0;
}

/* What a later repair needs. */
static int hash_chunks(const char *path, struct lock_model *m, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return err_set(e, EXIT_INTERNAL, "%s: %s", path, strerror(errno));
	m->n_chunks = (int)((m->size + MODELS_LOCK_CHUNK_BYTES - 1) / MODELS_LOCK_CHUNK_BYTES);
	m->chunks = calloc((size_t)m->n_chunks, sizeof(*m->chunks));
	assert(m->chunks);
	for (int i = 0; i < m->n_chunks && rc == 0; i++) {
		int64_t from = (int64_t)i * MODELS_LOCK_CHUNK_BYTES;
		int64_t to = from + MODELS_LOCK_CHUNK_BYTES;
		struct digest d;

		digest_init(&d);
		rc = digest_range(&d, fd, from, to < m->size ? to : m->size, path, NULL, NULL, e);
		digest_final(&d, m->chunks[i]);
	}
	close(fd);
	return rc;
}

static int write_entry(struct run *r, const char *url, const struct fetch_result *result,
		       struct err *e)
{
	const char *const *ids, *tier = cli_str(r->c, "tier");
	struct lock_model m = {.tier = tier ? tier : "integration",
			       .licence = "unknown",
			       .size = result->size,
			       .n_mirrors = 1,
			       .mirrors = {url}};
	char path[HUB_URL_MAX], file[256], id[65];
	int rc;

	snprintf(path, sizeof(path), "%.*s", (int)strcspn(url, "?#"), url);
	snprintf(file, sizeof(file), "%.255s", base_name(path));
	m.file = file;
	split_hub_url(r, path, &m, result->commit);
	default_id(base_name(m.file), id);
	m.id = cli_list(r->c, "id", &ids) > 0 ? ids[0] : id;
	memcpy(m.sha256, result->sha256, DIGEST_BYTES);
	digest_hex(result->sha256, m.sha256_hex);
	rc = hash_chunks(result->path, &m, e);
	if (rc == 0)
		rc = models_lock_add(cli_str(r->c, "lock"), &m, e);
	free(m.chunks);
	if (rc == 0)
		printf("%s %s\n", m.sha256_hex, result->path);
	return rc;
}

/* What would be refused when the entry is written is said before a GB is transferred. */
static int check_new_id(const struct run *r, const char *url, struct err *e)
{
	const char *const *ids, *lock = cli_str(r->c, "lock"), *slash = strrchr(lock, '/');
	char path[HUB_URL_MAX], id[65], folder[STORE_PATH_MAX] = ".";

	snprintf(path, sizeof(path), "%.*s", (int)strcspn(url, "?#"), url);
	default_id(base_name(path), id);
	if (cli_list(r->c, "id", &ids) > 0)
		snprintf(id, sizeof(id), "%.64s", ids[0]);
	if (models_lock_find(&r->lock, id))
		return err_set(e, EXIT_USAGE,
			       "%s has an entry \"%s\" already: --id NAME gives another name", lock,
			       id);
	if (slash && store_path(folder, e, "%.*s/", (int)(slash - lock), lock) < 0)
		return -EXIT_USAGE;
	if (access(folder, W_OK) != 0)
		return err_set(e, EXIT_USAGE, "%s cannot be written: %s", lock, strerror(errno));
	return 0;
}

static int lock_add(struct run *r, struct err *e)
{
	const char *url = cli_str(r->c, "lock-add");
	struct fetch_result result = {0};
	struct fetch_request q = {
	    .id = "new entry", .store = &r->store, .size = -1, .n_sources = 1};
	struct digest d;
	uint8_t sha256[DIGEST_BYTES];
	char hex[DIGEST_HEX], *expanded = q.sources[0];
	int rc;

	if (!cli_given(r->c, "lock"))
		return err_set(e, EXIT_USAGE,
			       "--lock-add needs --lock FILE: the built-in lockfile cannot grow");
	if (strncmp(url, "hf://", 5) == 0)
		rc = hub_expand(&r->hub, url, expanded, e);
	else if (strncmp(url, "http://", 7) && strncmp(url, "https://", 8))
		rc = err_set(e, EXIT_USAGE,
			     "--lock-add: expected https://, http:// or hf://, got \"%s\"", url);
	else
		rc = snprintf(expanded, HUB_URL_MAX, "%s", url) < HUB_URL_MAX
			 ? 0
			 : err_set(e, EXIT_USAGE, "--lock-add: the URL is too long");
	if (rc < 0)
		return rc;
	if ((rc = check_new_id(r, expanded, e)) < 0)
		return rc;
	digest_init(&d); /* until its hash is known the part is named by its URL's */
	digest_update(&d, expanded, strlen(expanded));
	digest_final(&d, sha256);
	digest_hex(sha256, hex);
	snprintf(q.meta.file, sizeof(q.meta.file), "%.*s", (int)strcspn(base_name(expanded), "?#"),
		 base_name(expanded));
	snprintf(q.meta.id, sizeof(q.meta.id), "%.70s", q.meta.file);
	rc = store_blob(&r->store, hex, q.meta.file, &q.blob, e);
	if (rc == 0)
		r->events.single = true;
	if (rc == 0)
		rc = fetch_run(&q, 1, &r->fetch, &r->hub, &result, e);
	if (rc < 0)
		return rc;
	rmdir(q.blob.dir);
	if (result.size == 0)
		return err_set(e, EXIT_MODEL_INVALID, "%s is empty: there is nothing to pin",
			       expanded);
	term_warn("trusted on first use: nothing but the server says that %s is what you want; "
		  "compare its SHA-256 with its author's",
		  q.meta.file);
	return write_entry(r, expanded, &result, e);
}

/* ------------------------------------------------------------------------------------------ */

static int set_up(struct run *r, struct err *e)
{
	const char *tune = getenv("ASSAY_FETCH_TUNE");
	int rc;

	fetch_defaults(&r->fetch);
	r->fetch.connections = (int)cli_int(r->c, "connections");
	r->fetch.retries = (int)cli_int(r->c, "retries");
	r->fetch.stall_ms = (int)cli_int(r->c, "stall-timeout") * 1000;
	if (r->fetch.connections < 1 || r->fetch.connections > FETCH_CONNECTIONS_MAX ||
	    r->fetch.retries < 0 || r->fetch.retries > 100 || r->fetch.stall_ms < 1000 ||
	    r->fetch.stall_ms > 3600000)
		return err_set(e, EXIT_USAGE,
			       "expected --connections 1 to 32, --retries 0 to 100, "
			       "--stall-timeout 1 to 3600");
	if (tune && (rc = fetch_tune(&r->fetch, tune, e)) < 0)
		return rc;
	model_events_init(&r->events);
	r->fetch.event = model_events_show;
	r->fetch.ctx = &r->events;
	rc = hub_read_environment(&r->hub, e);
	return rc < 0 ? rc : store_open(&r->store, NULL, e);
}

static int run_all(struct run *r, struct err *e)
{
	const char *lock = cli_str(r->c, "lock");
	bool adding = cli_given(r->c, "lock-add");
	size_t n;
	int rc = set_up(r, e);

	if (rc == 0 && (!adding || (lock && access(lock, F_OK) == 0)))
		rc = models_lock_open(&r->lock, lock, e);
	if (rc < 0)
		return rc;
	if (adding)
		return lock_add(r, e);
	if (cli_flag(r->c, "lock-check"))
		return lock_check(r);
	if (cli_flag(r->c, "list"))
		return list(r, e);
	n = (size_t)r->lock.n + 1;
	r->wanted = calloc(n, sizeof(*r->wanted));
	r->items = calloc(n, sizeof(*r->items));
	r->requests = calloc(n, sizeof(*r->requests));
	r->results = calloc(n, sizeof(*r->results));
	r->request_of = calloc(n, sizeof(*r->request_of));
	assert(r->wanted && r->items && r->requests && r->results && r->request_of);
	rc = select_entries(r, e);
	return rc < 0 ? rc : fetch_selected(r, e);
}

static int run(struct cli *c, struct err *e)
{
	struct run *r = calloc(1, sizeof(*r));
	int rc;

	assert(r);
	r->c = c;
	rc = run_all(r, e);
	models_lock_free(&r->lock);
	free(r->wanted);
	free(r->items);
	free(r->requests);
	free(r->results);
	free(r->request_of);
	free(r);
	return rc;
}

const struct command cmd_fetch_models = {
	.name = "fetch-models",
	.aliases = "download-model tokenizer",
	.group = "Provisioning",
	.summary = "fetch models and tokenizers, verified, into the cache",
	.positional = "[ID…]",
	.examples =
	"  assay fetch-models                      the integration model and its tokenizer\n"
	"  assay fetch-models --tier ci-light      the small model, generated here\n"
	"  assay fetch-models --list               what there is\n"
	"  assay tokenizer --out tokenizer.json    the tokenizer alone, placed here\n"
	"  assay fetch-models --verify             hash again what the cache holds\n"
	"  assay fetch-models --lock my.json --lock-add hf://owner/name/file.gguf\n",
	.opts = opts,
	.run = run,
	.details =
	"Prints the path of each file that was asked for. A second call transfers nothing. After a "
	"kill\n"
	"or a lost connection the same command goes on where it was. Environment: ASSAY_CACHE,\n"
	"HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME, http(s)_proxy, no_proxy, SSL_CERT_FILE.\n"
	"See docs/models.md.\n",
};
