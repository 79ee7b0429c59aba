#include "toolchain.h"

#include "paths.h"
#include "process.h"

#include <ctype.h>
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { VERSIONS_MAX = 32, JOB_KIB = 1536 * 1024 };

static const char probe_c[] = "#include <math.h>\n#include <stdint.h>\n"
			      "int probe(int n);\nint probe(int n) { return (int)sqrt(n); }\n";
static const char probe_cxx[] =
	"#include <chrono>\n#include <string>\n#include <thread>\n#include <vector>\n"
	"extern \"C\" int probe(int n);\n"
	"int main()\n{\n\tstd::vector<std::string> v(3, \"x\");\n\tint r = 0;\n"
	"\tstd::thread t([&] { r = probe(9); });\n\tt.join();\n"
	"\tauto now = std::chrono::steady_clock::now().time_since_epoch().count();\n"
	"\treturn r == (int)v.size() && now != 0 ? 0 : 1;\n}\n";

struct probe {
	struct toolchain *t;
	char dir[PATH_MAX];
	struct err *e;
	bool interrupted;	/* e says so; nothing more is tried */
};

static void tell(struct probe *p, const char *name, const char *what)
{
	size_t n = strlen(p->t->tried);

	snprintf(p->t->tried + n, sizeof(p->t->tried) - n, "%s%s: %.300s", n ? "\n" : "", name,
		 what);
}

static void first_line(char *text, const char *prefer)
{
	char *at = prefer ? strstr(text, prefer) : NULL;

	while (at && at > text && at[-1] != '\n')
		at--;
	if (at)
		memmove(text, at, strlen(at) + 1);
	text[strcspn(text, "\n")] = '\0';
}

/* Runs a step of the probe; false and a line in `tried` when it fails. */
static bool step(struct probe *p, const char *name, const char *what, const char *const *argv)
{
	struct process_result done;
	struct err why = ERR_NONE;
	char *text = NULL, line[400];

	if (p->interrupted)
		return false;
	if (process_capture(argv, &text, &done, &why) < 0) {
		tell(p, name, why.msg);
		p->interrupted = why.code == EXIT_INTERRUPTED;
		if (p->interrupted)
			*p->e = why;
		return false;
	}
	if (done.status == 0) {
		free(text);
		return true;
	}
	first_line(text, "error");
	snprintf(line, sizeof(line), "%s: %s", what, *text ? text : "failed without a word");
	tell(p, name, line);
	free(text);
	return false;
}

static bool compiles_and_runs(struct probe *p, const char *name, const char *cc, const char *cxx)
{
	char c[PATH_MAX + 16], o[PATH_MAX + 16], cpp[PATH_MAX + 16], exe[PATH_MAX + 16];
	const char *one[] = {cc, "-std=c11", "-c", c, "-o", o, NULL};
	const char *two[] = {cxx, "-std=c++17", "-pthread", cpp, o, "-lm", "-o", exe, NULL};
	const char *three[] = {exe, NULL};

	snprintf(c, sizeof(c), "%s/probe.c", p->dir);
	snprintf(o, sizeof(o), "%s/probe.o", p->dir);
	snprintf(cpp, sizeof(cpp), "%s/main.cpp", p->dir);
	snprintf(exe, sizeof(exe), "%s/probe", p->dir);
	unlink(exe);
	return step(p, name, "does not compile C11", one) &&
	       step(p, name, "does not compile or link C++17", two) &&
	       step(p, name, "what it compiles does not run", three);
}

static void ask(const char *program, const char *flag, char *out, size_t size)
{
	const char *argv[] = {program, flag, NULL};
	struct process_result done;
	struct err ignored;
	char *text = NULL;

	out[0] = '\0';
	if (process_capture(argv, &text, &done, &ignored) == 0 && done.status == 0) {
		first_line(text, NULL);
		snprintf(out, size, "%s", text);
	}
	free(text);
}

static bool try_pair(struct probe *p, const char *cc_name, const char *cxx_name)
{
	struct toolchain *t = p->t;
	char name[300];

	snprintf(name, sizeof(name), "%.140s + %.140s", cc_name, cxx_name);
	if (!process_which(cc_name, t->cc, sizeof(t->cc))) {
		tell(p, cc_name, "not in PATH");
		return false;
	}
	if (!process_which(cxx_name, t->cxx, sizeof(t->cxx))) {
		tell(p, name, "the C++ half is not in PATH");
		return false;
	}
	if (!compiles_and_runs(p, name, t->cc, t->cxx))
		return false;
	ask(t->cc, "--version", t->version, sizeof(t->version));
	ask(t->cc, "-dumpmachine", t->machine, sizeof(t->machine));
	snprintf(t->family, sizeof(t->family), "%s", strstr(t->version, "clang") ? "clang" : "gcc");
	tell(p, name, t->version);
	return true;
}

static int newest_first(const void *a, const void *b)
{
	return *(const int *)b - *(const int *)a;
}

/* Numbers N of NAME-N in PATH, newest first. */
static int versions_of(const char *name, int out[VERSIONS_MAX])
{
	const char *path = getenv("PATH");
	size_t len = strlen(name);
	int n = 0;

	for (const char *p = path ? path : ""; *p;) {
		size_t dir_len = strcspn(p, ":");
		char dir[PATH_MAX];
		struct dirent *d;
		DIR *list;

		snprintf(dir, sizeof(dir), "%.*s", (int)dir_len, p);
		p += dir_len + (p[dir_len] == ':');
		list = opendir(dir);
		while (list && (d = readdir(list))) {
			char *end;
			long v;

			if (strncmp(d->d_name, name, len) != 0 || d->d_name[len] != '-' ||
			    !isdigit((unsigned char)d->d_name[len + 1]))
				continue;
			v = strtol(d->d_name + len + 1, &end, 10);
			if (*end == '\0' && n < VERSIONS_MAX)
				out[n++] = (int)v;
		}
		if (list)
			closedir(list);
	}
	qsort(out, (size_t)n, sizeof(out[0]), newest_first);
	return n;
}

static bool try_family(struct probe *p, const char *family)
{
	bool clang = strcmp(family, "clang") == 0;
	const char *cc = clang ? "clang" : "gcc", *cxx = clang ? "clang++" : "g++";
	int versions[VERSIONS_MAX], n;

	if (try_pair(p, cc, cxx))
		return true;
	n = versions_of(cc, versions);
	for (int i = 0; i < n; i++) {
		char a[32], b[32];

		if (i > 0 && versions[i] == versions[i - 1])
			continue;
		snprintf(a, sizeof(a), "%s-%d", cc, versions[i]);
		snprintf(b, sizeof(b), "%s-%d", cxx, versions[i]);
		if (try_pair(p, a, b))
			return true;
	}
	return false;
}

static bool try_all(struct probe *p, const char *order)
{
	const char *cc = getenv("CC"), *cxx = getenv("CXX");
	char family[16];

	if (cc && *cc && !(cxx && *cxx))
		tell(p, "$CC", "set without $CXX: both are needed");
	if (cxx && *cxx && !(cc && *cc))
		tell(p, "$CXX", "set without $CC: both are needed");
	if (cc && *cc && cxx && *cxx && try_pair(p, cc, cxx))
		return true;
	for (const char *s = order; *s;) {
		size_t n = strcspn(s, " ");

		snprintf(family, sizeof(family), "%.*s", (int)n, s);
		if (try_family(p, family))
			return true;
		s += n + strspn(s + n, " ");
	}
	return try_pair(p, "cc", "c++");
}

static int write_probe(struct probe *p)
{
	char path[PATH_MAX + 16];
	const char *tmp = getenv("TMPDIR");
	int r;

	r = paths_format(p->dir, sizeof(p->dir), p->e, "%s/assay-probe-XXXXXX",
			 tmp && *tmp ? tmp : "/tmp");
	if (r < 0)
		return r;
	if (!mkdtemp(p->dir))
		return paths_errno(p->e, "creating", p->dir);
	snprintf(path, sizeof(path), "%s/probe.c", p->dir);
	r = paths_write(path, probe_c, strlen(probe_c), p->e);
	snprintf(path, sizeof(path), "%s/main.cpp", p->dir);
	return r < 0 ? r : paths_write(path, probe_cxx, strlen(probe_cxx), p->e);
}

/* It is there and can keep what it compiles: with a HOME that cannot be written it fails instead of compiling. */
static void find_ccache(struct probe *p)
{
	const char *wanted = getenv("ASSAY_CCACHE");
	struct toolchain *t = p->t;
	char c[PATH_MAX + 16], o[PATH_MAX + 16];
	const char *argv[] = {t->ccache, t->cc, "-std=c11", "-c", c, "-o", o, NULL};

	snprintf(c, sizeof(c), "%s/probe.c", p->dir);
	snprintf(o, sizeof(o), "%s/cached.o", p->dir);
	if ((wanted && strcmp(wanted, "0") == 0) ||
	    !process_which("ccache", t->ccache, sizeof(t->ccache)) ||
	    !step(p, "ccache", "left out, it does not compile", argv))
		t->ccache[0] = '\0';
}

static int find_builders(struct toolchain *t, struct err *e)
{
	if (!process_which("cmake", t->cmake, sizeof(t->cmake)))
		return err_set(e, EXIT_REFERENCE_BUILD,
			       "cmake is not in PATH; a reference needs cmake 3.14 or newer "
			       "(Debian: apt-get install cmake)");
	ask(t->cmake, "--version", t->cmake_version, sizeof(t->cmake_version));
	if (!process_which("ninja", t->ninja, sizeof(t->ninja)))
		t->ninja[0] = '\0';
	if (!process_which("make", t->make, sizeof(t->make)))
		t->make[0] = '\0';
	if (!t->ninja[0] && !t->make[0])
		return err_set(e, EXIT_REFERENCE_BUILD,
			       "neither ninja nor make is in PATH (Debian: apt-get install "
			       "ninja-build)");
	return 0;
}

int toolchain_probe(struct toolchain *t, const char *order, struct err *e)
{
	struct probe p = {.t = t, .e = e};
	struct err ignored;
	bool found;
	int r;

	memset(t, 0, sizeof(*t));
	r = write_probe(&p);
	if (r < 0)
		return r;
	found = try_all(&p, order);
	if (found)
		find_ccache(&p);
	paths_remove(p.dir, &ignored);
	if (p.interrupted)
		return -EXIT_INTERRUPTED;
	if (!found)
		return err_set(
			e, EXIT_REFERENCE_BUILD,
			"no C and C++ compiler works here (Debian: apt-get install clang, or g++). "
			"Tried:\n%s",
			t->tried);
	return find_builders(t, e);
}

/* ---- the machine -------------------------------------------------------------------------- */

/* Names as in /proc/cpuinfo; what compilers use when told -march=native. */
static const char *const feature_names[] = {
	"ssse3", "sse4_1", "sse4_2", "sse4a", "popcnt", "abm", "movbe", "adx", "fma4", "xop", "tbm",
	"avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "gfni", "vaes", "vpclmulqdq", "sha_ni",
	"avx_vnni", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd", "avx512ifma",
	"avx512vbmi", "avx512_vbmi2", "avx512_vnni", "avx512_bitalg", "avx512_vpopcntdq",
	"avx512_vp2intersect", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
	"asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", NULL};

static bool has_word(const char *words, const char *word, size_t n)
{
	for (const char *p = words; (p = strstr(p, word)); p += n)
		if ((p == words || p[-1] == ' ' || p[-1] == '\t') &&
		    (p[n] == ' ' || p[n] == '\0' || p[n] == '\n'))
			return true;
	return false;
}

static void cpu_flags(char *line, size_t size)
{
	FILE *f = fopen("/proc/cpuinfo", "re");

	line[0] = '\0';
	while (f && fgets(line, (int)size, f))
		if (strncmp(line, "flags", 5) == 0 || strncmp(line, "Features", 8) == 0)
			break;
		else
			line[0] = '\0';
	if (f)
		fclose(f);
}

void toolchain_cpu_features(char *out, size_t size)
{
	char flags[8192];
	size_t n = 0;

	cpu_flags(flags, sizeof(flags));
	out[0] = '\0';
	for (int i = 0; feature_names[i]; i++)
		if (has_word(flags, feature_names[i], strlen(feature_names[i])))
			n += (size_t)snprintf(out + n, size - n, "%s%s", n ? " " : "",
					      feature_names[i]);
}

const char *toolchain_cpu_lacks(const char *features, char *out, size_t size)
{
	char flags[8192];

	cpu_flags(flags, sizeof(flags));
	for (const char *p = features ? features : ""; *p;) {
		size_t n = strcspn(p, " ");

		snprintf(out, size, "%.*s", (int)n, p);
		if (n > 0 && !has_word(flags, out, n))
			return out;
		p += n + strspn(p + n, " ");
	}
	return NULL;
}

static long available_kib(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char line[256];
	long kib = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %ld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

int toolchain_jobs(void)
{
	const char *given = getenv("ASSAY_JOBS");
	long kib = available_kib();
	int cores = 1, by_memory;
	cpu_set_t set;

	if (given && atoi(given) > 0)
		return atoi(given);
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		cores = CPU_COUNT(&set);
	by_memory = kib > 0 ? (int)(kib / JOB_KIB) : cores;
	if (by_memory < 1)
		by_memory = 1;
	return cores < by_memory ? cores : by_memory;
}
