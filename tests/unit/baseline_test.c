/* Baselines from made-up receipts: sessions, the machine's pace, and what a regression is. */
#include "verdict/baseline.h"
#include "test.h"

#include <stdint.h>
#include <jansson.h>

enum { N = 200 };

/* A receipt with one case: about `speed` tokens/s, some samples disturbed; pace 0 = not told. */
static json_t *receipt(double speed, double pace, int seed)
{
	json_t *samples = json_array(), *paces = json_array(), *series;

	for (int i = 0; i < N; i++) {
		int noise = (i * 37 + seed * 11) % 100; /* 0…99 */
		double slower = noise < 30 ? 1.8 : 1 + noise * 1e-4;

		json_array_append_new(samples, json_real(speed / slower));
		json_array_append_new(paces, json_real(pace * slower));
	}
	series = json_pack("{s:s, s:o}", "unit", "tokens/s", "samples", samples);
	if (pace > 0)
		json_object_set(series, "pace_ns", paces);
	json_decref(paces);
	return json_pack("{s:{s:s, s:i}, s:{s:s}, s:i, s:s, s:s, s:[{s:s, s:s, s:s}], s:[{s:s, s:[o]}]}",
			 "host", "cpu", "a cpu", "n_cpus", 2, "model", "sha256", "00", "threads", 1,
			 "assay_build", "00", "content_sha256", "00", "engines", "name", "native", "isa", "avx2",
			 "profile", "p", "cases", "name", "decode-16", "series", series);
}

static json_t *merged(const double *speeds, const double *paces, int n)
{
	json_t *all[8], *b = NULL;
	const char *names[8] = {"a", "b", "c", "d", "e", "f", "g", "h"};

	for (int i = 0; i < n; i++)
		all[i] = receipt(speeds[i], paces ? paces[i] : 0, i);
	baseline_make((const json_t *const *)all, names, n, &b, NULL);
	for (int i = 0; i < n; i++)
		json_decref(all[i]);
	return b;
}

static struct perf_report check(const json_t *baseline, double speed, double pace)
{
	struct perf_report p;
	struct err e = ERR_NONE;
	json_t *now = receipt(speed, pace, 5);

	if (baseline_check(baseline, now, 10, &p, &e) < 0)
		printf("# %s\n", e.msg);
	json_decref(now);
	return p;
}

static enum perf_state state(const json_t *baseline, double speed, double pace)
{
	struct perf_report p = check(baseline, speed, pace);

	return p.cases[0].state;
}

static void test_sessions(void)
{
	static const double five[] = {1000, 1006, 996, 1003, 994}, shade[] = {1000, 1006, 850, 1003,
									      994};
	static const double apart[] = {1000, 1150, 860, 1080, 930};
	json_t *b = merged(five, NULL, 5);
	struct perf_report p = check(b, 1000 / 1.03, 0);

	CHECK(p.cases[0].n_before == 5 && p.cases[0].n_now == 1, "sessions are counted");
	CHECK(p.cases[0].state == PERF_SAME && p.n_regressed == 0, "3 %% is no regression");
	CHECK(state(b, 1000 / 1.15, 0) == PERF_REGRESSED, "15 %% is one");
	CHECK(state(b, 1150, 0) == PERF_IMPROVED, "15 %% faster is noted");
	json_decref(b);
	b = merged(shade, NULL, 5);
	CHECK(state(b, 1000 / 1.15, 0) == PERF_REGRESSED && state(b, 1000 / 1.03, 0) == PERF_SAME,
	      "a session in the shade hides and makes nothing");
	json_decref(b);
	b = merged(apart, NULL, 5);
	CHECK(state(b, 1000 / 1.15, 0) == PERF_SAME,
	      "sessions further apart than the change forbid the verdict");
	json_decref(b);
	b = merged(five, NULL, 1);
	CHECK(state(b, 1000 / 1.15, 0) == PERF_REGRESSED && state(b, 1000 / 1.08, 0) == PERF_SAME,
	      "one session each");
	json_decref(b);
}

static void test_pace(void)
{
	static const double five[] = {1000, 1006, 996, 1003, 994};
	static const double pace[] = {13000, 13000, 13000, 13000, 13000};
	json_t *b = merged(five, pace, 5);
	struct perf_report p = check(b, 1000 / 1.2, 13000 * 1.2);

	CHECK(p.cases[0].state == PERF_SAME && p.cases[0].change.high < 1 / 1.1,
	      "slower as the machine is slower: no regression");
	CHECK(p.cases[0].paced.mid > 0.98 && p.cases[0].paced.mid < 1.02, "paced: %g",
	      p.cases[0].paced.mid);
	CHECK(state(b, 1000 / 1.15, 13000) == PERF_REGRESSED, "slower on the same machine is one");
	CHECK(state(b, 1000 / 1.4, 13000 * 1.2) == PERF_REGRESSED, "and slower than it explains");
	CHECK(state(b, 1000, 13000 / 1.2) == PERF_SAME, "a faster clock alone accuses nobody");
	CHECK(state(b, 1200, 13000 / 1.2) == PERF_SAME, "nor is it an improvement");
	CHECK(state(b, 1000 / 1.15, 0) == PERF_REGRESSED, "without a pace, time alone counts");
	p = check(b, 1000 / 1.8, 13000 * 1.7);
	CHECK(p.cases[0].state == PERF_UNDECIDED && p.n_undecided == 1 && p.n_regressed == 0,
	      "slower, and so may be the machine: %s", perf_state_name(p.cases[0].state));
	CHECK(state(b, 1400, 13000 / 1.8) == PERF_UNDECIDED,
	      "a machine so much faster hides a regression");
	json_decref(b);
}

/* 0 to 1, SplitMix64. */
static double draw(uint64_t *x)
{
	uint64_t z = (*x += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.;
}

/* A core with a neighbour in `busy` percent of the samples: the pace takes 1.7 times, the program `cost`. */
static json_t *shared_core(double slower, int busy, double cost, int seed)
{
	enum { SESSIONS = 16, EACH = 60 };
	json_t *samples = json_array(), *paces = json_array(), *sizes = json_array();
	uint64_t x = (uint64_t)seed;

	for (int i = 0; i < SESSIONS * EACH; i++) {
		double noise, pace;
		bool shared;

		noise = 1 + (draw(&x) - 0.5) * 0.1;
		shared = draw(&x) * 100 < busy;
		pace = (shared ? 20400 : 12000) * (1 + draw(&x) * 0.04);
		json_array_append_new(samples,
				      json_real((shared ? 16000 / cost : 16000) * noise / slower));
		json_array_append_new(paces, json_real(pace));
	}
	for (int i = 0; i < SESSIONS; i++)
		json_array_append_new(sizes, json_integer(EACH));
	return json_pack("{s:{s:s, s:i}, s:{s:s}, s:i, s:[{s:s, s:s, s:s}], s:[{s:s, s:[{s:s, s:o, s:o, s:o}]}], s:s}",
			 "host", "cpu", "a cpu", "n_cpus", 2, "model", "sha256", "m", "threads", 1, "engines",
			 "name", "native", "isa", "c", "profile", "p", "cases", "name", "decode-16", "series",
			 "unit", "tokens/s", "samples", samples, "pace_ns", paces, "sessions", sizes,
			 "assay_build", "0");
}

static void test_shared_core(void)
{
	json_t *one = shared_core(1, 40, 1.6, 1), *b = NULL;
	const json_t *all[] = {one};
	const char *names[] = {"one"};
	static const struct {
		double slower;
		int busy;
		double cost;
		enum perf_state state;
	} rows[] = {{1.15, 80, 1.6, PERF_REGRESSED}, {1.15, 2, 1.6, PERF_REGRESSED},
		    {1.03, 80, 1.6, PERF_SAME}, {1.03, 2, 1.6, PERF_SAME}, {1, 98, 1.6, PERF_SAME},
		    {1 / 1.15, 80, 1.6, PERF_IMPROVED},
		    /* another neighbour, the same pace: the core to itself tells, without it nobody does */
		    {1.03, 80, 1.78, PERF_SAME}, {1.15, 80, 1.4, PERF_REGRESSED},
		    {1.03, 98, 1.78, PERF_UNDECIDED}, {1.15, 98, 1.6, PERF_UNDECIDED},
		    {1.15, 98, 1.45, PERF_UNDECIDED}, {1.35, 98, 1.6, PERF_REGRESSED}};

	baseline_make(all, names, 1, &b, NULL);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *now = shared_core(rows[i].slower, rows[i].busy, rows[i].cost, 7 + (int)i);
		struct perf_report p;
		struct err e = ERR_NONE;
		int r = baseline_check(b, now, 10, &p, &e);

		CHECK(r == 0 && p.cases[0].matched && p.cases[0].state == rows[i].state,
		      "%.2f times as long, the core shared for %d %% (%g): %s, %.3f [%.3f, %.3f], as timed %.3f %s",
		      rows[i].slower, rows[i].busy, rows[i].cost, perf_state_name(p.cases[0].state),
		      p.cases[0].paced.mid, p.cases[0].paced.low, p.cases[0].paced.high,
		      p.cases[0].change.mid, e.msg);
		json_decref(now);
	}
	json_decref(b);
	json_decref(one);
}

static void test_broken(void)
{
	static const double one[] = {1000};
	json_t *b = merged(one, NULL, 1), *now = receipt(1000, 0, 1);
	json_t *series = json_array_get(
		json_object_get(json_array_get(json_object_get(b, "cases"), 0), "series"), 0);
	struct perf_report p;
	struct err e = ERR_NONE;

	json_object_set_new(series, "sessions", json_pack("[i]", N + 1));
	CHECK(baseline_check(b, now, 10, &p, &e) < 0 && e.code == EXIT_RECEIPT_INVALID,
	      "more samples in sessions than there are: %s", e.msg);
	json_object_set_new(series, "sessions", json_pack("[i]", N - 1));
	CHECK(baseline_check(b, now, 10, &p, &e) < 0, "samples of no session: %s", e.msg);
	json_object_del(series, "sessions");
	CHECK(baseline_check(b, now, 10, &p, &e) == 0 && p.cases[0].n_before == 1,
	      "a baseline from before there were sessions is one");
	json_object_set_new(json_object_get(b, "host"), "cpu", json_string("another"));
	CHECK(baseline_check(b, now, 10, &p, &e) == 0 && !p.comparable && strstr(p.why, "cpu"),
	      "another host is not comparable: %s", p.why);
	json_decref(b);
	json_decref(now);
}

int main(void)
{
	test_sessions();
	test_pace();
	test_shared_core();
	test_broken();
	return TEST_END();
}
