#include "threads.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { SPIN_IDLE = 4000, SPIN_DONE = 20000 };

struct member {
	/* high half: the end of this thread's chunks; low half: the next of them to take */
	_Alignas(64) atomic_uint_least64_t ticket;
	struct team *team;
	pthread_t thread;
	int index;
};

struct team {
	_Alignas(64) atomic_uint_least64_t jobs;	/* given out so far */
	_Alignas(64) atomic_int_least64_t done;	/* chunks of the current job */
	_Alignas(64) atomic_int sleepers;
	atomic_bool stop;
	team_fn *fn;
	void *ctx;
	int64_t n_items, chunk;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	int n_threads, n_started;
	struct member members[];	/* [n_threads], the first is the caller */
};

static void pause_briefly(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static bool ticket_open(uint64_t ticket)
{
	return (uint32_t)ticket < ticket >> 32;
}

/* Takes one member's chunks until none is left. The job cannot end while a taken chunk is not done,
 * so its fields are stable from the moment a chunk was taken. */
static void work_through(struct team *t, struct member *owner, int index)
{
	while (ticket_open(atomic_load_explicit(&owner->ticket, memory_order_acquire))) {
		uint64_t got = atomic_fetch_add_explicit(&owner->ticket, 1, memory_order_acq_rel);
		if (!ticket_open(got))
			return;
		int64_t begin = (int64_t)(uint32_t)got * t->chunk;
		int64_t end = begin + t->chunk < t->n_items ? begin + t->chunk : t->n_items;
		t->fn(t->ctx, begin, end, index);
		atomic_fetch_add_explicit(&t->done, 1, memory_order_release);
	}
}

/* First its own chunks, then what others have not begun. */
static void work(struct team *t, int index)
{
	for (int i = 0; i < t->n_threads; i++)
		work_through(t, &t->members[(index + i) % t->n_threads], index);
}

static void sleep_until_work(struct team *t, uint64_t seen)
{
	pthread_mutex_lock(&t->lock);
	atomic_fetch_add(&t->sleepers, 1);
	while (atomic_load(&t->jobs) == seen && !atomic_load(&t->stop))
		pthread_cond_wait(&t->wake, &t->lock);
	atomic_fetch_sub(&t->sleepers, 1);
	pthread_mutex_unlock(&t->lock);
}

static void *member_main(void *arg)
{
	struct member *m = arg;
	struct team *t = m->team;
	uint64_t seen = 0;
	while (!atomic_load_explicit(&t->stop, memory_order_acquire)) {
		uint64_t jobs = atomic_load_explicit(&t->jobs, memory_order_acquire);
		for (int spins = 0; jobs == seen && spins < SPIN_IDLE; spins++) {
			pause_briefly();
			jobs = atomic_load_explicit(&t->jobs, memory_order_acquire);
		}
		if (jobs != seen)
			work(t, m->index);
		else
			sleep_until_work(t, seen);
		seen = jobs;
	}
	return NULL;
}

static void pin_to_nth(pthread_t thread, int n)
{
	cpu_set_t allowed, one;
	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
		return;
	int count = CPU_COUNT(&allowed), seen = 0;
	for (int cpu = 0; cpu < CPU_SETSIZE && count > 0; cpu++) {
		if (!CPU_ISSET(cpu, &allowed) || seen++ != n % count)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		pthread_setaffinity_np(thread, sizeof(one), &one);
		return;
	}
}

static int start(struct member *m)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	int rc = pthread_attr_setstacksize(&attr, TEAM_STACK_BYTES);
	if (rc == 0)
		rc = pthread_create(&m->thread, &attr, member_main, m);
	pthread_attr_destroy(&attr);
	return rc;
}

int team_new(struct team **out, int n_threads, bool pin, struct err *e)
{
	if (n_threads < 1 || n_threads > TEAM_THREADS_MAX)
		return err_set(e, EXIT_USAGE, "%d threads asked for; 1 to %d are possible",
			       n_threads, TEAM_THREADS_MAX);
	size_t bytes = sizeof(struct team) + (size_t)n_threads * sizeof(struct member);
	struct team *t = aligned_alloc(64, (bytes + 63) / 64 * 64);
	if (!t)
		return err_set(e, EXIT_INTERNAL, "no memory for a team of %d threads", n_threads);
	memset(t, 0, bytes);
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->wake, NULL);
	t->n_threads = n_threads;
	t->n_started = 1;
	for (int i = 1; i < n_threads; i++) {
		t->members[i].team = t;
		t->members[i].index = i;
		int rc = start(&t->members[i]);
		if (rc != 0) {
			team_free(t);
			return err_set(e, EXIT_INTERNAL, "thread %d of %d cannot be started: %s",
				       i + 1, n_threads, strerror(rc));
		}
		t->n_started++;
	}
	if (pin) {
		cpu_set_t before;
		bool known = sched_getaffinity(0, sizeof(before), &before) == 0;
		for (int i = n_threads - 1; i > 0; i--)
			pin_to_nth(t->members[i].thread, i);
		if (known)
			pin_to_nth(pthread_self(), 0);
	}
	*out = t;
	return 0;
}

void team_free(struct team *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	atomic_store(&t->stop, true);
	pthread_cond_broadcast(&t->wake);
	pthread_mutex_unlock(&t->lock);
	for (int i = 1; i < t->n_started; i++)
		pthread_join(t->members[i].thread, NULL);
	pthread_mutex_destroy(&t->lock);
	pthread_cond_destroy(&t->wake);
	free(t);
}

int team_size(const struct team *t)
{
	return t->n_threads;
}

/* One after the other, where no other thread is needed. */
static bool run_alone(struct team *t, int64_t n_items, int64_t chunk, team_fn *fn, void *ctx)
{
	if (n_items > chunk && t->n_threads > 1)
		return false;
	for (int64_t at = 0; at < n_items; at += chunk)
		fn(ctx, at, at + chunk < n_items ? at + chunk : n_items, 0);
	return true;
}

/* Member i begins with its share of n_chunks, the first of `sharers` members have one. */
static void run_shared(struct team *t, int64_t n_items, int64_t chunk, int sharers, team_fn *fn,
		       void *ctx)
{
	int64_t n_chunks = (n_items + chunk - 1) / chunk;
	assert(n_chunks < INT32_MAX);
	t->fn = fn;
	t->ctx = ctx;
	t->n_items = n_items;
	t->chunk = chunk;
	atomic_store_explicit(&t->done, 0, memory_order_relaxed);
	for (int i = 0; i < t->n_threads; i++) {
		uint64_t begin = (uint64_t)(i < sharers ? n_chunks * i / sharers : n_chunks);
		uint64_t end = (uint64_t)(i < sharers ? n_chunks * (i + 1) / sharers : n_chunks);
		atomic_store_explicit(&t->members[i].ticket, end << 32 | begin,
				      memory_order_release);
	}
	atomic_fetch_add(&t->jobs, 1);
	if (atomic_load(&t->sleepers) > 0) {
		pthread_mutex_lock(&t->lock);
		pthread_cond_broadcast(&t->wake);
		pthread_mutex_unlock(&t->lock);
	}
	work(t, 0);
	team_wait(&t->done, n_chunks);
}

void team_run(struct team *t, int64_t n_items, int64_t chunk, team_fn *fn, void *ctx)
{
	assert(chunk > 0);
	if (!run_alone(t, n_items, chunk, fn, ctx))
		run_shared(t, n_items, chunk, t->n_threads, fn, ctx);
}

void team_run_in_order(struct team *t, int64_t n_items, team_fn *fn, void *ctx)
{
	if (!run_alone(t, n_items, 1, fn, ctx))
		run_shared(t, n_items, 1, 1, fn, ctx);
}

void team_wait(const atomic_int_least64_t *done, int64_t n)
{
	int spins = 0;
	while (atomic_load_explicit(done, memory_order_acquire) < n)
		if (spins < SPIN_DONE) {
			pause_briefly();
			spins++;
		} else {
			sched_yield();
		}
}
