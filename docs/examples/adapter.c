/*
 * An engine of your own under test, in C without any library:
 *
 *	cc -O2 -o my-engine adapter.c -lm && assay engine-check --model FILE ./my-engine
 *
 * Write load, tokenize and logits for your engine; the rest speaks assay's protocol (engines.md).
 * The engine here is a toy: ids are bytes, the logits follow from the last three. Little-endian.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_VOCAB = 256, PAYLOAD_MAX = 64 << 20 };
enum { HELLO = 1, OPEN, OPENED, TOKENIZE, TOKENS, EVALUATE = 10 };
enum { LOGITS = 12, DONE, FAIL = 18, BYE };

static int load(const char *path)
{
	return access(path, R_OK);	/* 0 when the model is open */
}

static int tokenize(const unsigned char *text, int n, int32_t *ids)
{
	for (int i = 0; i < n; i++)
		ids[i] = text[i];
	return n;
}

/* The logits after the n ids. */
static void logits(const int32_t *ids, int n, float *out)
{
	int a = n > 2 ? ids[n - 3] : 0, b = n > 1 ? ids[n - 2] : 0, c = ids[n - 1];

	for (int i = 0; i < N_VOCAB; i++)
		out[i] = (float)sin(0.01 * (a + 2 * b + 3 * c + 1) * (i + 1));
}

/* From here on the protocol. */
static FILE *in, *out;
static int opened;

static void say(uint8_t type, const char *header, const void *body, size_t n)
{
	uint16_t h = (uint16_t)strlen(header);
	uint32_t size = h + (uint32_t)n;

	fwrite(&size, 4, 1, out);
	fwrite(&h, 2, 1, out);
	fwrite(&(uint8_t[]){type, 0}, 2, 1, out);
	fwrite(header, 1, h, out);
	fwrite(body, 1, n, out);
	if (fflush(out) != 0)
		exit(1);
}

static void fail(const char *code, const char *sentence)
{
	say(FAIL, code, sentence, strlen(sentence));
}

/* The value of a header line, up to its '\n', or the default. */
static const char *get(const char *header, const char *key, const char *otherwise)
{
	for (const char *p = header; *p; p = strchr(p, '\n') + 1)
		if (strncmp(p, key, strlen(key)) == 0 && p[strlen(key)] == '=')
			return p + strlen(key) + 1;
	return otherwise;
}

static void evaluate(const char *header, const int32_t *body, int n)
{
	int greedy = atoi(get(header, "greedy", "0")), stop = atoi(get(header, "stop", "-1"));
	int total = n, pos;
	char want = *get(header, "logits", "all"), text[96];	/* the first letter will do */
	int32_t *ids = calloc((size_t)n + (size_t)greedy + 1, sizeof(*ids));

	memcpy(ids, body, (size_t)n * sizeof(*ids));
	for (pos = 0; pos < total; pos++) {
		int pick = greedy > 0 && pos >= n - 1, step = pos < n ? 0 : pos - n + 1, best = 0;
		float row[N_VOCAB];

		if (want != 'a' && !pick && (want != 'l' || pos < n - 1))
			continue;
		logits(ids, pos + 1, row);
		for (int i = 1; i < N_VOCAB; i++)
			best = row[i] > row[best] ? i : best;
		if (pick && step + 1 < greedy && best != stop)
			ids[total++] = best;
		snprintf(text, sizeof(text), "pos=%d\nstep=%d\ntoken=%d\n", pos, step, pick ? best : -1);
		say(LOGITS, text, row, want == 'n' ? 0 : sizeof(row));
	}
	snprintf(text, sizeof(text), "n_pos=%d\nkernel.toy=%d\n", pos, pos);
	say(DONE, text, NULL, 0);
	free(ids);
}

static void answer(int type, char *header, const unsigned char *body, int n)
{
	const int32_t *ids = (const int32_t *)body;
	int bad = n < 4;

	for (int i = 0; type == EVALUATE && i < n / 4; i++)
		bad |= ids[i] < 0 || ids[i] >= N_VOCAB;
	if (type == OPEN) {
		char *model = (char *)get(header, "model", "\n");

		model[strcspn(model, "\n")] = 0;
		if ((opened = load(model) == 0))
			say(OPENED, "arch=toy\nn_vocab=256\nn_layer=1\nn_embd=1\nn_ctx=4096\nbos=-1\n"
				    "eos=-1\neot=-1\nadd_bos=0\nweights=none\n", NULL, 0);
		else
			fail("code=10\n", "cannot open the model");
	} else if (opened && type == TOKENIZE) {
		int32_t *tokens = calloc((size_t)n + 1, sizeof(*tokens));

		say(TOKENS, "", tokens, (size_t)tokenize(body, n, tokens) * sizeof(*tokens));
		free(tokens);
	} else if (opened && type == EVALUATE && !bad) {
		evaluate(header, ids, n / 4);
	} else {
		fail("code=64\n", opened ? "no such request or no such ids" : "no model is open");
	}
}

int main(void)
{
	unsigned char head[8], *payload = malloc(PAYLOAD_MAX + 1);
	char header[65536];
	uint32_t size;
	uint16_t h;

	in = fdopen(atoi(getenv("ASSAY_WIRE_FD")), "rb");
	out = fdopen(dup(fileno(in)), "wb");
	say(HELLO, "protocol=1\nengine=toy-c\nbuild=1\nisa=c\nfeatures=tokenize,evaluate\n", NULL, 0);
	while (fread(head, 8, 1, in) == 1 && head[6] != BYE) {
		memcpy(&size, head, 4);
		memcpy(&h, head + 4, 2);
		if (size > PAYLOAD_MAX || h > size || fread(payload, 1, size, in) != size)
			return 1;
		memcpy(header, payload, h);
		header[h] = 0;
		memmove(payload, payload + h, size - h);	/* the body, aligned */
		answer(head[6], header, payload, (int)(size - h));
	}
	return 0;
}
