/* Every item of every job is done exactly once, by threads that exist, for many small jobs; in order,
 * an item may wait for ones before it. */
#include "test.h"
#include "threads.h"

#include <stdatomic.h>
#include <unistd.h>

enum { ITEMS = 1000 };

struct job {
	atomic_int seen[ITEMS];
	atomic_int bad_thread;
	int n_threads;
};

static void visit(void *ctx, int64_t begin, int64_t end, int thread)
{
	struct job *j = ctx;
	if (thread < 0 || thread >= j->n_threads)
		atomic_fetch_add(&j->bad_thread, 1);
	for (int64_t i = begin; i < end; i++)
		atomic_fetch_add(&j->seen[i], 1);
}

static void check_team(int n_threads, bool pin)
{
	static struct job j;
	struct team *t = NULL;
	struct err e = ERR_NONE;
	if (team_new(&t, n_threads, pin, &e) != 0) {
		CHECK(0, "team of %d: %s", n_threads, e.msg);
		return;
	}
	int wrong = 0;
	j.n_threads = n_threads;
	for (int round = 0; round < 3000; round++) {
		int64_t items = round % ITEMS + 1, chunk = round % 7 + 1;
		for (int i = 0; i < ITEMS; i++)
			atomic_store(&j.seen[i], 0);
		team_run(t, items, chunk, visit, &j);
		for (int i = 0; i < ITEMS; i++)
			wrong += atomic_load(&j.seen[i]) != (i < items);
		if (round % 1000 == 999)
			usleep(20000);	/* long enough for the others to fall asleep */
	}
	CHECK(wrong == 0 && atomic_load(&j.bad_thread) == 0,
	      "%d threads%s: 3000 jobs, each item once", n_threads, pin ? ", pinned" : "");
	team_free(t);
}

/* The second half of a job needs sums over the whole first one. */
enum { HALF = 40 };

struct ordered {
	atomic_int_least64_t done;
	int64_t value[2 * HALF];
};

static void visit_in_order(void *ctx, int64_t begin, int64_t end, int thread)
{
	struct ordered *o = ctx;
	(void)thread;
	for (int64_t i = begin; i < end; i++) {
		if (i < HALF) {
			o->value[i] = i + 1;
			atomic_fetch_add_explicit(&o->done, 1, memory_order_release);
			continue;
		}
		team_wait(&o->done, HALF);
		for (int j = 0; j < HALF; j++)
			o->value[i] += o->value[j];
	}
}

static void check_order(int n_threads)
{
	struct team *t = NULL;
	struct err e = ERR_NONE;
	int wrong = 0;
	if (team_new(&t, n_threads, false, &e) != 0) {
		CHECK(0, "team of %d: %s", n_threads, e.msg);
		return;
	}
	for (int round = 0; round < 2000; round++) {
		struct ordered o = {.done = 0};
		team_run_in_order(t, 2 * HALF, visit_in_order, &o);
		for (int i = HALF; i < 2 * HALF; i++)
			wrong += o.value[i] != HALF * (HALF + 1) / 2;
	}
	CHECK(wrong == 0, "%d threads in order: items wait for ones before them", n_threads);
	team_free(t);
}

int main(void)
{
	check_team(1, false);
	check_team(2, false);
	check_team(3, true);
	check_team(8, false);
	check_order(1);
	check_order(2);
	check_order(8);
	struct err e = ERR_NONE;
	struct team *t = NULL;
	CHECK(team_new(&t, 0, false, &e) == -EXIT_USAGE && t == NULL, "0 threads are refused");
	CHECK_STR(e.msg, "0 threads asked for; 1 to 256 are possible", "and the sentence says why");
	team_free(NULL);
	return TEST_END();
}
