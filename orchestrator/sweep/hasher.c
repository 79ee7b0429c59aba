#include "hasher.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { BOTH = HASHER_SIDES };

struct item {
	uint8_t *bytes;		/* [cap], kept for the next one */
	size_t n, cap;
	int side;		/* or BOTH */
};

struct hasher {
	struct digest d[HASHER_SIDES];	/* the thread's while items wait */
	bool forked;			/* the streams have differed: d[1] counts */
	struct item ring[HASHER_QUEUE_MAX];
	int head, n;
	bool started, closing;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more, less;
};

struct hasher *hasher_new(void)
{
	struct hasher *h = calloc(1, sizeof(*h));

	assert(h);
	for (int i = 0; i < HASHER_SIDES; i++)
		digest_init(&h->d[i]);
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->more, NULL);
	pthread_cond_init(&h->less, NULL);
	return h;
}

static void hash(struct hasher *h, int side, const void *bytes, size_t n)
{
	if (side != BOTH && !h->forked) {
		h->d[1] = h->d[0];
		h->forked = true;
	}
	if (side != 1)
		digest_update(&h->d[0], bytes, n);
	if (side == 1 || (side == BOTH && h->forked))
		digest_update(&h->d[1], bytes, n);
}

static void *run(void *arg)
{
	struct hasher *h = arg;

	pthread_mutex_lock(&h->lock);
	for (;;) {
		struct item *next = &h->ring[h->head];

		if (h->n == 0 && h->closing)
			break;
		if (h->n == 0) {
			pthread_cond_wait(&h->more, &h->lock);
			continue;
		}
		pthread_mutex_unlock(&h->lock);
		hash(h, next->side, next->bytes, next->n);
		pthread_mutex_lock(&h->lock);
		h->head = (h->head + 1) % HASHER_QUEUE_MAX;
		h->n--;
		pthread_cond_signal(&h->less);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

static void wait_until_fewer(struct hasher *h, int n)
{
	while (h->n >= n)
		pthread_cond_wait(&h->less, &h->lock);
}

static void add(struct hasher *h, int side, const void *bytes, size_t n)
{
	struct item *to;

	if (!h->started && n > HASHER_INLINE_BYTES)
		h->started = pthread_create(&h->thread, NULL, run, h) == 0;
	if (!h->started) {
		hash(h, side, bytes, n);
		return;
	}
	pthread_mutex_lock(&h->lock);
	wait_until_fewer(h, HASHER_QUEUE_MAX);
	to = &h->ring[(h->head + h->n) % HASHER_QUEUE_MAX];
	pthread_mutex_unlock(&h->lock);	/* the place is nobody else's yet */
	if (to->cap < n) {
		free(to->bytes);
		to->bytes = malloc(n);
		assert(to->bytes);
		to->cap = n;
	}
	memcpy(to->bytes, bytes, n);
	to->n = n;
	to->side = side;
	pthread_mutex_lock(&h->lock);
	h->n++;
	pthread_cond_signal(&h->more);
	pthread_mutex_unlock(&h->lock);
}

void hasher_add(struct hasher *h, int side, const void *bytes, size_t n)
{
	assert(side >= 0 && side < HASHER_SIDES);
	add(h, side, bytes, n);
}

void hasher_add_both(struct hasher *h, const void *bytes, size_t n)
{
	add(h, BOTH, bytes, n);
}

void hasher_final(struct hasher *h, int side, uint8_t out[DIGEST_BYTES])
{
	pthread_mutex_lock(&h->lock);
	wait_until_fewer(h, 1);
	pthread_mutex_unlock(&h->lock);
	digest_final(&h->d[h->forked ? side : 0], out);
}

void hasher_free(struct hasher *h)
{
	if (!h)
		return;
	if (h->started) {
		pthread_mutex_lock(&h->lock);
		h->closing = true;
		pthread_cond_signal(&h->more);
		pthread_mutex_unlock(&h->lock);
		pthread_join(h->thread, NULL);
	}
	for (int i = 0; i < HASHER_QUEUE_MAX; i++)
		free(h->ring[i].bytes);
	pthread_mutex_destroy(&h->lock);
	pthread_cond_destroy(&h->more);
	pthread_cond_destroy(&h->less);
	free(h);
}
