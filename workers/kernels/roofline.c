#include "roofline.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 256, PASSES = 5, WINDOW_MS = 4, WINDOWS_MAX = 200, WINDOWS_PER_PASS = 8 };

struct job {
	pthread_t thread;
	const uint8_t *p;
	size_t n;
	roofline_read_fn *read;
	roofline_int8_fn *int8;
	int64_t rounds, macs;
	uint64_t sum;
};

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

uint64_t roofline_read_c(const uint8_t *p, size_t n)
{
	uint64_t sum = 0, x;

	for (size_t i = 0; i < n; i += 8) {
		memcpy(&x, p + i, 8);
		sum += x;
	}
	return sum;
}

static void *work(void *arg)
{
	struct job *j = arg;

	if (j->p)
		j->sum = j->read(j->p, j->n);
	else
		j->sum = (uint64_t)j->int8(j->rounds, &j->macs);
	return NULL;
}

/* Seconds for all jobs side by side; negative when a thread could not be had. */
static double run(struct job *jobs, int n)
{
	double start = now_s();

	for (int i = 1; i < n; i++)
		if (pthread_create(&jobs[i].thread, NULL, work, &jobs[i]) != 0) {
			while (--i > 0)
				pthread_join(jobs[i].thread, NULL);
			return -1;
		}
	work(&jobs[0]);
	for (int i = 1; i < n; i++)
		pthread_join(jobs[i].thread, NULL);
	return now_s() - start;
}

static void choose(const struct cpu_flags *cpu, roofline_read_fn **read, roofline_int8_fn **int8)
{
	*read = roofline_read_c;
	*int8 = NULL;
#if defined(__x86_64__)
	if (cpu->avx512f && cpu->avx512bw && cpu->avx512vl && cpu->avx512_vnni) {
		*read = roofline_read_avx512vnni;
		*int8 = roofline_int8_avx512vnni;
	} else if (cpu->avx2 && cpu->fma) {
		*read = roofline_read_avx2;
		*int8 = roofline_int8_avx2;
	}
#else
	(void)cpu;
#endif
}

/* GB/s of one run: thread i reads n bytes at p + i · apart. */
static double read_once(roofline_read_fn *read, struct job *jobs, int n_threads, const uint8_t *p,
			size_t n, size_t apart)
{
	double s;

	for (int i = 0; i < n_threads; i++)
		jobs[i] = (struct job){.p = p + apart * (size_t)i, .n = n, .read = read};
	s = run(jobs, n_threads);
	return s > 0 ? (double)n * n_threads / s * 1e-9 : 0;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double middle(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), by_value);
	return v[n / 2];
}

/* A buffer on huge pages, or a file's pages. */
static uint8_t *map_bytes(const char *file, size_t *bytes, struct roofline *l, struct err *e)
{
	uint8_t *p = MAP_FAILED;
	struct stat st;
	int fd;

	if (!file) {
		*bytes = (size_t)ROOFLINE_BUFFER_MIB << 20;
		p = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED) {
			err_set(e, EXIT_INFERENCE, "no %d MiB of memory to measure reading with",
				ROOFLINE_BUFFER_MIB);
			return NULL;
		}
		l->huge_pages = madvise(p, *bytes, MADV_HUGEPAGE) == 0;
		memset(p, 1, *bytes);
		return p;
	}
	fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0) {
		*bytes = (size_t)st.st_size;
		p = mmap(NULL, *bytes, PROT_READ, MAP_SHARED, fd, 0);
	}
	if (p == MAP_FAILED) {
		err_set(e, EXIT_MODEL_LOAD, "%s cannot be read to measure reading: %s", file,
			strerror(errno));
		p = NULL;
	}
	if (fd >= 0)
		close(fd);
	return p;
}

static int measure_read(roofline_read_fn *read, struct job *jobs, const char *file,
			struct roofline *l, struct err *e)
{
	size_t bytes = 0, part;
	uint8_t *p = map_bytes(file, &bytes, l, e);
	double whole[PASSES];
	int n_whole = 0;

	if (!p)
		return -e->code;
	part = bytes / (size_t)l->n_threads & ~(size_t)4095;
	if (file) /* its pages are mapped when they are first touched */
		read_once(read, jobs, l->n_threads, p, part, part);
	for (int k = 0; k < PASSES; k++) {
		/* whole, and in windows that fit between other processes' time slices */
		size_t piece = k & 1 ? (part / WINDOWS_PER_PASS) & ~(size_t)4095 : part;

		for (size_t at = 0; piece > 0 && at + piece <= part; at += piece) {
			double got = read_once(read, jobs, l->n_threads, p + at, piece, part);

			l->read_gb_s = got > l->read_gb_s ? got : l->read_gb_s;
			if (piece == part)
				whole[n_whole++] = got;
		}
	}
	munmap(p, bytes);
	l->read_sustained_gb_s = n_whole ? middle(whole, n_whole) : 0;
	return 0;
}

/* GMAC/s of one run; *s: how long it took. 0 when a thread could not be had. */
static double int8_once(roofline_int8_fn *int8, struct job *jobs, int n, int64_t rounds, double *s)
{
	double macs = 0;

	for (int i = 0; i < n; i++)
		jobs[i] = (struct job){.int8 = int8, .rounds = rounds};
	*s = run(jobs, n);
	for (int i = 0; i < n; i++)
		macs += (double)jobs[i].macs;
	return *s > 0 ? macs / *s * 1e-9 : 0;
}

/* The best of many windows that fit between other processes' time slices. */
static void measure_int8(roofline_int8_fn *int8, struct job *jobs, struct roofline *l)
{
	int64_t rounds = 1 << 10;
	double s = 0, spent = 0;

	while (s < WINDOW_MS * 1e-3 && rounds < (int64_t)1 << 40) {
		rounds *= 2;
		if (int8_once(int8, jobs, l->n_threads, rounds, &s) <= 0)
			return;
	}
	for (int k = 0; k < WINDOWS_MAX && spent < ROOFLINE_MS * 1e-3; k++) {
		double got = int8_once(int8, jobs, l->n_threads, rounds, &s);

		if (got <= 0)
			return;
		l->int8_gmac_s = got > l->int8_gmac_s ? got : l->int8_gmac_s;
		spent += s;
	}
}

int roofline_measure(const struct cpu_flags *cpu, int n_threads, const char *file,
		     struct roofline *out, struct err *e)
{
	struct roofline l = {.n_threads = n_threads};
	struct job jobs[THREADS_MAX];
	roofline_read_fn *read;
	roofline_int8_fn *int8;
	int r;

	if (n_threads < 1 || n_threads > THREADS_MAX)
		return err_set(e, EXIT_USAGE, "%d threads: expected 1 to %d", n_threads,
			       THREADS_MAX);
	choose(cpu, &read, &int8);
	r = measure_read(read, jobs, file, &l, e);
	if (r < 0)
		return r;
	if (int8 && !file)
		measure_int8(int8, jobs, &l);
	*out = l;
	return 0;
}
