/* The client and the child under it, against workers that this program plays itself. */
#include "test.h"

#include "sweep/client.h"

#include <signal.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

static void say(int fd, enum wire_type type, const char *key, const char *value, const char *body)
{
	struct wire_builder b = {0};
	struct err e = ERR_NONE;

	wire_begin(&b, type);
	if (key)
		wire_put(&b, key, "%s", value);
	if (body)
		wire_body(&b, body, strlen(body));
	if (wire_finish(&b, &e) < 0 || write(fd, b.buf, b.n) != (ssize_t)b.n)
		_exit(99);
	wire_builder_free(&b);
}

static bool hear(int fd, struct wire_decoder *d, struct wire_frame *f)
{
	struct err e = ERR_NONE;
	char buf[4096];
	ssize_t n;
	int r;

	while ((r = wire_next(d, f, &e)) == 0) {
		n = read(fd, buf, sizeof(buf));
		if (n <= 0 || wire_feed(d, buf, (size_t)n, &e) < 0)
			return false;
	}
	return r > 0;
}

/* How it misbehaves is told by the mode; "good" echoes the text of TOKENIZE as one NOTE. */
static int play_worker(const char *mode)
{
	struct wire_decoder d = {0};
	struct wire_frame f;
	int fd = atoi(getenv("ASSAY_WIRE_FD"));
	bool is_good = strcmp(mode, "good") == 0;

	if (strcmp(mode, "mute") == 0)
		pause();
	if (strcmp(mode, "other") == 0) {
		say(fd, WIRE_HELLO, "protocol", "7", NULL);
		pause();
	}
	say(fd, WIRE_HELLO, "protocol", "1", NULL);
	while (hear(fd, &d, &f) && f.type != WIRE_BYE) {
		if (strcmp(mode, "hang") == 0) {
			signal(SIGTERM, SIG_IGN);
			for (;;)
				pause();
		}
		if (strcmp(mode, "segv") == 0) {
			fprintf(stderr, "first\nabout to die\n");
			signal(SIGSEGV, SIG_DFL);	/* a sanitizer has its own */
			raise(SIGSEGV);
		}
		if (strcmp(mode, "abort") == 0) {
			fprintf(stderr, "ops.c:7: GGML_ASSERT(n > 0) failed\n#1 run ()\n[detached]\n");
			signal(SIGABRT, SIG_DFL);
			raise(SIGABRT);
		}
		if (strcmp(mode, "exit") == 0)
			_exit(3);
		if (strcmp(mode, "garbage") == 0 && write(fd, "garbage garbage garbage", 23) < 0)
			_exit(98);
		if (strcmp(mode, "chatter") == 0)
			for (int i = 0; i < 20000; i++)
				printf("line %d of much that nobody reads\n", i);
		if (strcmp(mode, "fail") == 0) {
			say(fd, WIRE_FAIL, "code", "10", "the model is broken");
			continue;
		}
		if (is_good)
			say(fd, WIRE_NOTE, NULL, NULL, "working");
		say(fd, WIRE_TOKENS, "n", "4", "abcd");
	}
	wire_decoder_free(&d);
	return 0;
}

static int count_body(void *ctx, const struct wire_frame *f, struct err *e)
{
	(void)e;
	if (f->type == WIRE_TOKENS)
		*(size_t *)ctx += f->body_bytes;
	return 0;
}

static int ask(struct client *c, size_t *bytes, struct err *e)
{
	struct wire_builder b = {0};
	int r;

	wire_begin(&b, WIRE_TOKENIZE);
	wire_body(&b, "x", 1);
	r = wire_finish(&b, e);
	if (r == 0)
		r = client_call(c, &b, count_body, bytes, e);
	wire_builder_free(&b);
	return r;
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check_failing(const char *self, const char *mode, int deadline_ms, int code,
			  const char *sentence)
{
	char engine[600];
	struct client_options o = {.engine = engine, .deadline_ms = deadline_ms};
	struct client *c = NULL;
	struct err e = ERR_NONE;
	size_t bytes = 0;
	double start = now_s();
	int r;

	snprintf(engine, sizeof(engine), "exec:exec %s %s", self, mode);
	r = client_open(&c, &o, &e);
	if (r == 0)
		r = ask(c, &bytes, &e);
	client_close(c);
	CHECK(r == -code && strstr(e.msg, sentence), "%s: code %d, \"%s\"", mode, r, e.msg);
	CHECK(now_s() - start < 10, "%s: over in time", mode);
}

int main(int argc, char **argv)
{
	char self[500], engine[600], protocol[8] = "";
	struct client_options o = {.engine = engine, .deadline_ms = 20000};
	struct client *c = NULL;
	struct err e = ERR_NONE;
	size_t bytes = 0;
	ssize_t n;

	if (argc > 1)
		return play_worker(argv[1]);
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = '\0';

	snprintf(engine, sizeof(engine), "exec:exec %s good", self);
	CHECK(client_open(&c, &o, &e) == 0, "open %s", e.msg);
	CHECK(client_hello(c, "protocol", protocol, sizeof(protocol)) && !strcmp(protocol, "1"),
	      "HELLO is kept");
	CHECK(ask(c, &bytes, &e) == 0 && ask(c, &bytes, &e) == 0 && bytes == 8, "two answers");
	client_close(c);

	snprintf(engine, sizeof(engine), "exec:exec %s chatter", self);
	bytes = 0;
	c = NULL;
	CHECK(client_open(&c, &o, &e) == 0 && ask(c, &bytes, &e) == 0 && bytes == 4,
	      "a worker that prints much is heard all the same");
	client_close(c);

	check_failing(self, "mute", 300, EXIT_WORKER, "passed its deadline");
	check_failing(self, "other", 3000, EXIT_WORKER, "speaks protocol 7, this program speaks 1");
	check_failing(self, "hang", 300, EXIT_WORKER, "passed its deadline");
	check_failing(self, "segv", 9000, EXIT_WORKER,
		      "was killed by signal 11 (Segmentation fault); its last words: about to die");
	check_failing(self, "abort", 9000, EXIT_WORKER,
		      "its last words: ops.c:7: GGML_ASSERT(n > 0) failed");
	check_failing(self, "exit", 9000, EXIT_WORKER, "exited with status 3");
	check_failing(self, "garbage", 9000, EXIT_WORKER, "broke the protocol");
	check_failing(self, "fail", 9000, EXIT_MODEL_LOAD, "the model is broken");

	o.engine = "no-such-reference";
	CHECK(client_open(&c, &o, &e) == -EXIT_NO_REFERENCE, "no reference");
	CHECK_STR(
	    e.msg,
	    "no engine and no reference is called \"no-such-reference\"; `assay doctor` lists "
	    "the references, exec:COMMAND runs any program",
	    "the sentence names the command");
	return TEST_END();
}
