#include "fetch_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { STEP_BYTES = 16 << 20 };

/* ---- blocks that are written and still to be hashed: read from memory, not from the file -- */

static void drop_held(struct job *j, int i)
{
	disk_give_back(j->fetch, &j->held[i]);
	j->held[i] = j->held[--j->n_held];
}

/* Of too many those that the hash reaches first are held. */
void hash_hold(struct job *j, struct block *b)
{
	int last = 0;

	if (b->at + (int64_t)b->bytes <= j->hasher.end) {
		disk_give_back(j->fetch, b);
		return;
	}
	for (int i = 1; i < j->n_held; i++)
		if (j->held[i].at > j->held[last].at)
			last = i;
	if (j->n_held == FETCH_HELD_MAX) {
		if (j->held[last].at < b->at) {
			disk_give_back(j->fetch, b);
			return;
		}
		drop_held(j, last);
	}
	j->held[j->n_held++] = *b;
	*b = (struct block){0};
}

/* The held block that goes on where the last one handed ended; what is behind that is dropped. */
static int next_held(struct job *j)
{
	for (int i = 0; i < j->n_held;) {
		const struct block *b = &j->held[i];

		if (b->at + (int64_t)b->bytes <= j->hasher.end)
			drop_held(j, i);
		else if (b->at <= j->hasher.end)
			return i;
		else
			i++;
	}
	return -1;
}

/* ---- the thread -------------------------------------------------------------------------- */

static bool take(struct hasher *h, struct block *b)
{
	bool some;

	uv_mutex_lock(&h->lock);
	some = h->n > 0;
	if (some) {
		*b = h->queue[h->first];
		h->first = (h->first + 1) % FETCH_HANDED_MAX;
		h->n--;
	}
	uv_mutex_unlock(&h->lock);
	return some;
}

static void put(struct hasher *h, const struct block *b, const struct digest *d)
{
	uv_mutex_lock(&h->lock);
	h->spent[h->n_spent++] = *b;
	h->digest = *d;
	uv_mutex_unlock(&h->lock);
}

static void run_queue(uv_work_t *uv)
{
	struct hasher *h = uv->data;
	struct digest d = h->digest; /* nobody else writes it */
	struct block b;

	while (take(h, &b)) {
		size_t skip = (size_t)((int64_t)d.bytes - b.at);

		digest_update(&d, b.data + skip, b.bytes - skip);
		put(h, &b, &d);
	}
}

static struct job *job_of(struct hasher *h)
{
	return (struct job *)(void *)((char *)h - offsetof(struct job, hasher));
}

static void run_file(uv_work_t *uv)
{
	struct hasher *h = uv->data;
	const struct job *j = job_of(h);
	struct digest d = h->digest;

	h->r = digest_range(&d, j->part_fd, h->from, h->to, j->request->blob.part, NULL, NULL,
			    &h->err);
	uv_mutex_lock(&h->lock);
	h->digest = d;
	uv_mutex_unlock(&h->lock);
}

/* ---- the loop ---------------------------------------------------------------------------- */

static void collect(struct job *j)
{
	struct hasher *h = &j->hasher;
	struct block spent[FETCH_HANDED_MAX];
	int n;

	uv_mutex_lock(&h->lock);
	j->digest = h->digest;
	n = h->n_spent;
	memcpy(spent, h->spent, (size_t)n * sizeof(*spent));
	h->n_spent = 0;
	uv_mutex_unlock(&h->lock);
	h->handed -= n;
	for (int i = 0; i < n; i++)
		disk_give_back(j->fetch, &spent[i]);
}

static void hand_on(struct job *j)
{
	struct hasher *h = &j->hasher;
	int i;

	while (h->handed < FETCH_HANDED_MAX && (i = next_held(j)) >= 0) {
		struct block b = j->held[i];

		j->held[i] = j->held[--j->n_held];
		h->end = b.at + (int64_t)b.bytes;
		h->handed++;
		uv_mutex_lock(&h->lock);
		h->queue[(h->first + h->n++) % FETCH_HANDED_MAX] = b;
		uv_mutex_unlock(&h->lock);
	}
}

static void after_hash(uv_work_t *uv, int status)
{
	struct hasher *h = uv->data;
	struct job *j = job_of(h);

	(void)status;
	j->hashing = false;
	if (h->r < 0)
		job_fail(j, &h->err, false);
	job_pump(j);
}

static void start(struct job *j, uv_work_cb run)
{
	int r = uv_queue_work(&j->fetch->loop, &j->hasher.uv, run, after_hash);

	assert(r == 0);
	j->hashing = true;
}

/* Where the file has to be read because the block was not held: up to the next that is. */
static int64_t end_of_step(const struct job *j, int64_t from, int64_t to)
{
	to = to - from > STEP_BYTES ? from + STEP_BYTES : to;
	for (int i = 0; i < j->n_held; i++)
		if (j->held[i].at > from && j->held[i].at < to)
			to = j->held[i].at;
	return to;
}

void hash_run(struct job *j)
{
	struct hasher *h = &j->hasher;
	int64_t from, to;

	collect(j);
	from = (int64_t)j->digest.bytes;
	to = ranges_end_of(&j->written, from);
	if (j->hashing) {
		if (h->to < 0)
			hand_on(j);
		return;
	}
	if (h->end == from && (from == to || (to - from < FETCH_BLOCK_BYTES && to != j->size)))
		return;
	hand_on(j);
	h->to = -1;
	if (h->end > from) {
		start(j, run_queue);
		return;
	}
	h->from = from;
	h->to = h->end = end_of_step(j, from, to);
	start(j, run_file);
}

/* Hashing is one chain: where it is the slowest part, nobody may take its processor. A backlog that
 * a pause would not clear soon (a hole at the beginning was filled late) is no reason to wait. */
bool hash_is_behind(const struct job *j)
{
	int64_t from = (int64_t)j->digest.bytes;
	int64_t behind = ranges_end_of(&j->written, from) - from;

	return behind > FETCH_BEHIND_BYTES && behind < 8 * FETCH_BEHIND_BYTES;
}

void hash_open(struct job *j)
{
	int r = uv_mutex_init(&j->hasher.lock);

	assert(r == 0);
	j->hasher.uv.data = &j->hasher;
	digest_init(&j->digest);
	hash_restart(j);
}

void hash_restart(struct job *j)
{
	struct hasher *h = &j->hasher;

	assert(!j->hashing);
	while (j->n_held)
		drop_held(j, j->n_held - 1);
	for (; h->n; h->n--, h->first = (h->first + 1) % FETCH_HANDED_MAX)
		disk_give_back(j->fetch, &h->queue[h->first]);
	while (h->n_spent)
		disk_give_back(j->fetch, &h->spent[--h->n_spent]);
	h->handed = 0;
	h->digest = j->digest;
	h->end = (int64_t)j->digest.bytes;
	h->to = -1;
}

void hash_close(struct job *j)
{
	hash_restart(j);
	uv_mutex_destroy(&j->hasher.lock);
}
