#include "recording_logits.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD = 12, PLAIN_HEAD = 4 };

static int n_exact(int n_vocab)
{
	return n_vocab < RECORDING_EXACT ? n_vocab : RECORDING_EXACT;
}

static size_t coded_bytes(int n_vocab)
{
	return HEAD + (size_t)n_exact(n_vocab) * 8 + (size_t)n_vocab * 2;
}

static size_t plain_bytes(int n_vocab)
{
	return PLAIN_HEAD + (size_t)n_vocab * sizeof(float);
}

size_t recording_row_bytes_max(int n_vocab)
{
	size_t a = coded_bytes(n_vocab), b = plain_bytes(n_vocab);

	return a > b ? a : b;
}

static void put(uint8_t **to, const void *value)
{
	memcpy(*to, value, 4);
	*to += 4;
}

/* The greatest values, kept in order while the row is read once. */
static void find_exact(uint32_t *ids, const float *row, int n_vocab)
{
	int k = n_exact(n_vocab), n = 0;

	for (int i = 0; i < n_vocab; i++) {
		int at;

		if (n == k && !(row[i] > row[ids[k - 1]]))
			continue;
		at = n < k ? n++ : k - 1;
		for (; at > 0 && row[i] > row[ids[at - 1]]; at--)
			ids[at] = ids[at - 1];
		ids[at] = (uint32_t)i;
	}
}

static bool is_exact(const uint32_t *ids, const float *row, int k, int i)
{
	if (row[i] < row[ids[k - 1]])
		return false;
	while (k > 0 && ids[k - 1] != (uint32_t)i)
		k--;
	return k > 0;
}

static float decode(float low, float step, unsigned code)
{
	return (float)((double)low + code * (double)step);
}

static size_t pack_plain(uint8_t *out, const float *row, int n_vocab)
{
	uint32_t form = 1;

	memcpy(out, &form, 4);
	memcpy(out + PLAIN_HEAD, row, (size_t)n_vocab * sizeof(*row));
	return plain_bytes(n_vocab);
}

size_t recording_row_pack(uint8_t *out, const float *row, int n_vocab, double *error)
{
	uint32_t form = 0, ids[RECORDING_EXACT];
	uint8_t *low_bytes, *high_bytes, *to = out;
	float low = row[0], high = row[0], step;
	bool finite = true;

	*error = 0;
	for (int i = 0; i < n_vocab; i++) {
		finite &= isfinite(row[i]) != 0;
		low = row[i] < low ? row[i] : low;
		high = row[i] > high ? row[i] : high;
	}
	if (!finite || !isfinite(high - low))
		return pack_plain(out, row, n_vocab);
	step = (float)(((double)high - low) / 65535);
	find_exact(ids, row, n_vocab);
	put(&to, &form);
	put(&to, &low);
	put(&to, &step);
	for (int i = 0; i < n_exact(n_vocab); i++) {
		put(&to, &ids[i]);
		put(&to, &row[ids[i]]);
	}
	low_bytes = to;
	high_bytes = to + n_vocab;
	for (int i = 0; i < n_vocab; i++) {
		double code = step > 0 ? nearbyint(((double)row[i] - low) / step) : 0;
		unsigned c = code > 65535 ? 65535 : (unsigned)code;
		double d = fabs((double)row[i] - (double)decode(low, step, c));

		low_bytes[i] = (uint8_t)(c & 255);
		high_bytes[i] = (uint8_t)(c >> 8);
		if (d > *error && !is_exact(ids, row, n_exact(n_vocab), i))
			*error = d;
	}
	return coded_bytes(n_vocab);
}

static size_t row_bytes(const struct recording_rows *s)
{
	uint32_t form;

	if (!s->compact)
		return (size_t)s->n_vocab * sizeof(float);
	if (s->n_have < PLAIN_HEAD)
		return PLAIN_HEAD;
	memcpy(&form, s->have, 4);
	return form == 0 ? coded_bytes(s->n_vocab) : form == 1 ? plain_bytes(s->n_vocab) : 0;
}

static int unpack(struct recording_rows *s, struct err *e)
{
	const uint8_t *from = s->have + HEAD, *codes;
	uint32_t form = 1, id;
	float low, step;

	if (s->compact)
		memcpy(&form, s->have, 4);
	if (form == 1) {
		memcpy(s->row, s->have + (s->compact ? PLAIN_HEAD : 0),
		       (size_t)s->n_vocab * sizeof(float));
		return 0;
	}
	memcpy(&low, s->have + 4, 4);
	memcpy(&step, s->have + 8, 4);
	codes = from + (size_t)n_exact(s->n_vocab) * 8;
	for (int i = 0; i < s->n_vocab; i++)
		s->row[i] = decode(low, step,
				   codes[i] | (unsigned)codes[(size_t)s->n_vocab + (size_t)i] << 8);
	for (int i = 0; i < n_exact(s->n_vocab); i++, from += 8) {
		memcpy(&id, from, 4);
		if (id >= (uint32_t)s->n_vocab)
			return err_set(e, EXIT_HASH_MISMATCH,
				       "compact logits name id %u of a vocabulary of %d", id,
				       s->n_vocab);
		memcpy(&s->row[id], from + 4, 4);
	}
	return 0;
}

int recording_rows_feed(struct recording_rows *s, const uint8_t *bytes, size_t n,
			recording_row_fn *fn, void *ctx, struct err *e)
{
	if (!s->have) {
		s->have = malloc(recording_row_bytes_max(s->n_vocab));
		s->row = malloc((size_t)s->n_vocab * sizeof(*s->row));
		assert(s->have && s->row);
	}
	while (n > 0) {
		size_t want = row_bytes(s), k;
		int rc;

		if (want == 0)
			return err_set(e, EXIT_HASH_MISMATCH, "a position of no known form");
		k = want - s->n_have < n ? want - s->n_have : n;
		memcpy(s->have + s->n_have, bytes, k);
		s->n_have += k;
		bytes += k;
		n -= k;
		if (s->n_have < row_bytes(s) || row_bytes(s) == 0)
			continue;
		s->n_have = 0;
		rc = unpack(s, e);
		if (rc == 0)
			rc = fn(ctx, s->row, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

bool recording_rows_whole(const struct recording_rows *s)
{
	return s->n_have == 0;
}

void recording_rows_free(struct recording_rows *s)
{
	free(s->have);
	free(s->row);
	*s = (struct recording_rows){.compact = false};
}
