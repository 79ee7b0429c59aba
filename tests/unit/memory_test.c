/*
 * Evaluating 512 positions with all their logits needs, beyond the open model, at most 1.15 times
 * the KV cache of these positions, one set of activations and one position of logits, also in a
 * context of eight times as many.
 */
#include "engine.h"
#include "fixtures.h"
#include "test.h"

#include <unistd.h>

extern const struct engine_ops engine_native;

enum { T = 512, CTX = 8 * T, EMBD = 1024, HEADS = 8, KV_HEADS = 2, FF = 2816, LAYERS = 6 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* Bytes of memory that belong to no file. */
static double own_bytes(void)
{
	double resident = 0, shared = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	if (!f || fscanf(f, "%*f %lf %lf", &resident, &shared) != 2)
		resident = shared = 0;
	if (f)
		fclose(f);
	return (resident - shared) * (double)sysconf(_SC_PAGESIZE);
}

static int sample(void *ctx, int pos, int step, int32_t token, const float *logits)
{
	double *most = ctx, now = own_bytes();
	(void)pos, (void)step, (void)token, (void)logits;
	if (now > *most)
		*most = now;
	return 0;
}

/* What opening for n_ctx positions and evaluating n ids adds at most, −1 when it fails. */
static double added(const char *path, int n_ctx, int n)
{
	struct engine_options o = {
		.model_path = path, .n_threads = 2, .n_ctx = n_ctx, .n_ubatch = n};
	struct engine_eval q = {.n_tokens = n, .on_logits = sample};
	struct engine *engine = NULL;
	struct err e = ERR_NONE;
	double before = own_bytes(), most = 0;
	static int32_t ids[T];

	for (int i = 0; i < n; i++)
		ids[i] = (i * 131 + 7) % 470;
	q.tokens = ids;
	q.ctx = &most;
	int rc = engine_native.open(&engine, &o, &e);
	if (rc == 0)
		rc = engine_native.evaluate(engine, &q, &e);
	if (engine)
		engine_native.close(engine);
	CHECK(rc == 0, "%d positions are evaluated %s", n, e.msg);
	return rc == 0 ? most - before : -1;
}

int main(void)
{
	char path[] = "/tmp/memory_test.XXXXXX";
	struct fixture_options o = {.preset = "tiny-bitnet", .n_embd = EMBD, .n_head = HEADS,
				    .n_kv_head = KV_HEADS, .n_ff = FF, .n_layer = LAYERS,
				    .n_ctx = CTX};
	struct err e = ERR_NONE;
	const double kv_width = EMBD / HEADS * KV_HEADS;
	const double cache = 2.0 * LAYERS * T * kv_width * 2;
	/* residual stream, norm, gate and up, the codes of a product's input, rotation angles */
	const double activations = T * (2.0 * EMBD * 4 + 2.0 * FF * 4 + FF + EMBD / HEADS * 4.0);
	const double logits = 480 * 4;

	close(mkstemp(path));
	if (SANITIZED) {
		SKIP("memory of an evaluation", "a sanitizer keeps its own beside it");
	} else if (fixture_write(path, &o, &e) == 0) {
		double model = added(path, 1, 1), all = added(path, CTX, T);
		double limit = 1.15 * (cache + activations + logits);
		printf("# %d positions: %.2f MiB beyond a model open for one; limit %.2f\n", T,
		       (all - model) / 0x1p20, limit / 0x1p20);
		CHECK(model >= 0 && all - model > cache && all - model <= limit,
		      "512 positions: at most 1.15 times cache, activations and one row of logits");
	} else {
		CHECK(0, "the model is written: %s", e.msg);
	}
	unlink(path);
	return TEST_END();
}
