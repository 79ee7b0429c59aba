/*
 * The real worker program over a socket pair: every engine it is linked with opens a generated
 * model and answers; missing and broken models, unknown requests, broken frames; its ends.
 */
#include "fixtures.h"
#include "serve/channel.h"
#include "test.h"

#include <math.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char worker[4096], model[] = "/tmp/assay-worker-test-XXXXXX";
static struct channel ch;
static struct wire_frame f;
static pid_t child;

static void next(void)
{
	do {
		if (channel_read(&ch, &f, NULL) != 1)
			f = (struct wire_frame){.type = WIRE_TYPE_END};
	} while (f.type == WIRE_NOTE);
}

static void become_worker(int fd, const char *engine)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", fd);
	setenv("ASSAY_WIRE_FD", number, 1);
	alarm(60);
	execl(worker, worker, "--engine", engine, (char *)NULL);
	_exit(127);
}

static void start(const char *engine)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) < 0)
		abort();
	fflush(stdout);
	child = fork();
	if (child == 0) {
		close(sv[0]);
		become_worker(sv[1], engine);
	}
	close(sv[1]);
	memset(&ch, 0, sizeof(ch));
	ch.fd = sv[0];
	next();
}

static int finish(void)
{
	int status;

	close(ch.fd);
	channel_free(&ch);
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

static void ask(enum wire_type type, const char *key, const char *value, const void *body, size_t n)
{
	wire_begin(&ch.out, type);
	if (key)
		wire_put(&ch.out, key, "%s", value);
	if (n)
		wire_body(&ch.out, body, n);
	if (channel_send(&ch, NULL) < 0)
		abort();
	next();
}

static bool failed_with(int code, const char *part)
{
	char text[ERR_MSG_MAX];

	snprintf(text, sizeof(text), "%.*s", (int)f.body_bytes, (const char *)f.body);
	if (f.type == WIRE_FAIL && wire_get_int(&f, "code", -1) == code && strstr(text, part))
		return true;
	printf("# %s code %lld: %s\n", wire_type_name(f.type),
	       (long long)wire_get_int(&f, "code", -1), text);
	return false;
}

static void test_session(const char *engine)
{
	int32_t ids[64];
	int n, n_vocab, rows = 0, records = 0;
	bool finite = true;
	char text[256];

	start(engine);
	CHECK(f.type == WIRE_HELLO && wire_get_int(&f, "protocol", 0) == WIRE_PROTOCOL, "%s: HELLO",
	      engine);
	wire_get(&f, "engine", 0, text, sizeof(text));
	CHECK_STR(text, engine, "%s: says its name", engine);
	ask(WIRE_OPEN, "model", "/nonexistent/model.gguf", NULL, 0);
	CHECK(failed_with(EXIT_MODEL_LOAD, "fetch-models"),
	      "%s: a missing model is code 10 with a hint", engine);
	ask(WIRE_OPEN, "model", worker, NULL, 0);
	CHECK(failed_with(EXIT_MODEL_LOAD, "fetch-models"),
	      "%s: a file that is no model is code 10 too", engine);
	ask((enum wire_type)99, NULL, NULL, NULL, 0);
	CHECK(failed_with(EXIT_USAGE, "99"), "%s: an unknown request is code 64", engine);
	ask(WIRE_OPEN, "model", model, NULL, 0);
	n_vocab = (int)wire_get_int(&f, "n_vocab", 0);
	CHECK(f.type == WIRE_OPENED && n_vocab > 256, "%s: then opens the model", engine);
	ask(WIRE_TEMPLATE, "name", "instruct", "hi", 2);
	CHECK(f.type == WIRE_TEMPLATED && f.body_bytes == 8 && memcmp(f.body, "Q: hi\nA:", 8) == 0,
	      "%s: a template", engine);
	ask(WIRE_TEMPLATE, "name", "nonesuch", "hi", 2);
	CHECK(failed_with(EXIT_TEMPLATE, "nonesuch"), "%s: an unknown template is code 4", engine);
	ask(WIRE_TOKENIZE, "add_bos", "1", "Hello there", 11);
	n = (int)(f.body_bytes / 4);
	CHECK(f.type == WIRE_TOKENS && n > 1 && n < 64, "%s: tokens", engine);
	memcpy(ids, f.body, (size_t)n * 4);
	ask(WIRE_EVALUATE, "trace", "all", ids, (size_t)n * 4);
	for (; f.type == WIRE_TRACE || f.type == WIRE_LOGITS; next()) {
		records += f.type == WIRE_TRACE;
		if (f.type != WIRE_LOGITS)
			continue;
		if (wire_get_int(&f, "pos", -1) != rows++ || f.body_bytes != (size_t)n_vocab * 4)
			break;
		for (int i = 0; i < n_vocab; i++)
			finite = finite && isfinite(((const float *)(const void *)f.body)[i]);
	}
	CHECK(f.type == WIRE_DONE && rows == n && finite, "%s: logits of every position", engine);
	CHECK(records > 17, "%s: %d trace records", engine, records);
	CHECK(wire_get_int(&f, "peak_kib", 0) > 0 && memmem(f.header, f.header_bytes, "kernel.", 7),
	      "%s: DONE with counters and peak memory", engine);
	CHECK(finish() == 0, "%s: ends when its descriptor closes", engine);
}

static void test_broken_frames(void)
{
	start("native");
	if (write(ch.fd, "\0\0\0\x10\0\0\1\0", 8) != 8)
		abort();
	next();
	CHECK(f.type == WIRE_TYPE_END && finish() == EXIT_WORKER,
	      "an oversize frame ends it with 6");
	start("native");
	if (write(ch.fd, "GET / HTTP/1.1\r\n", 16) != 16)
		abort();
	next();
	CHECK(f.type == WIRE_TYPE_END && finish() == EXIT_WORKER,
	      "what is no frame ends it with 6");
}

static bool gone(pid_t pid)
{
	for (int i = 0; i < 500; i++) {
		struct timespec t = {0, 10000000};

		if (kill(pid, 0) < 0)
			return true;
		waitpid(pid, NULL, WNOHANG);
		nanosleep(&t, NULL);
	}
	return false;
}

/* A parent that dies while the worker's descriptor is held open by somebody else. */
static void test_orphan(void)
{
	int sv[2], pid_pipe[2];
	pid_t parent, pid = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) < 0 || pipe(pid_pipe) < 0)
		abort();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	fflush(stdout);
	parent = fork();
	if (parent == 0) {
		pid_t w = fork();

		if (w == 0)
			become_worker(sv[1], "native");
		if (write(pid_pipe[1], &w, sizeof(w)) != sizeof(w))
			_exit(1);
		pause();
	}
	if (read(pid_pipe[0], &pid, sizeof(pid)) != sizeof(pid))
		abort();
	ch = (struct channel){.fd = sv[0]};
	next();
	kill(parent, SIGKILL);
	waitpid(parent, NULL, 0);
	CHECK(f.type == WIRE_HELLO && gone(pid),
	      "dies with its parent though the descriptor is open");
	close(sv[0]);
	close(sv[1]);
	channel_free(&ch);
}

static int run(const char *arg, const char *fd)
{
	int status;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		if (!freopen("/dev/null", "w", stderr) || !freopen("/dev/null", "w", stdout))
			_exit(126);
		if (fd)
			setenv("ASSAY_WIRE_FD", fd, 1);
		else
			unsetenv("ASSAY_WIRE_FD");
		execl(worker, worker, arg, (char *)NULL);
		_exit(127);
	}
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(void)
{
	struct fixture_options o = {.preset = "tiny-bitnet", .seed = 7};
	struct err e = ERR_NONE;

	signal(SIGPIPE, SIG_IGN);
	snprintf(worker, sizeof(worker), "%s/assay-worker", getenv("B") ? getenv("B") : "build/cc");
	if (mkstemp(model) < 0 || fixture_write(model, &o, &e) < 0) {
		CHECK(0, "the generated model: %s", e.msg);
		return TEST_END();
	}
	test_session("native");
	test_session("oracle");
	test_broken_frames();
	test_orphan();
	start("native");
	kill(child, SIGTERM);
	CHECK(finish() == 256 + SIGTERM, "SIGTERM ends it");
	CHECK(run(NULL, NULL) == EXIT_USAGE, "without ASSAY_WIRE_FD: 64");
	CHECK(run(NULL, "777") == EXIT_USAGE, "a descriptor that is not open: 64");
	CHECK(run("--nonsense", NULL) == EXIT_USAGE, "an unknown argument: 64");
	CHECK(run("--engines", NULL) == 0 && run("--version", NULL) == 0, "--engines, --version");
	unlink(model);
	return TEST_END();
}
