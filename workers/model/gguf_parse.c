#include "gguf_internal.h"

#include "utf8.h"
#include "weight_type.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a bounded reader with a sticky error ------------------------------------------------- */

struct reader {
	const uint8_t *p;
	size_t n, at;		/* at ≤ n always */
	const char *part;	/* what is being read, for the sentence */
	uint64_t number;	/* which one */
	bool truncated;
};

static const uint8_t *take(struct reader *r, uint64_t bytes)
{
	if (r->truncated || bytes > r->n - r->at) {
		r->truncated = true;
		return NULL;
	}
	const uint8_t *p = r->p + r->at;

	r->at += bytes;
	return p;
}

static uint32_t read_u32(struct reader *r)
{
	const uint8_t *p = take(r, 4);

	return p ? gguf_u32_at(p) : 0;
}

static uint64_t read_u64(struct reader *r)
{
	const uint8_t *p = take(r, 8);

	return p ? gguf_u64_at(p) : 0;
}

static struct gguf_str read_str(struct reader *r)
{
	uint64_t n = read_u64(r);
	const uint8_t *p = take(r, n);

	return p ? (struct gguf_str){ (const char *)p, (size_t)n } : (struct gguf_str){ "", 0 };
}

__attribute__((format(printf, 2, 3)))
static int bad(struct err *e, const char *fmt, ...)
{
	char msg[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	return err_set(e, EXIT_MODEL_INVALID, "%s", msg);
}

static int truncated(const struct reader *r, struct err *e)
{
	return bad(e, "the file ends inside %s %" PRIu64 ": a length reaches beyond its %zu bytes, "
		   "or the file was cut", r->part, r->number, r->n);
}

/* ---- names -------------------------------------------------------------------------------- */

static bool name_is_text(struct gguf_str name)
{
	for (size_t i = 0; i < name.n;) {
		size_t len = utf8_length(name.s + i, name.n - i);

		if (len == 0 || name.s[i] == '\0')
			return false;
		i += len;
	}
	return true;
}

struct gguf_shown gguf_show(struct gguf_str name)
{
	struct gguf_shown shown;
	size_t n = 0;

	for (size_t i = 0; i < name.n;) {
		size_t len = utf8_length(name.s + i, name.n - i);

		if (n + 4 > GGUF_NAME_MAX) {
			memcpy(shown.s + n, "…", 3);
			n += 3;
			break;
		}
		if (len == 0 || (uint8_t)name.s[i] < 32 || name.s[i] == 127) {
			shown.s[n++] = '?';
			i++;
			continue;
		}
		memcpy(shown.s + n, name.s + i, len);
		n += len;
		i += len;
	}
	shown.s[n] = '\0';
	return shown;
}

/* ---- the index ---------------------------------------------------------------------------- */

static bool table_init(struct gguf_table *t, uint64_t n)
{
	uint64_t size = 16;

	while (size < 2 * n + 1)
		size *= 2;
	t->mask = size - 1;
	t->slots = calloc(size, sizeof(*t->slots));
	return t->slots;
}

/* Adds entry i (whose name is `name`); false when that name is there already. */
static bool table_add(struct gguf_table *t, struct gguf_str name, uint64_t i,
		      struct gguf_str (*name_of)(const struct gguf *, uint64_t),
		      const struct gguf *g)
{
	for (uint64_t h = gguf_hash(name.s, name.n);; h++) {
		uint32_t *slot = &t->slots[h & t->mask];

		if (*slot == 0) {
			*slot = (uint32_t)i + 1;
			return true;
		}
		struct gguf_str there = name_of(g, *slot - 1);
		if (there.n == name.n && memcmp(there.s, name.s, name.n) == 0)
			return false;
	}
}

static struct gguf_str kv_name(const struct gguf *g, uint64_t i)
{
	return g->kv[i].key;
}

static struct gguf_str tensor_name(const struct gguf *g, uint64_t i)
{
	return g->tensors[i].name;
}

/* ---- metadata ----------------------------------------------------------------------------- */

static int read_array(struct reader *r, struct gguf_kv *kv, struct err *e)
{
	uint32_t elem = read_u32(r);

	kv->count = read_u64(r);
	if (r->truncated)
		return truncated(r, e);
	if (elem >= GGUF_TYPE_END)
		return bad(e, "key '%s' is an array of type %u, which does not exist",
			   gguf_show(kv->key).s, elem);
	if (elem == GGUF_ARRAY)
		return bad(e, "key '%s' is an array of arrays, which is not supported",
			   gguf_show(kv->key).s);
	kv->elem = (enum gguf_type)elem;
	kv->data = r->p + r->at;

	uint64_t size = elem == GGUF_STRING ? 8 : gguf_scalar_bytes(kv->elem);
	if (kv->count > (r->n - r->at) / size)
		return bad(e,
			   "key '%s' is an array of %" PRIu64
			   " elements, more than the file has bytes for",
			   gguf_show(kv->key).s, kv->count);
	if (elem != GGUF_STRING)
		take(r, kv->count * size);
	for (uint64_t i = 0; elem == GGUF_STRING && i < kv->count; i++) {
		read_str(r);
		if (r->truncated)
			return bad(e,
				   "key '%s': the text of element %" PRIu64
				   " is longer than the file",
				   gguf_show(kv->key).s, i);
	}
	kv->bytes = (size_t)(r->p + r->at - kv->data);
	return 0;
}

static int read_kv(struct reader *r, struct gguf_kv *kv, struct err *e)
{
	kv->key = read_str(r);
	uint32_t type = read_u32(r);

	if (r->truncated)
		return truncated(r, e);
	if (kv->key.n == 0)
		return bad(e, "key %" PRIu64 " is empty", r->number);
	if (kv->key.n > GGUF_KEY_MAX)
		return bad(e, "key %" PRIu64 " has %zu bytes, at most %d are allowed", r->number,
			   kv->key.n, GGUF_KEY_MAX);
	if (!name_is_text(kv->key))
		return bad(e, "key %" PRIu64 " ('%s') is not UTF-8 text", r->number,
			   gguf_show(kv->key).s);
	if (type >= GGUF_TYPE_END)
		return bad(e, "key '%s' has type %u, which does not exist", gguf_show(kv->key).s,
			   type);
	kv->type = (enum gguf_type)type;
	kv->count = 1;
	kv->data = r->p + r->at;
	if (type == GGUF_ARRAY)
		return read_array(r, kv, e);
	if (type == GGUF_STRING)
		read_str(r);
	else
		take(r, gguf_scalar_bytes(kv->type));
	if (r->truncated)
		return bad(e, "key '%s': its value is longer than the file", gguf_show(kv->key).s);
	if (type == GGUF_BOOL && kv->data[0] > 1)
		return bad(e, "key '%s' is a bool with the value %u", gguf_show(kv->key).s,
			   kv->data[0]);
	kv->bytes = (size_t)(r->p + r->at - kv->data);
	return 0;
}

static int read_kvs(struct gguf *g, struct reader *r, struct gguf_table *index, struct err *e)
{
	r->part = "key";
	for (uint64_t i = 0; i < g->n_kv; i++) {
		r->number = i;
		int rc = read_kv(r, &g->kv[i], e);
		if (rc < 0)
			return rc;
		if (!table_add(index, g->kv[i].key, i, kv_name, g))
			return bad(e, "key '%s' is there twice", gguf_show(g->kv[i].key).s);
	}
	return 0;
}

/* ---- tensors ------------------------------------------------------------------------------ */

/* Types of other programs' files: the sizes let the structure be checked; nobody here computes
 * with them. Sources: ggml's and bitnet.cpp's type tables. */
static const struct { uint32_t id; const char *name; uint32_t elems, bytes;
} foreign[] = {
	{TYPE_Q8_1, "q8_1", 32, 36},
	{TYPE_Q8_K, "q8_k", 256, 292},
	{16, "iq2_xxs", 256, 66},
	{17, "iq2_xs", 256, 74},
	{18, "iq3_xxs", 256, 98},
	{19, "iq1_s", 256, 50},
	{20, "iq4_nl", 32, 18},
	{21, "iq3_s", 256, 110},
	{22, "iq2_s", 256, 82},
	{23, "iq4_xs", 256, 136},
	{24, "i8", 1, 1},
	{25, "i16", 1, 2},
	{26, "i32", 1, 4},
	{27, "i64", 1, 8},
	{28, "f64", 1, 8},
	{29, "iq1_m", 256, 56},
	{40, "nvfp4", 64, 36},
	{41, "q1_0", 128, 18},
	{42, "q2_0", 64, 18},
};

const char *gguf_weight_name(uint32_t type)
{
	const struct weight_type *w = weight_type_by_id(type);

	for (size_t i = 0; !w && i < sizeof(foreign) / sizeof(*foreign); i++)
		if (foreign[i].id == type)
			return foreign[i].name;
	return w ? w->name : "unknown";
}

static int tensor_bytes(struct gguf_tensor *t, struct err *e)
{
	const struct weight_type *w = weight_type_by_id(t->type);
	int64_t rows = t->ne[1] * t->ne[2] * t->ne[3];

	if (w) {
		t->bytes = weight_type_bytes(w, t->ne[0], rows);
		if (t->ne[0] % w->block_elems != 0)
			return bad(e,
				   "tensor '%s' has rows of %" PRId64
				   " elements, %s needs a multiple of %u",
				   gguf_show(t->name).s, t->ne[0], w->name, w->block_elems);
		if (t->type == TYPE_TL2 && t->ne[0] < 256)
			return bad(e,
				   "tensor '%s' has rows of %" PRId64
				   " elements, tl2 needs at least 256",
				   gguf_show(t->name).s, t->ne[0]);
		if (t->bytes == 0)
			return bad(e, "tensor '%s' is too large", gguf_show(t->name).s);
		return 0;
	}
	for (size_t i = 0; i < sizeof(foreign) / sizeof(*foreign); i++) {
		if (foreign[i].id != t->type)
			continue;
		if (t->ne[0] % foreign[i].elems != 0)
			return bad(e,
				   "tensor '%s' has rows of %" PRId64
				   " elements, %s needs a multiple of %u",
				   gguf_show(t->name).s, t->ne[0], foreign[i].name,
				   foreign[i].elems);
		if (__builtin_mul_overflow((uint64_t)(t->ne[0] / foreign[i].elems * rows),
					   foreign[i].bytes, &t->bytes))
			return bad(e, "tensor '%s' is too large", gguf_show(t->name).s);
		return 0;
	}
	return bad(e, "tensor '%s' has type %u, which is not known", gguf_show(t->name).s, t->type);
}

static int read_dims(struct reader *r, struct gguf_tensor *t, struct err *e)
{
	uint32_t n_dims = read_u32(r);
	int64_t product = 1;

	if (r->truncated)
		return truncated(r, e);
	if (n_dims < 1 || n_dims > GGUF_DIMS_MAX)
		return bad(e, "tensor '%s' has %u dimensions, 1 to %d are allowed",
			   gguf_show(t->name).s, n_dims, GGUF_DIMS_MAX);
	t->n_dims = (int)n_dims;
	for (int d = 0; d < GGUF_DIMS_MAX; d++) {
		uint64_t ne = d < t->n_dims ? read_u64(r) : 1;

		if (r->truncated)
			return truncated(r, e);
		if (ne == 0)
			return bad(e, "tensor '%s': dimension %d is 0", gguf_show(t->name).s, d);
		if (ne > INT64_MAX || __builtin_mul_overflow(product, (int64_t)ne, &product))
			return bad(
				e,
				"tensor '%s': the product of its dimensions does not fit 63 bits",
				gguf_show(t->name).s);
		t->ne[d] = (int64_t)ne;
	}
	return 0;
}

static int read_tensor(struct reader *r, struct gguf_tensor *t, uint32_t alignment, struct err *e)
{
	t->name = read_str(r);
	if (r->truncated)
		return truncated(r, e);
	if (t->name.n == 0)
		return bad(e, "tensor %" PRIu64 " has no name", r->number);
	if (t->name.n > GGUF_NAME_MAX)
		return bad(e,
			   "tensor %" PRIu64
			   " ('%s') has a name of %zu bytes, at most %d are allowed",
			   r->number, gguf_show(t->name).s, t->name.n, GGUF_NAME_MAX);
	if (!name_is_text(t->name))
		return bad(e, "tensor %" PRIu64 " ('%s') has a name that is not UTF-8 text",
			   r->number, gguf_show(t->name).s);

	int rc = read_dims(r, t, e);
	if (rc < 0)
		return rc;
	t->type = read_u32(r);
	t->offset = read_u64(r);
	if (r->truncated)
		return truncated(r, e);
	if (t->offset % alignment != 0)
		return bad(e,
			   "tensor '%s' starts at %" PRIu64
			   ", which is not a multiple of the alignment %u",
			   gguf_show(t->name).s, t->offset, alignment);
	return tensor_bytes(t, e);
}

static int by_offset(const void *a, const void *b)
{
	const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a;
	const struct gguf_tensor *y = *(const struct gguf_tensor *const *)b;

	return (x->offset > y->offset) - (x->offset < y->offset);
}

static int check_overlap(const struct gguf *g, struct err *e)
{
	const struct gguf_tensor **sorted = malloc((g->n_tensors + 1) * sizeof(*sorted));
	int rc = 0;

	if (!sorted)
		return err_set(e, EXIT_INTERNAL, "out of memory");
	for (uint64_t i = 0; i < g->n_tensors; i++)
		sorted[i] = &g->tensors[i];
	qsort(sorted, g->n_tensors, sizeof(*sorted), by_offset);
	for (uint64_t i = 1; i < g->n_tensors && rc == 0; i++) {
		const struct gguf_tensor *a = sorted[i - 1], *b = sorted[i];

		if (b->offset < a->offset + a->bytes || b->offset == a->offset)
			rc = bad(e, "tensors '%s' and '%s' overlap in the file",
				 gguf_show(a->name).s, gguf_show(b->name).s);
	}
	free(sorted);
	return rc;
}

static int place_tensors(struct gguf *g, struct err *e)
{
	for (uint64_t i = 0; i < g->n_tensors; i++) {
		struct gguf_tensor *t = &g->tensors[i];

		if (g->data_offset > g->size || t->offset > g->size - g->data_offset ||
		    t->bytes > g->size - g->data_offset - t->offset)
			return bad(e,
				   "tensor '%s' lies outside the file: it needs %" PRIu64
				   " bytes at %" PRIu64 " of the data, the file has %" PRIu64,
				   gguf_show(t->name).s, t->bytes, t->offset,
				   g->size > g->data_offset ? g->size - g->data_offset : 0);
		t->data = g->map + g->data_offset + t->offset;
	}
	return check_overlap(g, e);
}

static int read_tensors(struct gguf *g, struct reader *r, struct gguf_table *index, struct err *e)
{
	r->part = "tensor";
	for (uint64_t i = 0; i < g->n_tensors; i++) {
		r->number = i;
		int rc = read_tensor(r, &g->tensors[i], g->alignment, e);
		if (rc < 0)
			return rc;
		if (!table_add(index, g->tensors[i].name, i, tensor_name, g))
			return bad(e, "tensor '%s' is there twice",
				   gguf_show(g->tensors[i].name).s);
	}
	g->data_offset = (r->at + g->alignment - 1) / g->alignment * g->alignment;
	return place_tensors(g, e);
}

/* ---- the file ----------------------------------------------------------------------------- */

static int read_header(struct gguf *g, struct reader *r, struct err *e)
{
	const uint8_t *magic = take(r, 4);

	if (!magic || memcmp(magic, "GGUF", 4) != 0)
		return bad(e, "this is not a GGUF file: it does not begin with the bytes GGUF");
	g->version = read_u32(r);
	g->n_tensors = read_u64(r);
	g->n_kv = read_u64(r);
	if (r->truncated)
		return bad(e, "the file ends inside the header: it has %zu bytes, a header has 24",
			   r->n);
	if (g->version == 0x03000000 || g->version == 0x02000000)
		return bad(e, "this is a big-endian GGUF file; only little-endian ones are read");
	if (g->version != 2 && g->version != 3)
		return bad(e, "GGUF version %u is not supported, versions 2 and 3 are", g->version);
	if (g->n_kv > (r->n - r->at) / GGUF_KV_BYTES_MIN)
		return bad(e,
			   "the header promises %" PRIu64 " keys, more than the file has bytes for",
			   g->n_kv);
	if (g->n_tensors > (r->n - r->at) / GGUF_TENSOR_BYTES_MIN)
		return bad(e,
			   "the header promises %" PRIu64
			   " tensors, more than the file has bytes for",
			   g->n_tensors);
	if (g->n_kv >= UINT32_MAX || g->n_tensors >= UINT32_MAX)
		return bad(e, "the header promises more entries than 32 bits count");
	return 0;
}

static int read_alignment(struct gguf *g, struct err *e)
{
	const struct gguf_kv *kv = gguf_find(g, "general.alignment");

	g->alignment = 32;
	if (!kv)
		return 0;
	if (kv->type != GGUF_U32)
		return bad(e, "key 'general.alignment' is %s, u32 is needed",
			   gguf_type_name(kv->type));
	g->alignment = gguf_u32_at(kv->data);
	if (g->alignment < 8 || g->alignment > GGUF_ALIGNMENT_MAX ||
	    (g->alignment & (g->alignment - 1)))
		return bad(e, "general.alignment is %u, a power of two from 8 to %d is needed",
			   g->alignment, GGUF_ALIGNMENT_MAX);
	return 0;
}

int gguf_parse(struct gguf *g, const void *bytes, size_t n, struct err *e)
{
	struct gguf new = { .map = bytes, .size = n };
	struct reader r = { .p = bytes, .n = n };
	int rc = read_header(&new, &r, e);

	if (rc < 0)
		return rc;
	struct gguf_index *index = new.index = calloc(1, sizeof(*index));
	new.kv = calloc(new.n_kv + 1, sizeof(*new.kv));
	new.tensors = calloc(new.n_tensors + 1, sizeof(*new.tensors));
	if (!index || !new.kv || !new.tensors || !table_init(&index->kv, new.n_kv) ||
	    !table_init(&index->tensors, new.n_tensors)) {
		gguf_close(&new);
		return err_set(e, EXIT_INTERNAL, "out of memory");
	}
	rc = read_kvs(&new, &r, &index->kv, e);
	if (rc == 0)
		rc = read_alignment(&new, e);
	if (rc == 0)
		rc = gguf_check_keys(&new, e);
	if (rc == 0)
		rc = read_tensors(&new, &r, &index->tensors, e);
	if (rc < 0) {
		gguf_close(&new);
		return rc;
	}
	*g = new;
	return 0;
}
