/*
 * A worker that goes wrong in one way: fake_worker MODE. Up to the point where it goes wrong it
 * speaks wire.h correctly for a made-up model: 16 ids, one id per byte of text (byte % 16), and
 * logits that depend on position and id alone. What the modes do:
 *
 *	good		everything right; the base of all others
 *	shifted		right, but every logit from position 2 on is 1.0 higher at id 3
 *	tokens		tokenizes to other ids
 *	nan		one logit of position 1 is NaN
 *	no-hello	never says HELLO, waits
 *	protocol	says HELLO with protocol 99
 *	exit		ends with status 3 before HELLO
 *	hang		never answers EVALUATE; obeys SIGTERM
 *	hang-hard	the same and ignores SIGTERM
 *	die		SIGSEGV in the middle of EVALUATE
 *	die-once	the same, but only while the file $FAKE_WORKER_ONCE does not exist; makes it
 *	garbage		writes text instead of an answer to EVALUATE
 *	half		writes half a frame and closes
 *	half-hang	writes half a frame and waits
 *	oversize	announces a payload of 65 MiB
 *	late		answers EVALUATE 3 s late ($FAKE_WORKER_LATE_MS)
 *	flood		sends NOTE frames without end
 *	chatter		prints 64 MiB to stdout and stderr, then answers
 *	two		answers EVALUATE with two terminal frames
 *	skip		leaves out position 1
 *	order		swaps positions 0 and 1
 *	short		sends logits of 15 values
 *	open-fails	FAIL code 10 to OPEN
 *	orphan		starts a child that would outlive it and writes its pid to $FAKE_WORKER_PID
 */
#include "wire.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { VOCAB = 16 };

static const char *mode;
static int fd;
static struct wire_builder b;

static bool is(const char *name)
{
	return strcmp(mode, name) == 0;
}

static void put_all(const void *bytes, size_t n)
{
	const char *p = bytes;

	while (n) {
		ssize_t k = write(fd, p, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			exit(1);
		p += k;
		n -= (size_t)k;
	}
}

static void send_frame(void)
{
	struct err e = ERR_NONE;

	if (wire_finish(&b, &e) < 0)
		abort();
	put_all(b.buf, b.n);
}

static void sleep_ms(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

static void wait_for_ever(void)
{
	for (;;)
		pause();
}

static void hello(void)
{
	wire_begin(&b, WIRE_HELLO);
	wire_put(&b, "protocol", "%d", is("protocol") ? 99 : WIRE_PROTOCOL);
	wire_put(&b, "engine", "fake");
	wire_put(&b, "build", "%s", mode);
	wire_put(&b, "isa", "none");
	wire_put(&b, "features", "tokenize,evaluate");
	send_frame();
}

static void opened(void)
{
	if (is("open-fails")) {
		static const char why[] = "this model cannot be opened";

		wire_begin(&b, WIRE_FAIL);
		wire_put(&b, "code", "%d", EXIT_MODEL_LOAD);
		wire_body(&b, why, sizeof(why) - 1);
		send_frame();
		return;
	}
	wire_begin(&b, WIRE_OPENED);
	wire_put(&b, "arch", "fake");
	wire_put(&b, "n_vocab", "%d", VOCAB);
	wire_put(&b, "n_layer", "1");
	wire_put(&b, "n_embd", "4");
	wire_put(&b, "n_ctx", "4096");
	wire_put(&b, "bos", "-1");
	wire_put(&b, "eos", "-1");
	wire_put(&b, "eot", "-1");
	wire_put(&b, "add_bos", "0");
	wire_put(&b, "weights", "f32:1");
	send_frame();
}

static void tokens(const struct wire_frame *f)
{
	int shift = is("tokens");

	wire_begin(&b, WIRE_TOKENS);
	wire_put(&b, "n", "%zu", f->body_bytes);
	for (size_t i = 0; i < f->body_bytes; i++) {
		int32_t id = (f->body[i] + (i == 1 ? shift : 0)) % VOCAB;

		wire_body(&b, &id, sizeof(id));
	}
	send_frame();
}

static void pieces(const struct wire_frame *f)
{
	wire_begin(&b, WIRE_PIECES);
	for (size_t i = 0; i < f->body_bytes / 4; i++) {
		int32_t id;
		uint32_t n = 1;
		char c;

		memcpy(&id, f->body + 4 * i, 4);
		c = (char)('a' + id);
		wire_body(&b, &n, sizeof(n));
		wire_body(&b, &c, 1);
	}
	send_frame();
}

/* The id of the greatest logit is (id + pos) % VOCAB. */
static int32_t logits(float *out, int pos, int32_t id)
{
	for (int i = 0; i < VOCAB; i++)
		out[i] = (float)((i * 7 + id * 3 + pos) % VOCAB) / 8;
	out[(id + pos) % VOCAB] = 4;
	if (is("shifted") && pos >= 2)
		out[3] += 1;
	if (is("nan") && pos == 1)
		out[5] = NAN;
	return (id + pos) % VOCAB;
}

static void position(int pos, int step, int32_t token, const float *x)
{
	if (is("skip") && pos == 1)
		return;
	if (is("order") && pos < 2)
		pos = 1 - pos;
	wire_begin(&b, WIRE_LOGITS);
	wire_put(&b, "pos", "%d", pos);
	wire_put(&b, "step", "%d", step);
	if (token >= 0)
		wire_put(&b, "token", "%d", (int)token);
	wire_body(&b, x, (VOCAB - (size_t)is("short")) * sizeof(float));
	send_frame();
}

static void goes_wrong(void)
{
	const char *path;

	if (is("hang-hard"))
		signal(SIGTERM, SIG_IGN);
	if (is("hang") || is("hang-hard"))
		wait_for_ever();
	signal(SIGSEGV, SIG_DFL);	/* a sanitizer has its own */
	if (is("die") || is("die-once"))
		signal(SIGSEGV, SIG_DFL);	/* a sanitizer would turn it into an exit */
	if (is("die"))
		raise(SIGSEGV);
	if (is("die-once") && (path = getenv("FAKE_WORKER_ONCE")) && access(path, F_OK) != 0) {
		FILE *made = fopen(path, "w");

		if (made)
			fclose(made);
		raise(SIGSEGV);
	}
	if (is("garbage"))
		put_all("llama_model_loader: loaded meta data with 24 key-value pairs\n", 61);
	if (is("half") || is("half-hang"))
		put_all("\100\0\0\0\2\0\14\0a", 9);
	if (is("half"))
		exit(0);
	if (is("half-hang"))
		wait_for_ever();
	if (is("oversize"))
		put_all("\0\0\20\4\0\0\14\0", 8);
	if (is("late"))
		sleep_ms(getenv("FAKE_WORKER_LATE_MS") ? atol(getenv("FAKE_WORKER_LATE_MS"))
						       : 3000);
	while (is("flood")) {
		wire_begin(&b, WIRE_NOTE);
		wire_body(&b, "still here", 10);
		send_frame();
	}
	for (int i = 0; is("chatter") && i < 1 << 20; i++) {
		static const char line[65] =
			"this engine likes to talk about itself and never stops doing it\n";

		if (write(i & 1, line, 64) < 0 || (i & 1) == 0)
			fputs(line, stderr);
	}
}

static void evaluate(const struct wire_frame *f)
{
	int n = (int)wire_get_int(f, "tokens", (int64_t)(f->body_bytes / 4));
	int greedy = (int)wire_get_int(f, "greedy", 0), done = 0;
	int32_t id = 0, next = 0;
	float x[VOCAB];

	for (int pos = 0; pos < n + (greedy > 0 ? greedy - 1 : 0); pos++) {
		int step = pos < n ? 0 : pos - n + 1;

		if (pos < n)
			memcpy(&id, f->body + 4 * pos, 4);
		else
			id = next;
		next = logits(x, pos, id);
		position(pos, step, pos + 1 < n ? -1 : next, x);
		if (pos == 0)
			goes_wrong();
		done++;
	}
	wire_begin(&b, WIRE_DONE);
	wire_put(&b, "n_pos", "%d", done);
	wire_put(&b, "eval_us", "%d", 100 * done);
	wire_put(&b, "kernel.fake", "%d", done);
	send_frame();
	if (is("two"))
		send_frame();
}

static void answer(const struct wire_frame *f)
{
	switch (f->type) {
	case WIRE_OPEN:
		opened();
		return;
	case WIRE_TOKENIZE:
		tokens(f);
		return;
	case WIRE_DETOKENIZE:
		pieces(f);
		return;
	case WIRE_EVALUATE:
		evaluate(f);
		return;
	case WIRE_BYE:
		exit(0);
	default:
		wire_begin(&b, WIRE_FAIL);
		wire_put(&b, "code", "%d", EXIT_USAGE);
		wire_body(&b, "unknown request", 15);
		send_frame();
	}
}

static void start_orphan(void)
{
	const char *path = getenv("FAKE_WORKER_PID");
	pid_t child = fork();
	FILE *f;

	if (child == 0)
		wait_for_ever();
	f = path ? fopen(path, "w") : NULL;
	if (f) {
		fprintf(f, "%d\n", (int)child);
		fclose(f);
	}
}

int main(int argc, char **argv)
{
	const char *number = getenv("ASSAY_WIRE_FD");
	struct wire_decoder d = {0};
	struct wire_frame f;
	struct err e = ERR_NONE;
	uint8_t buf[65536];
	ssize_t n;

	/* --engine NAME may come first, as the real worker's arguments do */
	mode = argc > 1 ? argv[argc - 1] : "good";
	fd = number ? atoi(number) : 3;
	signal(SIGPIPE, SIG_IGN);
	if (is("exit"))
		return 3;
	if (is("no-hello"))
		wait_for_ever();
	if (is("orphan"))
		start_orphan();
	hello();
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		int rc = wire_feed(&d, buf, (size_t)n, &e);

		while (rc >= 0 && (rc = wire_next(&d, &f, &e)) == 1)
			answer(&f);
		if (rc < 0) {
			fprintf(stderr, "fake_worker: %s\n", e.msg);
			return 1;
		}
	}
	wire_decoder_free(&d);
	wire_builder_free(&b);
	return 0;
}
