/*
 * serve() in a child of this test over a socket pair, with an engine small enough to check by
 * hand: ids are bytes, logits[i] = id · 10 + pos + i, one traced stage, one weight.
 */
#include "blake3.h"
#include "serve/serve.h"
#include "test.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { VOCAB = 8, EMBD = 2, BIG = 3 << 20 };	/* BIG floats need three parts */

struct engine {
	struct engine_info info;
	uint64_t calls;
};

static int toy_open(struct engine **out, const struct engine_options *o, struct err *e)
{
	struct engine *g;

	if (strcmp(o->model_path, "toy.gguf") != 0)
		return err_set(e, EXIT_MODEL_LOAD, "cannot open %s", o->model_path);
	g = calloc(1, sizeof(*g));
	g->info = (struct engine_info){.arch = "toy",
				       .weights = "f32:1",
				       .n_vocab = VOCAB,
				       .n_layer = 1,
				       .n_embd = EMBD,
				       .n_ctx = 16,
				       .bos = 1,
				       .eos = -1,
				       .eot = -1,
				       .add_bos = true};
	snprintf(g->info.note, sizeof(g->info.note), "threads=%d kv_f32=%d %s%s", o->n_threads,
		 o->kv_f32, o->n_overrides ? o->overrides[0] : "", o->profile ? o->profile : "");
	if (o->on_note)
		o->on_note(o->note_ctx, "loading");
	*out = g;
	return 0;
}

static const struct engine_info *toy_info(const struct engine *g)
{
	return &g->info;
}

static int toy_tokenize(struct engine *g, const char *text, size_t bytes, bool add_bos,
			bool parse_special, int32_t **ids, int *n_ids, struct err *e)
{
	int n = 0;

	(void)g;
	if (parse_special)
		return err_set(e, EXIT_INFERENCE, "no special tokens here");
	*ids = calloc(bytes + 1, sizeof(**ids));
	if (add_bos)
		(*ids)[n++] = 1;
	for (size_t i = 0; i < bytes; i++)
		(*ids)[n++] = text[i] % VOCAB;
	*n_ids = n;
	return 0;
}

static int toy_piece(struct engine *g, int32_t id, char *out, size_t size, struct err *e)
{
	(void)g;
	if (id >= VOCAB)
		return err_set(e, EXIT_USAGE, "no id %d", (int)id);
	return snprintf(out, size, "<%d>", (int)id);
}

static int toy_evaluate(struct engine *g, const struct engine_eval *q, struct err *e)
{
	int total = q->n_tokens + (q->n_greedy ? q->n_greedy - 1 : 0), rc = 0;
	int32_t id = 0;

	for (int pos = 0; pos < total && rc == 0; pos++) {
		float x[VOCAB];

		id = pos < q->n_tokens ? q->tokens[pos] : VOCAB - 1;
		if (id == 5)
			return err_set(e, EXIT_INFERENCE, "position %d holds a five", pos);
		for (int i = 0; i < VOCAB; i++)
			x[i] = (float)(id * 10 + pos + i);
		if (q->splice)
			x[0] = q->splice[(ptrdiff_t)EMBD * pos];
		g->calls++;
		rc = q->on_logits(q->ctx, pos, pos < q->n_tokens ? 0 : pos - q->n_tokens + 1,
				  pos < q->n_tokens - 1 ? -1 : VOCAB - 1,
				  q->logits == ENGINE_LOGITS_NONE ? NULL : x);
	}
	if (rc == 0 && q->trace_stages & (uint64_t)1 << STAGE_FFN_UP) {
		float *big = calloc(BIG, sizeof(*big));
		int64_t shape[2] = {3, BIG / 3};
		struct trace_record r;

		big[BIG - 1] = 2;
		trace_describe(&r, STAGE_FFN_UP, 0, 0, "f16", 2, shape, big);
		rc = q->on_trace(q->ctx, &r, q->trace_values ? big : NULL);
		free(big);
	}
	return rc;
}

static int toy_replay(struct engine *g, const struct engine_replay *q, struct err *e)
{
	int64_t shape[1] = {2};
	struct trace_record r;
	float x[2];

	(void)g;
	(void)e;
	x[0] = q->n_inputs ? (float)q->input_elements[0] : -1;
	x[1] = q->n_inputs > 1 ? q->input[1][0] : (float)q->tokens[0];
	trace_describe(&r, q->stage, q->layer, 0, "f32", 1, shape, x);
	return q->on_trace(q->ctx, &r, x);
}

static int toy_weights(struct engine *g, const char *name, bool values, engine_weight_fn *fn,
		       void *ctx, struct err *e)
{
	static const float w[6] = {1, 2, 3, 4, 5, 6};
	int64_t shape[2] = {2, 3};

	(void)g;
	if (name && strcmp(name, "w") != 0)
		return err_set(e, EXIT_USAGE, "no tensor %s", name);
	return fn(ctx, "w", "f32", 2, shape, "00", values ? w : NULL);
}

static void toy_counters(struct engine *g, engine_counter_fn *fn, void *ctx)
{
	fn(ctx, "toy_dot", g->calls);
}

static void toy_close(struct engine *g)
{
	free(g);
}

static const struct engine_ops toy = {
	.name = "toy",
	.features = "tokenize,evaluate,trace,replay,splice,weights",
	.open = toy_open,
	.info = toy_info,
	.tokenize = toy_tokenize,
	.piece = toy_piece,
	.evaluate = toy_evaluate,
	.replay = toy_replay,
	.weights = toy_weights,
	.counters = toy_counters,
	.close = toy_close,
};
static const struct engine_ops bare = {
	.name = "bare",
	.features = "evaluate",
	.open = toy_open,
	.info = toy_info,
	.tokenize = toy_tokenize,
	.piece = toy_piece,
	.evaluate = toy_evaluate,
	.close = toy_close,
};
static const struct worker_traits traits;

/* ---- the other side ----------------------------------------------------------------------- */

static struct channel ch;
static struct wire_frame f;
static pid_t child;

static void next(void)
{
	struct err e = ERR_NONE;

	do {
		if (channel_read(&ch, &f, &e) != 1) {
			f.type = WIRE_TYPE_END;
			return;
		}
	} while (f.type == WIRE_NOTE);
}

static void start(const struct engine_ops *ops)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) < 0)
		abort();
	fflush(stdout);
	child = fork();
	if (child == 0) {
		struct err e = ERR_NONE;
		int rc;

		close(sv[0]);
		alarm(20);
		signal(SIGPIPE, SIG_IGN);
		rc = serve(sv[1], ops, &traits, &e);
		_exit(rc < 0 ? e.code : 0);
	}
	close(sv[1]);
	ch.fd = sv[0];
	next();
}

static int stop(void)
{
	int status;

	close(ch.fd);
	channel_free(&ch);
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void ask(enum wire_type type, const char *header, const void *body, size_t n)
{
	struct err e = ERR_NONE;
	char copy[512], *at = copy, *item;

	wire_begin(&ch.out, type);
	snprintf(copy, sizeof(copy), "%s", header);
	while (*copy && (item = strsep(&at, " "))) {
		char *equals = strchr(item, '=');

		*equals = 0;
		wire_put(&ch.out, item, "%s", equals + 1);
	}
	if (n)
		wire_body(&ch.out, body, n);
	if (channel_send(&ch, &e) < 0)
		abort();
	next();
}

static void expect_fail(int code, const char *sentence, const char *name)
{
	char text[512];

	snprintf(text, sizeof(text), "%.*s", (int)f.body_bytes, (const char *)f.body);
	CHECK(f.type == WIRE_FAIL && wire_get_int(&f, "code", -1) == code, "%s: FAIL code %d", name,
	      code);
	CHECK_STR(text, sentence, "%s: the sentence", name);
}

static void expect_text(const char *key, const char *want)
{
	char text[512] = "";

	wire_get(&f, key, 0, text, sizeof(text));
	CHECK_STR(text, want, "%s=%s", key, want);
}

/* ---- tests -------------------------------------------------------------------------------- */

static void test_hello_and_open(void)
{
	static const int32_t ids[] = {0};

	start(&toy);
	CHECK(f.type == WIRE_HELLO && wire_get_int(&f, "protocol", 0) == WIRE_PROTOCOL, "HELLO");
	expect_text("engine", "toy");
	expect_text("features", toy.features);
	CHECK(wire_get(&f, "build", 0, (char[64]){0}, 64) &&
		      wire_get(&f, "isa", 0, (char[256]){0}, 256),
	      "HELLO names build and instruction sets");
	ask(WIRE_EVALUATE, "tokens=1", ids, sizeof(ids));
	expect_fail(EXIT_USAGE, "no model is open: OPEN comes first", "EVALUATE before OPEN");
	ask(WIRE_OPEN, "model=missing.gguf", NULL, 0);
	expect_fail(EXIT_MODEL_LOAD, "cannot open missing.gguf", "a missing model");
	ask((enum wire_type)77, "", NULL, 0);
	expect_fail(EXIT_USAGE, "engine toy does not answer unknown (type 77)",
		    "an unknown request");
	ask(WIRE_TEMPLATE, "name=raw", "x", 1);
	expect_fail(EXIT_USAGE, "engine toy does not answer TEMPLATE (type 8)",
		    "no templates here");
	ask(WIRE_OPEN, "model=toy.gguf kv=f64", NULL, 0);
	expect_fail(EXIT_USAGE, "kv=f64 is neither f16 nor f32", "a wrong option");
	ask(WIRE_OPEN, "model=toy.gguf threads=3 kv=f32 override=a.b=str:c profile=p", NULL, 0);
	CHECK(f.type == WIRE_OPENED && wire_get_int(&f, "n_vocab", 0) == VOCAB &&
		      wire_get_int(&f, "bos", 0) == 1 && wire_get_int(&f, "eos", 0) == -1,
	      "OPENED after failures");
	expect_text("note", "threads=3 kv_f32=1 a.b=str:cp");
	ask(WIRE_OPEN, "model=toy.gguf", NULL, 0);
	CHECK(f.type == WIRE_OPENED, "OPEN again");
	CHECK(stop() == 0, "end of file ends the worker in good order");
}

static void test_tokens(void)
{
	static const int32_t ids[] = {2, 7};
	static const int32_t wrong[] = {2, 8};
	const int32_t *got;

	start(&toy);
	ask(WIRE_OPEN, "model=toy.gguf", NULL, 0);
	ask(WIRE_TOKENIZE, "add_bos=1 parse_special=0", "ab", 2);
	got = (const int32_t *)(const void *)f.body;
	CHECK(f.type == WIRE_TOKENS && f.body_bytes == 12 && got[0] == 1 && got[1] == 'a' % 8 &&
		      got[2] == 'b' % 8,
	      "TOKENS");
	ask(WIRE_TOKENIZE, "parse_special=1", "ab", 2);
	expect_fail(EXIT_INFERENCE, "no special tokens here", "an engine's failure");
	ask(WIRE_DETOKENIZE, "", ids, sizeof(ids));
	CHECK(f.type == WIRE_PIECES && f.body_bytes == 14 &&
		      memcmp(f.body, "\3\0\0\0<2>\3\0\0\0<7>", 14) == 0,
	      "PIECES");
	ask(WIRE_DETOKENIZE, "", wrong, sizeof(wrong));
	expect_fail(EXIT_USAGE, "no id 8", "a piece outside the vocabulary");
	ask(WIRE_BYE, "", NULL, 0);
	CHECK(f.type == WIRE_TYPE_END && stop() == 0, "BYE ends the worker");
}

static void test_evaluate(void)
{
	static const int32_t ids[] = {3, 1};
	const float *x;

	start(&toy);
	ask(WIRE_OPEN, "model=toy.gguf", NULL, 0);
	ask(WIRE_EVALUATE, "tokens=2 greedy=2", ids, sizeof(ids));
	for (int pos = 0; pos < 3; pos++) {
		int id = pos < 2 ? ids[pos] : VOCAB - 1;

		x = (const float *)(const void *)f.body;
		CHECK(f.type == WIRE_LOGITS && wire_get_int(&f, "pos", -1) == pos &&
			      wire_get_int(&f, "step", -1) == (pos == 2) &&
			      wire_get_int(&f, "token", -1) == (pos ? VOCAB - 1 : -1) &&
			      f.body_bytes == VOCAB * 4 && x[7] == (float)(id * 10 + pos + 7),
		      "LOGITS of position %d", pos);
		if (pos == 2)
			CHECK(wire_get_real(&f, "margin", -1) == 1, "margin");
		next();
	}
	CHECK(f.type == WIRE_DONE && wire_get_int(&f, "n_pos", 0) == 3 &&
		      wire_get_int(&f, "kernel.toy_dot", 0) == 3 &&
		      wire_get_int(&f, "peak_kib", 0) > 0 && wire_get_int(&f, "eval_us", -1) >= 0,
	      "DONE with counters and peak memory");
	ask(WIRE_EVALUATE, "tokens=2 logits=none", ids, sizeof(ids));
	CHECK(f.type == WIRE_LOGITS && f.body_bytes == 0, "logits=none sends no values");
	next();
	next();
	CHECK(f.type == WIRE_DONE && wire_get_int(&f, "kernel.toy_dot", 0) == 2,
	      "counters are those of the request");
	CHECK(stop() == 0, "ends");
}

static void put_note(struct channel *c, int i, size_t bytes)
{
	char *body = calloc(1, bytes + 1);

	wire_begin(&c->out, WIRE_NOTE);
	wire_put(&c->out, "i", "%d", i);
	wire_body(&c->out, body, bytes);
	free(body);
}

/* What is held reaches nobody before the next send, and comes before it. */
static void test_hold(void)
{
	struct channel a = {.n_held = 0}, b = {.n_held = 0};
	struct wire_frame g;
	int sv[2], size = 4 * CHANNEL_HELD_MAX;
	char byte;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) < 0)
		abort();
	setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	a.fd = sv[0];
	b.fd = sv[1];
	for (int i = 0; i < 3; i++) {
		put_note(&a, i, 1);
		CHECK(channel_hold(&a, NULL) == 0, "held");
	}
	CHECK(recv(sv[1], &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0, "nothing was sent yet");
	put_note(&a, 3, 1);
	CHECK(channel_send(&a, NULL) == 0 && a.n_held == 0, "sent");
	for (int i = 0; i < 4; i++)
		CHECK(channel_read(&b, &g, NULL) == 1 && wire_get_int(&g, "i", -1) == i,
		      "frame %d in its place", i);
	put_note(&a, 4, 1);
	channel_hold(&a, NULL);
	put_note(&a, 5, 60000);
	for (int i = 0; i < 18; i++) /* over the limit in the end */
		channel_hold(&a, NULL);
	CHECK(a.n_held < CHANNEL_HELD_MAX && recv(sv[1], &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 1,
	      "what is held has a limit");
	channel_free(&a);
	channel_free(&b);
	close(sv[0]);
	close(sv[1]);
}

static void test_timed(void)
{
	static const int32_t ids[2] = {1, 2}, five[2] = {1, 5};

	start(&toy);
	ask(WIRE_OPEN, "model=toy.gguf", NULL, 0);
	ask(WIRE_EVALUATE, "tokens=2 greedy=3 logits=none timed=1", ids, sizeof(ids));
	for (int pos = 0; pos < 4; pos++) {
		CHECK(f.type == WIRE_LOGITS && wire_get_int(&f, "pos", -1) == pos && !f.body_bytes,
		      "timed: position %d", pos);
		next();
	}
	CHECK(f.type == WIRE_DONE && wire_get_int(&f, "n_pos", 0) == 4 &&
		      wire_get_int(&f, "pace_ns", 0) > 1000,
	      "DONE tells the pace: %lld", (long long)wire_get_int(&f, "pace_ns", 0));
	ask(WIRE_EVALUATE, "tokens=2 logits=none timed=1", five, sizeof(five));
	CHECK(f.type == WIRE_LOGITS, "a position before the failure");
	next();
	expect_fail(EXIT_INFERENCE, "position 1 holds a five", "and then the failure");
	ask(WIRE_EVALUATE, "tokens=2 logits=none", ids, sizeof(ids));
	next();
	next();
	CHECK(f.type == WIRE_DONE && wire_get_int(&f, "pace_ns", 0) == 0, "not timed: no pace");
	CHECK(stop() == 0, "ends");
}

static void test_evaluate_refused(void)
{
	static const int32_t ids[] = {3, 8, 0, 0, 0, 0};
	static const int32_t five[] = {3, 5};
	static const float splice[] = {0};

	start(&toy);
	ask(WIRE_OPEN, "model=toy.gguf", NULL, 0);
	ask(WIRE_EVALUATE, "tokens=2", ids, 8);
	expect_fail(EXIT_USAGE, "token 8 at position 1 is outside the vocabulary of 8", "wrong id");
	ask(WIRE_EVALUATE, "tokens=1 greedy=16", ids, 4);
	expect_fail(EXIT_USAGE, "1 tokens and 16 more do not fit the context of 16 positions",
		    "too long");
	ask(WIRE_EVALUATE, "tokens=0", NULL, 0);
	expect_fail(EXIT_USAGE, "an evaluation needs at least one token", "nothing to do");
	ask(WIRE_EVALUATE, "tokens=3", ids, 8);
	expect_fail(EXIT_USAGE, "tokens=3, but the body holds 2 ids", "a short body");
	ask(WIRE_EVALUATE, "tokens=1 splice_layer=0", splice, 4);
	expect_fail(EXIT_USAGE, "the body has 4 bytes, expected 12", "a splice that is not there");
	ask(WIRE_EVALUATE, "tokens=1 trace=ffn_up,ffn", ids, 4);
	expect_fail(EXIT_USAGE, "there is no stage \"ffn\"", "an unknown stage");
	ask(WIRE_EVALUATE, "tokens=1 logits=some", ids, 4);
	expect_fail(EXIT_USAGE, "logits=some is none of all, last, none", "a wrong word");
	ask(WIRE_EVALUATE, "tokens=2", five, sizeof(five));
	CHECK(f.type == WIRE_LOGITS, "a position before the failure");
	next();
	expect_fail(EXIT_INFERENCE, "position 1 holds a five", "a failure half-way");
	ask(WIRE_EVALUATE, "tokens=1", ids, 4);
	next();
	CHECK(f.type == WIRE_DONE, "the session goes on");
	CHECK(stop() == 0, "ends");
}

static void test_splice_and_trace(void)
{
	static const int32_t body[] = {3, 0x40a00000, 0};	/* id 3, then 5.0f, 0.0f */
	int64_t got = 0, parts = 0;
	char hash[65] = "", want[65];
	float last = 0;
	float *zero = calloc(BIG, sizeof(*zero));

	start(&toy);
	ask(WIRE_OPEN, "model=toy.gguf", NULL, 0);
	ask(WIRE_EVALUATE, "tokens=1 splice_layer=-1", body, sizeof(body));
	CHECK(((const float *)(const void *)f.body)[0] == 5, "the splice arrives");
	next();
	ask(WIRE_EVALUATE, "tokens=1 trace=ffn_up", body, 4);
	for (next(); f.type == WIRE_TRACE; next()) {
		if (wire_get_int(&f, "offset", -1) != got)
			break;
		got += (int64_t)f.body_bytes / 4;
		parts++;
		last = ((const float *)(const void *)f.body)[f.body_bytes / 4 - 1];
		wire_get(&f, "blake3", 0, hash, sizeof(hash));
		if (got == BIG)
			expect_text("shape", "3,1048576");
	}
	zero[BIG - 1] = 2;
	blake3_hex(zero, (size_t)BIG * 4, want);
	CHECK(f.type == WIRE_DONE && got == BIG && parts == 3 && last == 2,
	      "a trace in three parts");
	CHECK_STR(hash, want, "its hash is that of the values");
	ask(WIRE_EVALUATE, "tokens=1 trace=all values=0", body, 4);
	next();
	CHECK(f.type == WIRE_TRACE && f.body_bytes == 0 && wire_get_int(&f, "n", 0) == BIG,
	      "a record without values");
	next();
	CHECK(f.type == WIRE_DONE && stop() == 0, "ends");
	free(zero);
}

static void test_replay_and_weights(void)
{
	static const float in[] = {1, 2, 3, 4};
	static const int32_t id = 6;
	const float *x;

	start(&toy);
	ask(WIRE_OPEN, "model=toy.gguf", NULL, 0);
	ask(WIRE_REPLAY, "layer=0 stage=ffn_act n_tokens=1 inputs=ffn_gate:3,ffn_up:1", in,
	    sizeof(in));
	x = (const float *)(const void *)f.body;
	CHECK(f.type == WIRE_TRACE && x[0] == 3 && x[1] == 4, "replay with two inputs");
	expect_text("name", "blk.0.ffn_act");
	next();
	CHECK(f.type == WIRE_DONE, "DONE");
	ask(WIRE_REPLAY, "layer=-1 stage=embeddings n_tokens=1", &id, sizeof(id));
	x = (const float *)(const void *)f.body;
	CHECK(f.type == WIRE_TRACE && x[0] == -1 && x[1] == 6, "replay from ids");
	next();
	ask(WIRE_REPLAY, "layer=0 stage=ffn_act n_tokens=1 inputs=ffn_gate:3,ffn_up:2", in,
	    sizeof(in));
	expect_fail(EXIT_USAGE, "input ffn_up: 2 values asked, 1 are there", "inputs too long");
	ask(WIRE_REPLAY, "layer=1 stage=ffn_act n_tokens=1", in, sizeof(in));
	expect_fail(EXIT_USAGE, "layer=1 pos0=0 n_tokens=1 is out of range", "no such layer");
	ask(WIRE_WEIGHTS, "values=1", NULL, 0);
	CHECK(f.type == WIRE_WEIGHT && f.body_bytes == 24, "WEIGHT");
	expect_text("shape", "2,3");
	next();
	ask(WIRE_WEIGHTS, "name=v", NULL, 0);
	expect_fail(EXIT_USAGE, "no tensor v", "an unknown tensor");
	CHECK(stop() == 0, "ends");
}

static void test_bare_and_broken(void)
{
	static const int32_t id = 1;

	start(&bare);
	ask(WIRE_OPEN, "model=toy.gguf", NULL, 0);
	ask(WIRE_REPLAY, "layer=0 stage=ffn_act n_tokens=1", &id, sizeof(id));
	expect_fail(EXIT_USAGE, "engine bare does not answer REPLAY (type 14)", "no replay");
	ask(WIRE_EVALUATE, "tokens=1 trace=all", &id, sizeof(id));
	expect_fail(EXIT_USAGE, "engine bare has no traces", "no traces");
	if (write(ch.fd, "\1\0\0\4\0\0\1\0", 8) != 8)
		abort();
	next();
	CHECK(f.type == WIRE_TYPE_END && stop() == EXIT_WORKER,
	      "an oversize frame ends the session");
	start(&toy);
	if (write(ch.fd, "\11\0\0\0", 4) != 4)
		abort();
	CHECK(stop() == EXIT_WORKER, "a frame that was cut off is an error");
	start(&toy);
	ask(WIRE_OPEN, "model=toy.gguf", NULL, 0);
	kill(child, SIGTERM);
	next();
	CHECK(f.type == WIRE_TYPE_END && stop() == -1, "SIGTERM ends it");
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	test_hello_and_open();
	test_tokens();
	test_evaluate();
	test_hold();
	test_timed();
	test_evaluate_refused();
	test_splice_and_trace();
	test_replay_and_weights();
	test_bare_and_broken();
	return TEST_END();
}
