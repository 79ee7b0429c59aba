/*
 * The worker program: one engine, one conversation (include/wire.h), one parent.
 *
 *	assay-worker [--engine NAME]	ASSAY_WIRE_FD names the descriptor
 *	assay-worker --engines		lists the engines of this program
 *
 * Ends when the parent closes the descriptor, says BYE or dies, and on SIGTERM.
 */
#include "serve/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef ASSAY_BUILD_ID
#include "build_id.h"
#endif

static const struct engine_ops *find_engine(const char *name)
{
	for (int i = 0; engine_table[i]; i++)
		if (!name || strcmp(engine_table[i]->name, name) == 0)
			return engine_table[i];
	return NULL;
}

static int usage(const char *what)
{
	fprintf(stderr,
		"assay-worker: %s\nusage: assay-worker [--engine NAME | --engines | --version]\n",
		what);
	return EXIT_USAGE;
}

/* Signals as a fresh process has them, whatever the parent was doing with its own. */
static void own_signals(void)
{
	sigset_t none;

	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/*
 * Some references keep whole activations on the stack. The limit that counts for the main thread
 * and, by default, for all others is the one at exec, so the program starts itself once more.
 */
static void want_stack(size_t bytes, char **argv)
{
	struct rlimit r;

	if (!bytes || getenv("ASSAY_WORKER_STACK") || getrlimit(RLIMIT_STACK, &r) < 0)
		return;
	if (r.rlim_cur != RLIM_INFINITY && r.rlim_cur >= bytes)
		return;
	if (r.rlim_max != RLIM_INFINITY && r.rlim_max < bytes)
		bytes = r.rlim_max;
	r.rlim_cur = bytes;
	if (setrlimit(RLIMIT_STACK, &r) < 0 || setenv("ASSAY_WORKER_STACK", "set", 1) < 0)
		return;
	execv("/proc/self/exe", argv);
}

static int wire_descriptor(void)
{
	const char *text = getenv("ASSAY_WIRE_FD");
	char *end;
	long fd;

	if (!text || !*text)
		return -1;
	fd = strtol(text, &end, 10);
	if (*end || fd < 0 || fd > 1 << 20 || fcntl((int)fd, F_GETFD) < 0)
		return -1;
	return (int)fd;
}

int main(int argc, char **argv)
{
	const struct engine_ops *ops;
	const char *name = NULL;
	struct err e = ERR_NONE;
	int fd;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--engine") == 0 && i + 1 < argc) {
			name = argv[++i];
		} else if (strcmp(argv[i], "--engines") == 0) {
			for (int k = 0; engine_table[k]; k++)
				printf("%s\t%s\n", engine_table[k]->name,
				       engine_table[k]->features);
			return 0;
		} else if (strcmp(argv[i], "--version") == 0) {
			printf("assay-worker (build %s)\n", ASSAY_BUILD_ID);
			return 0;
		} else {
			return usage("unknown argument");
		}
	}
	ops = find_engine(name);
	if (!ops)
		return usage("no engine of that name; --engines lists them");
	fd = wire_descriptor();
	if (fd < 0)
		return usage("ASSAY_WIRE_FD names no open descriptor; assay starts this program");
	want_stack(worker_traits.stack_bytes, argv);
	own_signals();
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (serve(fd, ops, &worker_traits, &e) < 0) {
		fprintf(stderr, "assay-worker: %s\n", e.msg);
		return e.code;
	}
	return 0;
}
