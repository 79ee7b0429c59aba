/* Any manifest in a sealed archive, and any bytes as the archive itself: what answers for an
 * engine refuses or answers, and ends. */
#include "report/recording.h"
#include "report/recording_logits.h"
#include "sweep/recorded.h"
#include "wire.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(int fd, enum wire_type type, const char *lines, const void *body, size_t n)
{
	struct wire_builder b = {0};
	struct err e = ERR_NONE;
	char copy[256], *at = copy, *line;

	snprintf(copy, sizeof(copy), "%s", lines);
	wire_begin(&b, type);
	while ((line = strsep(&at, " ")))
		if (strchr(line, '=')) {
			*strchr(line, '=') = '\0';
			wire_put(&b, line, "%s", line + strlen(line) + 1);
		}
	wire_body(&b, body, n);
	assert(wire_finish(&b, &e) == 0 && write(fd, b.buf, b.n) == (ssize_t)b.n);
	wire_builder_free(&b);
}

/* One of every request, then the end; the answers are thrown away with the socket. */
static void serve(const char *path)
{
	static const int32_t ids[] = {1, 2};
	int pair[2], room = 8 << 20;
	char number[16];

	assert(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	ask(pair[0], WIRE_OPEN, "model=/dev/null", "", 0);
	ask(pair[0], WIRE_TEMPLATE, "name=raw", "2+2=", 4);
	ask(pair[0], WIRE_TOKENIZE, "add_bos=0 parse_special=0", "2+2=", 4);
	ask(pair[0], WIRE_DETOKENIZE, "", ids, sizeof(ids));
	ask(pair[0], WIRE_EVALUATE, "tokens=2 greedy=2 trace=all", ids, sizeof(ids));
	ask(pair[0], WIRE_EVALUATE, "tokens=2 logits=none trace=q values=0", ids, sizeof(ids));
	ask(pair[0], WIRE_WEIGHTS, "", "", 0);
	shutdown(pair[0], SHUT_WR);
	snprintf(number, sizeof(number), "%d", pair[1]);
	setenv("ASSAY_WIRE_FD", number, 1);
	recorded_main(path);
	close(pair[0]);
	close(pair[1]);
}

static void sealed(const char *path, json_t *manifest)
{
	static const int32_t ids[] = {1, 2};
	static const float logits[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
	static const uint8_t pieces[] = {1, 0, 0, 0, 'a', 1, 0, 0, 0, 'b'};
	struct recording_writer *w = NULL;
	struct err e = ERR_NONE;

	assert(recording_create(&w, path, &e) == 0);
	recording_add(w, RECORDING_SMALL, "a/prompt.txt", "2+2=", 4, &e);
	recording_add(w, RECORDING_SMALL, "a/ids.i32", ids, sizeof(ids), &e);
	recording_add(w, RECORDING_SMALL, "a/pieces.bin", pieces, sizeof(pieces), &e);
	recording_add(w, RECORDING_LOGITS, "a/logits.f32", logits, sizeof(logits), &e);
	recording_add(w, RECORDING_TRACE, "a/trace/000000-q.f32", logits, sizeof(logits), &e);
	if (recording_finish(w, manifest, &e) == 0)
		serve(path);
	recording_discard(w);
}

static int on_row(void *ctx, const float *row, struct err *e)
{
	(void)ctx;
	(void)e;
	return row ? 0 : -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct recording_rows rows = {.compact = true, .n_vocab = size ? 1 + data[0] : 1};
	struct recording r = {.n = 0};
	struct err e = ERR_NONE;
	json_t *manifest = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	char path[64];
	FILE *f;

	recording_rows_feed(&rows, data, size, on_row, NULL, &e);
	recording_rows_free(&rows);
	snprintf(path, sizeof(path), "/tmp/assay-fuzz-recording-%ld", (long)getpid());
	if (json_is_object(manifest)) {
		sealed(path, manifest);
	} else {
		json_decref(manifest);
		f = fopen(path, "wb");
		assert(f && fwrite(data, 1, size, f) == size);
		fclose(f);
		if (recording_open(&r, path, &e) == 0)
			recording_verify(&r, &e);
		recording_close(&r);
	}
	unlink(path);
	return 0;
}
