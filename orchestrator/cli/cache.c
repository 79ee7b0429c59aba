#include "cli.h"

#include "cli/model_events.h"
#include "cli/term.h"
#include "provision/models.h"
#include "provision/reference_store.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct opt opts[] = {
	{"tier", OPT_STR, "TIER", "only models of this tier", NULL, NULL,
	 "ci-light|integration", 0},
	{"all", OPT_FLAG, NULL, "clean: every model", NULL, NULL, NULL, 0},
	{"older-than", OPT_INT, "DAYS", "prune: models unused for so long that no lockfile names",
	 "30", NULL, NULL, 0},
	{"repair", OPT_FLAG, NULL, "verify: fetch again what is damaged, chunk by chunk",
	 NULL, NULL, NULL, 0},
	{"dry-run", OPT_FLAG, NULL, "only say what would be deleted", NULL, NULL, NULL, 'n'},
	{"yes", OPT_FLAG, NULL, "delete without being asked again", NULL, NULL, NULL, 'y'},
	{"lock", OPT_STR, "FILE", "this lockfile instead of the built-in one", NULL,
	 "ASSAY_MODELS_LOCK", NULL, 0},
	{0},
};

enum verb { LS, VERIFY, PRUNE, CLEAN };

struct run {
	struct cli *c;
	enum verb verb;
	struct models_lock lock;
	struct store store;
	json_t *items, *references;
	int64_t bytes, reference_bytes;
	int n, n_bad, n_references;
	int first_bad; /* its exit code */
};

static bool is_named(const struct run *r, const struct store_item *item)
{
	const char *const *ids, *tier = cli_str(r->c, "tier");
	int n = cli_positional(r->c, &ids),
	    first = n && strcmp(cli_invoked_as(r->c), "clean-cache");

	if (tier && strcmp(item->meta.tier, tier) != 0)
		return false;
	for (int i = first; i < n; i++)
		if (strcmp(ids[i], item->meta.id) == 0 ||
		    strcmp(ids[i], item->blob.sha256_hex) == 0)
			return true;
	return n <= first;
}

static const char *state_name(const struct store_item *item)
{
	static const char *const names[] = {"empty", "partial", "ready", "unverified"};

	return names[item->state];
}

static void record(struct run *r, const struct store_item *item, const char *did)
{
	const char *id = item->meta.id[0] ? item->meta.id : "-";

	r->n++;
	json_array_append_new(r->items, json_pack("{ss ss ss sI ss sb ss ss}", "id", item->meta.id,
						  "sha256", item->blob.sha256_hex, "tier",
						  item->meta.tier, "bytes", (json_int_t)item->bytes,
						  "state", state_name(item), "in_use", item->in_use,
						  "origin", item->meta.origin, "did", did));
	if (!cli_json(r->c))
		printf("%-24s %-12s %10.1f MB  %-10s %s%.12s%s%s\n", id,
		       item->meta.tier[0] ? item->meta.tier : "-", (double)item->bytes / 1e6,
		       state_name(item), item->in_use ? "in use  " : "", item->blob.sha256_hex,
		       *did ? "  " : "", did);
}

static int list(void *ctx, const struct store_item *item, struct err *e)
{
	struct run *r = ctx;

	(void)e;
	if (is_named(r, item)) {
		r->bytes += item->bytes;
		record(r, item, "");
	}
	return 0;
}

/* ---- verify ------------------------------------------------------------------------------ */

static const struct lock_model *entry_of(const struct run *r, const struct store_item *item)
{
	for (int i = 0; i < r->lock.n; i++)
		if (strcmp(r->lock.models[i].sha256_hex, item->blob.sha256_hex) == 0)
			return &r->lock.models[i];
	return NULL;
}

static int repair(struct run *r, const struct lock_model *m, struct err *e)
{
	const char *tune = getenv("ASSAY_FETCH_TUNE");
	struct models_item *item = calloc(1, sizeof(*item));
	struct fetch_result result;
	struct model_events events;
	struct fetch_options o;
	struct hub hub;
	int rc;

	assert(item);
	fetch_defaults(&o);
	model_events_init(&events);
	events.single = true;
	o.event = model_events_show;
	o.ctx = &events;
	rc = hub_read_environment(&hub, e);
	if (rc == 0 && tune)
		rc = fetch_tune(&o, tune, e);
	model_events_hashes(&events, m->id, m->size);
	if (rc == 0)
		rc = models_prepare(item, &r->store, &hub, m, true, model_events_hashing, &events,
				    e);
	if (rc == 0 && item->how == MODELS_TO_FETCH && hub.offline)
		rc = err_set(e, EXIT_NETWORK,
			     "%s is damaged and HF_HUB_OFFLINE forbids to fetch it", m->id);
	else if (rc == 0 && item->how == MODELS_TO_FETCH)
		rc = fetch_run(&item->request, 1, &o, &hub, &result, e);
	free(item);
	return rc;
}

static int verify(void *ctx, const struct store_item *item, struct err *e)
{
	struct run *r = ctx;
	const struct lock_model *m = entry_of(r, item);
	uint8_t sha256[DIGEST_BYTES];
	struct model_events events;
	char hex[DIGEST_HEX];
	int rc;

	if (!is_named(r, item) || (item->state != STORE_READY && item->state != STORE_UNSURE))
		return 0;
	model_events_init(&events);
	model_events_hashes(&events, *item->meta.id ? item->meta.id : item->blob.sha256_hex,
			    *item->meta.id ? item->meta.size : -1);
	rc = digest_file(item->blob.path, sha256, model_events_hashing, &events, e);
	if (rc < 0)
		return rc;
	digest_hex(sha256, hex);
	if (strcmp(hex, item->blob.sha256_hex) == 0) {
		record(r, item, "verified");
		return 0;
	}
	if (cli_flag(r->c, "repair") && m) {
		rc = repair(r, m, e);
		record(r, item, rc < 0 ? "damaged" : "repaired");
		if (rc == 0)
			return 0;
		term_warn("%s", e->msg);
		r->first_bad = r->first_bad ? r->first_bad : -rc;
	} else {
		term_warn("%s has SHA-256 %s%s", item->blob.path, hex,
			  m ? "; --repair fetches it again"
			    : " and no lockfile entry to repair it from");
		record(r, item, "damaged");
	}
	r->n_bad++;
	return 0;
}

/* ---- deleting ---------------------------------------------------------------------------- */

static bool is_for_real(const struct run *r)
{
	return cli_flag(r->c, "yes") && !cli_flag(r->c, "dry-run");
}

static int remove_item(struct run *r, const struct store_item *item, bool only_partial,
		       struct err *e)
{
	int64_t bytes = only_partial ? item->part_bytes : item->bytes;
	bool busy;
	int lock, claim;

	if (item->in_use) {
		record(r, item, "kept: in use");
		return 0;
	}
	if (is_for_real(r)) {
		lock = store_lock(&item->blob, &busy, e);
		if (lock < 0 && !busy)
			return lock;
		claim = lock < 0 ? -1 : store_claim(&item->blob);
		if (claim < 0) {
			record(r, item, "kept: in use");
			if (lock >= 0)
				close(lock);
			return 0;
		}
		bytes = store_delete(&item->blob, only_partial, e);
		close(claim);
		close(lock);
		if (bytes < 0)
			return (int)bytes;
	}
	r->bytes += bytes;
	record(r, item, is_for_real(r) ? "deleted" : "would be deleted");
	return 0;
}

static int clean(void *ctx, const struct store_item *item, struct err *e)
{
	struct run *r = ctx;

	return is_named(r, item) ? remove_item(r, item, false, e) : 0;
}

static int prune(void *ctx, const struct store_item *item, struct err *e)
{
	struct run *r = ctx;
	int64_t age = time(NULL) - item->used_s;

	if (!is_named(r, item))
		return 0;
	if (item->state == STORE_PARTIAL || item->state == STORE_ABSENT)
		return remove_item(r, item, false, e);
	if (item->part_bytes > 0)
		return remove_item(r, item, true, e);
	if (!entry_of(r, item) && age > cli_int(r->c, "older-than") * 86400)
		return remove_item(r, item, false, e);
	return 0;
}

/* ---- references --------------------------------------------------------------------------- */

static void record_reference(struct run *r, const struct reference_item *item, const char *did)
{
	const char *names = *item->names ? item->names : "-";

	r->n_references++;
	json_array_append_new(r->references,
			      json_pack("{ss ss ss sI ss sb ss}", "part", reference_part_name(item->part),
					"names", item->names, "key", item->key, "bytes",
					(json_int_t)item->bytes, "state", item->state, "in_use",
					item->in_use, "did", did));
	if (!cli_json(r->c))
		printf("%-24s %-12s %10.1f MB  %-10s %s%.*s%s%s\n", names,
		       reference_part_name(item->part), (double)item->bytes / 1e6, item->state,
		       item->in_use ? "in use  " : "",
		       item->part == REFERENCE_UNFINISHED ? 60 : 12, item->key, *did ? "  " : "",
		       did);
}

static int on_reference(void *ctx, const struct reference_item *item, struct err *e)
{
	struct run *r = ctx;
	bool busy = item->in_use;
	int rc = 0;

	if (r->verb == LS) {
		r->reference_bytes += item->bytes;
		record_reference(r, item, "");
		return 0;
	}
	if (item->needed)
		return 0;
	if (!busy && is_for_real(r))
		rc = reference_delete(r->store.root, item, &busy, e);
	if (rc < 0)
		return rc;
	record_reference(r, item, busy ? "kept: in use" : is_for_real(r) ? "deleted" : "would be deleted");
	r->bytes += busy ? 0 : item->bytes;
	return 0;
}

/* Of a whole cache, not where models are named. */
static int references(struct run *r, struct err *e)
{
	const char *const *ids;
	bool named = cli_positional(r->c, &ids) > 1 || cli_str(r->c, "tier");

	if (named || (r->verb != LS && r->verb != PRUNE))
		return 0;
	return reference_each(r->store.root, on_reference, r, e);
}

/* ------------------------------------------------------------------------------------------ */

static int find_verb(struct run *r, struct err *e)
{
	static const char *const verbs[] = {"ls", "verify", "prune", "clean"};
	const char *const *words;
	int n = cli_positional(r->c, &words);

	if (strcmp(cli_invoked_as(r->c), "clean-cache") == 0) {
		r->verb = CLEAN;
		return 0;
	}
	for (int i = 0; n && i < 4; i++) {
		if (strcmp(words[0], verbs[i]) == 0) {
			r->verb = (enum verb)i;
			return 0;
		}
	}
	return n ? err_set(e, EXIT_USAGE, "expected ls, verify, prune or clean, got \"%s\"",
			   words[0])
		 : 0;
}

struct named {
	const char *id;
	bool found;
};

static int find_named(void *ctx, const struct store_item *item, struct err *e)
{
	struct named *n = ctx;

	(void)e;
	n->found |= strcmp(n->id, item->meta.id) == 0 || strcmp(n->id, item->blob.sha256_hex) == 0;
	return 0;
}

static bool is_known(const struct run *r, const char *id)
{
	struct named n = {.id = id};
	struct err ignored = ERR_NONE;

	if (models_lock_find(&r->lock, id))
		return true;
	store_each(&r->store, find_named, &n, &ignored);
	return n.found;
}

static int check_what(const struct run *r, struct err *e)
{
	const char *const *ids;
	int n = cli_positional(r->c, &ids);
	bool named = n > (strcmp(cli_invoked_as(r->c), "clean-cache") != 0);

	for (int i = strcmp(cli_invoked_as(r->c), "clean-cache") != 0; i < n; i++)
		if (!is_known(r, ids[i]))
			return err_set(e, EXIT_USAGE,
				       "\"%s\" is neither in the cache nor in the lockfile; see "
				       "`assay cache ls`",
				       ids[i]);
	if (r->verb == CLEAN && !named && !cli_flag(r->c, "all") && !cli_str(r->c, "tier"))
		return err_set(e, EXIT_USAGE, "say which: ids, --tier TIER or --all");
	if (cli_int(r->c, "older-than") < 0 || cli_int(r->c, "older-than") > 36500)
		return err_set(e, EXIT_USAGE, "--older-than: expected 0 to 36500 days, got %lld",
			       (long long)cli_int(r->c, "older-than"));
	return 0;
}

static void summarise(const struct run *r)
{
	json_t *o = json_pack("{ss sI sI sO sO}", "cache", r->store.root, "bytes", (json_int_t)r->bytes,
			      "reference_bytes", (json_int_t)r->reference_bytes, "items", r->items,
			      "references", r->references);
	bool deleting = r->verb == CLEAN || r->verb == PRUNE;

	if (cli_json(r->c)) {
		json_dumpf(o, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (r->verb == LS) {
		printf("%d models, %.1f MB in %s\n", r->n, (double)r->bytes / 1e6, r->store.root);
		if (r->n_references)
			printf("%d parts of references, %.1f MB\n", r->n_references,
			       (double)r->reference_bytes / 1e6);
	} else if (deleting) {
		printf("%.1f MB %s\n", (double)r->bytes / 1e6,
		       is_for_real(r) ? "freed" : "would be freed");
	}
	if (deleting && !is_for_real(r) && !cli_flag(r->c, "dry-run") && r->n + r->n_references)
		term_note("nothing was deleted: add --yes");
	json_decref(o);
}

static int run_verb(struct run *r, struct err *e)
{
	static store_item_fn *const fns[] = {list, verify, prune, clean};
	const char *const *ids;
	int rc;

	if ((rc = find_verb(r, e)) < 0 || (rc = store_open(&r->store, NULL, e)) < 0 ||
	    (rc = models_lock_open(&r->lock, cli_str(r->c, "lock"), e)) < 0 ||
	    (rc = check_what(r, e)) < 0 || (rc = store_each(&r->store, fns[r->verb], r, e)) < 0 ||
	    (rc = references(r, e)) < 0)
		return rc;
	summarise(r);
	if (r->verb == VERIFY && !r->n && cli_positional(r->c, &ids) > 1)
		return err_set(e, EXIT_NOTHING_RAN, "nothing was verified: %s is not in the cache",
			       ids[1]);
	if (r->n_bad)
		return err_set(e, r->first_bad ? (enum exit_code)r->first_bad : EXIT_HASH_MISMATCH,
			       "%d of %d models are damaged", r->n_bad, r->n);
	return EXIT_AGREE;
}

static int run(struct cli *c, struct err *e)
{
	struct run r = {.c = c, .items = json_array(), .references = json_array()};
	int rc = run_verb(&r, e);

	models_lock_free(&r.lock);
	json_decref(r.items);
	json_decref(r.references);
	return rc;
}

const struct command cmd_cache = {
	.name = "cache",
	.aliases = "clean-cache",
	.group = "Provisioning",
	.summary = "list, verify, repair and delete what is cached: models, references",
	.positional = "[ls|verify|prune|clean] [ID…]",
	.examples = "  assay cache ls                          what is there, and how large\n"
		"  assay cache verify --repair             hash everything, fetch what is damaged\n"
		"  assay cache prune                       what nobody needs any more (add --yes)\n"
		"  assay cache clean bitnet-2b4t-i2s --yes\n"
		"  assay clean-cache --all --yes\n",
	.opts = opts,
	.run = run,
	.details = "`ls` and `prune` look at references too: prune takes builds that no name leads to (of\n"
	       "earlier pins, options or versions of this program), the libraries and sources that only\n"
	       "those needed, and what killed builds left.\n"
	       "Nothing is deleted without --yes. What a running command holds, what is being "
	       "fetched, and files\n"
	       "that this program did not put there stay. The cache is $ASSAY_CACHE, "
	       "$XDG_CACHE_HOME/assay\n"
	       "or ~/.cache/assay.\n",
};
