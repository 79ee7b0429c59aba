/*
 * Any text, by a small vocabulary with all 256 bytes: ids in range, offsets rising, and valid
 * UTF-8 comes back unchanged. The first byte chooses byte-level BPE or SentencePiece.
 */
#include "tokenizer.h"
#include "unicode.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tokenizer *make(bool level)
{
	static char json[32768];
	struct tokenizer *t = NULL;
	struct err e = ERR_NONE;
	size_t at = 0;

	at += (size_t)snprintf(
		json, sizeof(json),
		"{%s\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,"
		"\"vocab\":{",
		level ? "\"pre_tokenizer\":{\"type\":\"ByteLevel\"},"
		      : "\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"},");
	for (int b = 0; b < 256; b++) {
		if (level)
			at += (size_t)snprintf(json + at, sizeof(json) - at, "\"\\u%04x\":%d,",
					       unicode_from_byte((uint8_t)b), b);
		else
			at += (size_t)snprintf(json + at, sizeof(json) - at, "\"<0x%02X>\":%d,", b,
					       b);
	}
	snprintf(
		json + at, sizeof(json) - at,
		"\"ab\":256,\"abab\":257,\"%s\":258,\"%sa\":259%s},"
		"\"merges\":[\"a b\",\"ab ab\",\"%s a\"]},\"added_tokens\":[{\"id\":260,\"content\":\"<s>\","
		"\"special\":true},{\"id\":261,\"content\":\"<u>\",\"special\":false}]}",
		level ? "zz" : "\xE2\x96\x81", level ? "\xC4\xA0" : "\xE2\x96\x81",
		level ? "" : ",\"a\":262,\"b\":263", level ? "\xC4\xA0" : "\xE2\x96\x81");
	if (tokenizer_from_json_bytes(&t, json, strlen(json), &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		abort();
	}
	return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct tokenizer *both[2];
	const char *text = (const char *)data + 1, *back_text;
	size_t *offsets, bytes, n_text = size - 1;
	struct err e = ERR_NONE;
	int32_t *ids;
	int n, which;
	char *back;

	if (size == 0)
		return 0;
	which = data[0] & 1;
	if (!both[which])
		both[which] = make(which == 0);
	if (tokenizer_encode(both[which], text, n_text, true, data[0] & 2, &ids, &n, &offsets, &e) <
	    0)
		abort();
	for (int i = 0; i < n; i++) {
		assert(ids[i] >= 0 && ids[i] < tokenizer_info(both[which])->n_vocab);
		assert(offsets[i] <= n_text && (i == 0 || offsets[i] >= offsets[i - 1]));
	}
	if (tokenizer_decode(both[which], ids, n, true, &back, &bytes, &e) < 0)
		abort();
	back_text = back;
	if (unicode_valid(text, n_text) && !memmem(text, n_text, "\xE2\x96\x81", 3))
		assert(bytes == n_text && memcmp(back_text, text, n_text) == 0);
	free(ids);
	free(offsets);
	free(back);
	return 0;
}
