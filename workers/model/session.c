#include "session.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Attention may read up to a whole group of lanes (128) beyond the last stored cell; a padded
 * length of 32s leaves up to 96 of them outside. */
enum { CELLS_GROUP = 128 };

static size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

static size_t act_max(const struct linear *l, size_t so_far)
{
	return l->w.type->act == ACT_F32
		       ? so_far
		       : max_size(so_far, act_row_bytes(l->w.type->act, l->w.n_in));
}

/* Bytes of the longest activation row of any weight, rounded up to whole cache lines. */
static size_t act_row_max(const struct model *m)
{
	size_t n = act_max(&m->output, 64);
	for (int i = 0; i < m->hp.n_layer; i++) {
		const struct layer *l = &m->layers[i];
		const struct linear *all[] = {&l->q,    &l->k,  &l->v,   &l->o,
					      &l->gate, &l->up, &l->down};
		for (size_t k = 0; k < sizeof(all) / sizeof(all[0]); k++)
			n = act_max(all[k], n);
	}
	return n;
}

/* On huge pages where it fills some: a tile of a product touches a row, so a page, per token. */
static void *block_new(struct session *s, size_t bytes, bool *failed)
{
	const size_t huge = (size_t)2 << 20;
	void *p = NULL;
	bytes = (bytes + 63) / 64 * 64;
	if (posix_memalign(&p, bytes >= huge ? huge : 64, bytes) != 0)
		p = NULL;
	if (p && bytes >= huge)
		madvise(p, bytes, MADV_HUGEPAGE);
	*failed |= !p;
	s->activation_bytes += bytes;
	return p;
}

static int allocate(struct session *s, struct err *e)
{
	const struct hparams *h = &s->m->hp;
	const size_t t = (size_t)s->n_ubatch, q = (size_t)h->n_head * (size_t)h->head_dim;
	const size_t kv = (size_t)h->n_kv_head * (size_t)h->head_dim;
	const size_t f = sizeof(float);
	bool failed = false;
	s->x = block_new(s, t * (size_t)h->n_embd * f, &failed);
	s->norm = block_new(s, t * (size_t)h->n_embd * f, &failed);
	s->block_floats = max_size(t * 2 * (q + kv), t * 2 * (size_t)h->n_ff);
	s->block_floats = max_size(s->block_floats, (size_t)h->n_vocab);
	s->block = block_new(s, s->block_floats * f, &failed);
	s->act = block_new(s, t * act_row_max(s->m), &failed);
	s->cs = block_new(s, t * (size_t)h->rope.n_dims * f, &failed);
	if (failed)
		return err_set(e, EXIT_INFERENCE,
			       "no memory for the activations of %d positions (%zu MiB)",
			       s->n_ubatch, s->activation_bytes >> 20);
	s->q = s->block;
	s->heads = s->q + t * q;
	s->kcur = s->heads + t * q;
	s->v = s->kcur + t * kv;
	s->gate = s->block;
	s->up = s->gate + t * (size_t)h->n_ff;
	return 0;
}

int session_open(struct session *s, const struct model *m, const struct kernels *k,
		 struct team *team, const struct session_options *o, struct err *e)
{
	memset(s, 0, sizeof(*s));
	s->m = m;
	s->k = k;
	s->n_ctx = o->n_ctx > 0 ? o->n_ctx : m->hp.n_ctx_train < SESSION_CTX ? m->hp.n_ctx_train
									     : SESSION_CTX;
	s->n_ubatch = o->n_ubatch > 0 ? o->n_ubatch : SESSION_UBATCH;
	if (s->n_ubatch > s->n_ctx)
		s->n_ubatch = s->n_ctx;
	int64_t cells = session_n_kv(s, s->n_ctx);
	int rc = ops_init(&s->ops, k, team, cells, m->hp.head_dim, m->hp.n_kv_head, e);
	s->ops.defects = o->defects;
	s->kv.f32 = o->kv_f32;
	if (rc == 0)
		rc = allocate(s, e);
	if (rc != 0)
		session_close(s);
	return rc;
}

int session_reserve(struct session *s, int64_t n_positions, struct err *e)
{
	const struct hparams *h = &s->m->hp;
	const int64_t n = session_n_kv(s, n_positions);
	const int cells = (int)((n + CELLS_GROUP - 1) / CELLS_GROUP * CELLS_GROUP);
	const bool f32 = s->kv.f32;
	if (cells <= s->kv.n_ctx) {
		kv_cache_clear(&s->kv);
		return 0;
	}
	kv_cache_free(&s->kv);
	s->kv = (struct kv_cache){.f32 = f32};
	return kv_cache_new(&s->kv, s->k, h->n_layer, cells, h->n_kv_head, h->head_dim, f32, e);
}

void session_close(struct session *s)
{
	kv_cache_free(&s->kv);
	ops_free(&s->ops);
	free(s->x);
	free(s->norm);
	free(s->block);
	free(s->act);
	free(s->cs);
	memset(s, 0, sizeof(*s));
}

int64_t session_n_kv(const struct session *s, int64_t used)
{
	return kernels_kv_length(&s->k->profile, used, INT32_MAX);
}
