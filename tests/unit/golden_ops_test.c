/*
 * Every recorded operation of the golden runs on its own recorded inputs: what the reference
 * computed against what the kernels of the same profile compute, to the bit. One line per case and
 * operation kind: equal bits of all values, worst distance in ULP, worst NMSE of a row.
 * An argument keeps the cases that contain it.
 */
#include "gguf.h"
#include "kernels.h"
#include "test.h"

#include <math.h>
#include <unistd.h>

enum { TENSORS_MAX = 512, NAME_MAX_ = 96, KINDS_MAX = 32, ALIGNMENT = 64 };

struct record {
	char name[NAME_MAX_], op[24], src[2][NAME_MAX_];
	int64_t ne[4];
	const float *data;
};

struct kind {
	char name[48];
	long equal, total;
	double worst_ulp, worst_nmse;
};

struct golden {
	const char *dir;
	struct gguf g;
	struct kernels k;
	float *values;
	struct record rec[TENSORS_MAX];
	int n_rec;
	struct kind kinds[KINDS_MAX];
	int n_kinds;
	int32_t ids[1024];
	int n_ids;
	char arch[64];
};

/* ---- reading a case ----------------------------------------------------------------------- */

static void *read_file(const char *dir, const char *name, size_t *bytes)
{
	char path[512];
	FILE *f;
	void *p;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "rb");
	if (!f)
		return NULL;
	fseek(f, 0, SEEK_END);
	*bytes = (size_t)ftell(f);
	rewind(f);
	p = malloc(*bytes + 1);
	if (fread(p, 1, *bytes, f) != *bytes)
		abort();
	((char *)p)[*bytes] = 0;
	fclose(f);
	return p;
}

/* The name without what a view added to it. */
static void copy_name(char *dst, const char *src)
{
	snprintf(dst, NAME_MAX_, "%s", src ? src : "");
	dst[strcspn(dst, "( ")] = 0;
}

static void parse_record(struct golden *c, char *line)
{
	struct record *r = &c->rec[c->n_rec];
	char *field[7] = {0}, *at = line;
	int n = 0;

	/* "ffn_sqr(relu)-0" keeps its bracket: only sources are cut */
	for (; n < 7 && at; n++)
		field[n] = strsep(&at, "\t");
	if (n < 6 || c->n_rec == TENSORS_MAX)
		abort();
	snprintf(r->name, sizeof(r->name), "%s", field[0]);
	snprintf(r->op, sizeof(r->op), "%s", field[1]);
	sscanf(field[3], "%ld,%ld,%ld,%ld", &r->ne[0], &r->ne[1], &r->ne[2], &r->ne[3]);
	r->data = c->values + atol(field[4]);
	if (strncmp(field[5], "ffn_sqr", 7) == 0)
		snprintf(r->src[0], NAME_MAX_, "%s", field[5]);
	else
		copy_name(r->src[0], field[5]);
	copy_name(r->src[1], field[6]);
	c->n_rec++;
}

static void read_tokens(struct golden *c)
{
	size_t bytes;
	char *text = read_file(c->dir, "tokens.txt", &bytes), *at = text, *end;

	for (;;) {
		long id = strtol(at, &end, 10);

		if (end == at || c->n_ids == 1024)
			break;
		c->ids[c->n_ids++] = (int32_t)id;
		at = end;
	}
	free(text);
}

static bool golden_open(struct golden *c, const char *dir, const char *profile, const char *isa)
{
	struct cpu_flags cpu = cpu_flags_detect();
	struct gguf_str arch;
	struct profile p;
	struct err e = ERR_NONE;
	char path[512];
	size_t bytes;

	*c = (struct golden){.dir = dir};
	char *text = read_file(dir, "tensors.tsv", &bytes), *at = text;

	c->values = read_file(dir, "tensors.f32", &bytes);
	if (!text || !c->values) {
		free(text);
		return false;
	}
	for (char *line; (line = strsep(&at, "\n")) && *line;)
		parse_record(c, line);
	free(text);
	read_tokens(c);
	snprintf(path, sizeof(path), "%s/model.gguf", dir);
	if (gguf_open(&c->g, path, &e) < 0 ||
	    profile_by_name(&p, profile, strstr(dir, "bitnetcpp") != NULL, &e) < 0 ||
	    kernels_init(&c->k, &cpu, isa, &p, &e) < 0) {
		CHECK(false, "%s opens: %s", dir, e.msg);
		return false;
	}
	gguf_string(&c->g, "general.architecture", &arch);
	snprintf(c->arch, sizeof(c->arch), "%.*s", (int)arch.n, arch.s);
	return true;
}

static void golden_close(struct golden *c)
{
	gguf_close(&c->g);
	free(c->values);
}

static double metadata(struct golden *c, const char *key, double otherwise)
{
	char full[160];
	double v;

	snprintf(full, sizeof(full), "%s.%s", c->arch, key);
	return gguf_f64(&c->g, full, &v) ? v : otherwise;
}

/* The last tensor of this name before record i; op NULL = any. */
static const struct record *before(const struct golden *c, int i, const char *name, const char *op)
{
	while (--i >= 0)
		if (strcmp(c->rec[i].name, name) == 0 && (!op || strcmp(c->rec[i].op, op) == 0))
			return &c->rec[i];
	return NULL;
}

/* ---- counting ----------------------------------------------------------------------------- */

static double ulp_distance(float a, float b)
{
	int32_t x, y;

	memcpy(&x, &a, sizeof(x));
	memcpy(&y, &b, sizeof(y));
	x = x < 0 ? INT32_MIN - x : x;
	y = y < 0 ? INT32_MIN - y : y;
	return fabs((double)x - (double)y);
}

static struct kind *kind_of(struct golden *c, const char *name)
{
	for (int i = 0; i < c->n_kinds; i++)
		if (strcmp(c->kinds[i].name, name) == 0)
			return &c->kinds[i];
	if (c->n_kinds == KINDS_MAX)
		abort();
	struct kind *k = &c->kinds[c->n_kinds++];

	snprintf(k->name, sizeof(k->name), "%s", name);
	return k;
}

static void count_rows(struct golden *c, const char *kind, const float *got, const float *want,
		       int64_t n, int64_t rows)
{
	struct kind *k = kind_of(c, kind);

	for (int64_t r = 0; r < rows; r++, got += n, want += n) {
		double err = 0, ref = 0;

		for (int64_t i = 0; i < n; i++) {
			double d = (double)got[i] - (double)want[i];

			k->equal += memcmp(&got[i], &want[i], sizeof(float)) == 0;
			k->total++;
			k->worst_ulp = fmax(k->worst_ulp, ulp_distance(got[i], want[i]));
			err += d * d;
			ref += (double)want[i] * (double)want[i];
		}
		if (err > 0)
			k->worst_nmse = fmax(k->worst_nmse, err / ref);
	}
}

static float *floats(int64_t n)
{
	size_t bytes = ((size_t)n * sizeof(float) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	float *p = aligned_alloc(ALIGNMENT, bytes);

	return memset(p, 0, bytes);
}

/* ---- the operations ----------------------------------------------------------------------- */

static void op_get_rows(struct golden *c, const struct record *r)
{
	const struct gguf_tensor *t = gguf_tensor(&c->g, r->src[0]);
	const struct weight_type *type = weight_type_by_id(t->type);
	size_t row = (size_t)weight_type_bytes(type, t->ne[0], 1);
	float *y = floats(r->ne[0]);

	for (int64_t i = 0; i < r->ne[1]; i++) {
		type->dequantize(t->data + (size_t)c->ids[i] * row, NULL, y, r->ne[0]);
		count_rows(c, "GET_ROWS", y, r->data + i * r->ne[0], r->ne[0], 1);
	}
	free(y);
}

static void op_norm(struct golden *c, int i)
{
	const struct record *r = &c->rec[i], *x = before(c, i, r->src[0], NULL);
	const struct record *mul = &c->rec[i + 1];
	float eps = (float)metadata(c, "attention.layer_norm_rms_epsilon", 1e-5);
	float *y = floats(r->ne[0] * r->ne[1]);
	const struct gguf_tensor *w = gguf_tensor(&c->g, mul->src[1]);

	c->k.rms_norm(&c->k, x->data, NULL, eps, y, r->ne[0], r->ne[1]);
	count_rows(c, "RMS_NORM", y, r->data, r->ne[0], r->ne[1]);
	if (w && strcmp(mul->op, "MUL") == 0) {
		c->k.rms_norm(&c->k, x->data, (const float *)(const void *)w->data, eps, y,
			      r->ne[0], r->ne[1]);
		count_rows(c, "RMS_NORM+MUL", y, mul->data, r->ne[0], r->ne[1]);
	}
	free(y);
}

static struct weight weight_of(const struct gguf_tensor *t)
{
	const struct weight_type *type = weight_type_by_id(t->type);
	size_t row = (size_t)t->ne[0] / type->block_elems * type->block_bytes;

	return (struct weight){
		.type = type,
		.data = t->data,
		.tail = type->tail_bytes ? t->data + row * (size_t)t->ne[1] : NULL,
		.row_bytes = row,
		.n_in = t->ne[0],
		.n_out = t->ne[1],
	};
}

static void op_matmul(struct golden *c, int i)
{
	const struct record *r = &c->rec[i], *x = before(c, i, r->src[1], NULL);
	struct weight w = weight_of(gguf_tensor(&c->g, r->src[0]));
	size_t bytes = (act_row_bytes(w.type->act, w.n_in) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	uint8_t *act = aligned_alloc(ALIGNMENT, bytes * (size_t)r->ne[1]);
	float *y = floats(r->ne[0] * r->ne[1]);
	char kind[48];

	for (int64_t t = 0; t < r->ne[1]; t++)
		c->k.quantize[w.type->act](&c->k, x->data + t * w.n_in, act + (size_t)t * bytes,
					   w.n_in);
	snprintf(kind, sizeof(kind), "MUL_MAT %s", w.type->name);
	c->k.matmul(&c->k, &w, 0, w.n_out, act, bytes, r->ne[1], y, r->ne[0], false);
	count_rows(c, kind, y, r->data, r->ne[0], r->ne[1]);
	for (int64_t t = 0; t < r->ne[1]; t++)	/* and one token at a time */
		c->k.matmul(&c->k, &w, 0, w.n_out, act + (size_t)t * bytes, bytes, 1,
			    y + t * r->ne[0], r->ne[0], false);
	snprintf(kind, sizeof(kind), "MUL_MAT %s single", w.type->name);
	count_rows(c, kind, y, r->data, r->ne[0], r->ne[1]);
	free(act);
	free(y);
}

static void op_rope(struct golden *c, int i)
{
	const struct record *r = &c->rec[i], *x = before(c, i, r->src[0], "MUL_MAT");
	int64_t row = r->ne[0] * r->ne[1];
	struct rope_params p = {
		.base = (float)metadata(c, "rope.freq_base", 10000),
		.freq_scale = 1,
		.attn_factor = 1,
		.n_dims = (int)metadata(c, "rope.dimension_count", (double)r->ne[0]),
	};
	float *y = floats(row), cs[512];

	for (int64_t t = 0; t < r->ne[2]; t++) {
		memcpy(y, x->data + t * row, (size_t)row * sizeof(*y));
		kernels_rope_angles(&p, t, cs);
		c->k.rope(&c->k, y, cs, (int)r->ne[1], (int)r->ne[0], p.n_dims,
			  strcmp(c->arch, "llama") != 0);
		count_rows(c, "ROPE", y, r->data + t * row, row, 1);
	}
	free(y);
}

/* Keys and values of a layer as the cache holds them, and what attention makes of them. */
struct layer {
	const struct record *q, *k, *v, *kq, *probs, *out;
	uint16_t *kc, *vc;
	int64_t n_head, n_kv_head, head_dim, n_tok, n_kv;
	bool blocks;			/* keys: a plane for each head */
	uint8_t place[ATTEND_DIM_MAX];
};

static int64_t key_plane(const struct layer *l)
{
	return attend_block_cells(l->n_kv) * l->head_dim;
}

static void fill_cache(struct golden *c, struct layer *l)
{
	int64_t width = l->n_kv_head * l->head_dim;

	l->blocks = attend_in_blocks(&c->k, (int)l->head_dim);
	if (l->blocks)
		attend_places(&c->k, (int)l->head_dim, l->place);
	l->kc = calloc((size_t)(l->n_kv_head * key_plane(l)), sizeof(uint16_t));
	l->vc = calloc((size_t)(l->n_kv * width), sizeof(uint16_t));
	for (int64_t t = 0; t < l->n_tok; t++) {
		for (int64_t i = 0; i < width; i++) {
			int64_t d = l->head_dim, at = t * width + i;

			if (l->blocks)
				at = i / d * key_plane(l) + attend_block_at(t, l->place[i % d], d);
			l->kc[at] = f32_to_f16(l->k->data[t * width + i]);
		}
		for (int64_t i = 0; i < width; i++)
			l->vc[i * l->n_kv + t] = f32_to_f16(l->v->data[t * width + i]);
	}
}

static void attend_layer(struct golden *c, struct layer *l)
{
	int64_t group = l->n_head / l->n_kv_head, width = l->n_head * l->head_dim;
	float *scores = floats(l->n_kv * l->n_tok * l->n_head);
	float *probs = floats(l->n_kv * l->n_tok * l->n_head), *out = floats(width * l->n_tok);

	for (int64_t h = 0; h < l->n_kv_head; h++) {
		struct attend a = {
			.q = l->q->data + h * group * l->head_dim,
			.out = out + h * group * l->head_dim,
			.q_stride = width,
			.out_stride = width,
			.n_heads = (int)group,
			.n_tok = (int)l->n_tok,
			.head_dim = (int)l->head_dim,
			.n_vis = 1,
			.n_kv = l->n_kv,
			.kc = l->kc + h * (l->blocks ? key_plane(l) : l->head_dim),
			.k_place = l->blocks ? l->place : NULL,
			.vc = l->vc + h * l->head_dim * l->n_kv,
			.k_stride = l->n_kv_head * l->head_dim,
			.v_stride = l->n_kv,
			.scale = 1.0f / sqrtf((float)l->head_dim),
			.scores = scores + h * group * l->n_tok * l->n_kv,
			.probs = probs + h * group * l->n_tok * l->n_kv,
			.trace_stride = l->n_tok * l->n_kv,
			.n_used = l->n_tok,
		};

		a.scratch = aligned_alloc(ALIGNMENT, (attend_scratch_bytes(&a) + 63) / 64 * 64);
		c->k.attend(&c->k, &a);
		a.scores = a.probs = NULL;
		float *again = floats(width * l->n_tok);

		a.out = again + h * group * l->head_dim;
		c->k.attend(&c->k, &a);
		for (int64_t t = 0; t < l->n_tok; t++)
			count_rows(c, "attention untraced",
				   again + t * width + h * group * l->head_dim,
				   l->out->data + t * width + h * group * l->head_dim,
				   group * l->head_dim, 1);
		free(again);
		free(a.scratch);
	}
	count_rows(c, "KQ", scores, l->kq->data, l->n_kv, l->n_tok * l->n_head);
	count_rows(c, "SOFT_MAX", probs, l->probs->data, l->n_kv, l->n_tok * l->n_head);
	count_rows(c, "KQV", out, l->out->data, width, l->n_tok);
	free(scores);
	free(probs);
	free(out);
}

static void op_attention(struct golden *c, int i, int layer)
{
	const struct record *kq = &c->rec[i];
	struct layer l = {.kq = kq, .probs = kq + 1, .out = kq + 3};
	char name[32];

	snprintf(name, sizeof(name), "Qcur-%d", layer);
	l.q = before(c, i, name, "ROPE");
	name[0] = 'K';
	l.k = before(c, i, name, "ROPE");
	name[0] = 'V';
	l.v = before(c, i, name, "MUL_MAT");
	if (!l.q || !l.k || !l.v || strcmp(l.out->op, "CONT") != 0)
		abort();
	l.head_dim = l.q->ne[0];
	l.n_head = l.q->ne[1];
	l.n_kv_head = l.k->ne[1];
	l.n_tok = l.q->ne[2];
	l.n_kv = kq->ne[0];
	fill_cache(c, &l);
	attend_layer(c, &l);
	free(l.kc);
	free(l.vc);
}

static void op_add(struct golden *c, int i)
{
	const struct record *r = &c->rec[i];
	const struct record *a = before(c, i, r->src[0], NULL), *b = before(c, i, r->src[1], NULL);
	float *y = floats(r->ne[0] * r->ne[1]);

	c->k.add(a->data, b->data, y, r->ne[0] * r->ne[1]);
	count_rows(c, "ADD", y, r->data, r->ne[0], r->ne[1]);
	free(y);
}

/* ffn_out = sqr(relu(gate)) · up, or silu(gate) · up: from the gate itself */
static void op_gate(struct golden *c, int i, int layer)
{
	const struct record *r = &c->rec[i];
	enum activation kind = strncmp(r->src[0], "ffn_sqr", 7) == 0 ? ACTIVATION_RELU2
								      : ACTIVATION_SILU;
	char name[32];

	snprintf(name, sizeof(name), "ffn_gate-%d", layer);
	const struct record *gate = before(c, i, name, NULL), *up = before(c, i, r->src[1], NULL);
	float *y = floats(r->ne[0] * r->ne[1]);

	for (int64_t t = 0; t < r->ne[1]; t++)
		c->k.glu(&c->k, kind, gate->data + t * r->ne[0], up->data + t * r->ne[0],
			 y + t * r->ne[0], r->ne[0]);
	count_rows(c, kind == ACTIVATION_SILU ? "SILU·up" : "RELU²·up", y, r->data, r->ne[0],
		   r->ne[1]);
	free(y);
}

static void run_record(struct golden *c, int i)
{
	const struct record *r = &c->rec[i];
	const char *dash = strrchr(r->name, '-');
	int layer = dash ? atoi(dash + 1) : -1;

	if (strcmp(r->op, "GET_ROWS") == 0 && gguf_tensor(&c->g, r->src[0]))
		op_get_rows(c, r);
	else if (strcmp(r->op, "RMS_NORM") == 0)
		op_norm(c, i);
	else if (strcmp(r->op, "MUL_MAT") == 0 && gguf_tensor(&c->g, r->src[0]))
		op_matmul(c, i);
	else if (strcmp(r->op, "ROPE") == 0)
		op_rope(c, i);
	else if (strncmp(r->name, "kq-", 3) == 0)
		op_attention(c, i, layer);
	else if (strcmp(r->op, "ADD") == 0)
		op_add(c, i);
	else if (strcmp(r->op, "SWIGLU") == 0)
		op_gate(c, i, layer);
	else if (strncmp(r->name, "ffn_out-", 8) == 0 && strcmp(r->op, "MUL") == 0)
		op_gate(c, i, layer);
}

static void run_case(const char *dir, const char *profile, const char *isa)
{
	static struct golden c;

	if (!golden_open(&c, dir, profile, isa)) {
		SKIP(dir, "no recorded tensors");
		golden_close(&c);
		return;
	}
	for (int i = 0; i < c.n_rec; i++)
		run_record(&c, i);
	for (int i = 0; i < c.n_kinds; i++) {
		struct kind *k = &c.kinds[i];

		CHECK(k->equal == k->total,
		      "%-36s %-11s %-20s %7ld/%-7ld equal, worst %g ULP, NMSE %.1e",
		      strrchr(dir, '/') + 1, isa, k->name, k->equal, k->total, k->worst_ulp,
		      k->worst_nmse);
	}
	CHECK(c.n_kinds >= 9, "%s: %d kinds of operations", dir, c.n_kinds);
	golden_close(&c);
}

int main(int argc, char **argv)
{
	static const struct { const char *dir, *profile; } cases[] = {
		{"avx2/bitnetcpp-b158-i2_s", "ggml-avx2-clang"},
		{"avx2/llamacpp-bitnet-tq2_0", "ggml-avx2-gcc"},
		{"avx2/llamacpp-llama-f16", "ggml-avx2-gcc"},
		{"bitnetcpp-b158-i2_s", "ggml-avx512-clang"},
		{"bitnetcpp-b158-i2_s-1tok", "ggml-avx512-clang"},
		{"bitnetcpp-b158-i2_s-long", "ggml-avx512-clang"},
		{"bitnetcpp-b158-i2_s-silu-fault", "ggml-avx512-clang"},
		{"llamacpp-bitnet-tq2_0", "ggml-fp16-gcc"},
		{"llamacpp-llama-Q4_0", "ggml-fp16-gcc"},
		{"llamacpp-llama-Q4_K_M", "ggml-fp16-gcc"},
		{"llamacpp-llama-Q6_K", "ggml-fp16-gcc"},
		{"llamacpp-llama-Q8_0", "ggml-fp16-gcc"},
		{"llamacpp-llama-f16", "ggml-fp16-gcc"},
		{"llamacpp-llama-f32", "ggml-fp16-gcc"},
	};
	struct cpu_flags cpu = cpu_flags_detect();
	struct profile any;
	struct kernels k;

	if (access("../shared/golden", R_OK) != 0) {
		SKIP("recorded operations of the references", "no ../shared here");
		return 0;
	}
	profile_by_name(&any, "ggml-avx2", false, NULL);
	for (int isa = ISA_C; isa < ISA_COUNT; isa++) {
		if (kernels_init(&k, &cpu, isa_name((enum isa)isa), &any, NULL) < 0)
			continue;
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			char dir[256];

			if (argc > 1 && !strstr(cases[i].dir, argv[1]))
				continue;
			snprintf(dir, sizeof(dir), "../shared/golden/%s", cases[i].dir);
			run_case(dir, cases[i].profile, isa_name((enum isa)isa));
		}
	}
	return TEST_END();
}
