/* OPEN with vocab_only reads no page of the weights: what the token gate costs. */
#include "engine.h"
#include "fixtures.h"
#include "test.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

extern const struct engine_ops engine_native, engine_oracle;

/* Resident KiB of the file's mappings in this process; −1 when it is not mapped. */
static long resident_kib(const char *path)
{
	char line[PATH_MAX + 128], real[PATH_MAX];
	FILE *f = fopen("/proc/self/smaps", "re");
	long sum = -1, kib;
	bool ours = false;

	if (!f || !realpath(path, real))
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (strstr(line, real)) {
			ours = true;
			sum = sum < 0 ? 0 : sum;
		} else if (strcspn(line, "-") < strcspn(line, ": ")) {
			ours = false;	/* another mapping's addresses */
		} else if (ours && sscanf(line, "Rss: %ld kB", &kib) == 1) {
			sum += kib;
		}
	}
	fclose(f);
	return sum;
}

static void check_engine(const struct engine_ops *ops, const char *path, long file_kib)
{
	struct engine_options o = {.model_path = path, .n_threads = 1, .vocab_only = true};
	struct engine *g = NULL;
	struct err e = ERR_NONE;
	int32_t *ids = NULL;
	int n = 0, rc = ops->open(&g, &o, &e);
	long touched, n_all;

	CHECK(strstr(ops->features, "vocab_only"), "%s announces vocab_only", ops->name);
	CHECK(rc == 0, "%s opens the vocabulary alone: %s", ops->name, e.msg);
	if (rc != 0)
		return;
	rc = ops->tokenize(g, "Hello, world", 12, true, false, &ids, &n, &e);
	touched = resident_kib(path);
	CHECK(rc == 0 && n > 0, "%s tokenizes with it: %d ids", ops->name, n);
	CHECK(touched < file_kib / 8, "%s: %ld KiB of the file's %ld are resident", ops->name, touched,
	      file_kib);
	free(ids);
	ops->close(g);

	/* the same measure sees weights where they are read */
	o.vocab_only = false;
	rc = ops->open(&g, &o, &e);
	CHECK(rc == 0, "%s opens the model: %s", ops->name, e.msg);
	if (rc != 0)
		return;
	rc = ops->tokenize(g, "Hello, world", 12, true, false, &ids, &n, &e);
	if (rc == 0) {
		struct engine_eval q = {.tokens = ids, .n_tokens = n, .logits = ENGINE_LOGITS_NONE};

		rc = ops->evaluate(g, &q, &e);
	}
	n_all = resident_kib(path);
	CHECK(rc == 0 && n_all > file_kib / 2, "%s evaluated: %ld KiB", ops->name, n_all);
	free(ids);
	ops->close(g);
}

int main(void)
{
	struct fixture_options o = {.preset = "tiny-llama", .weights = "f16", .n_layer = 6,
				    .n_embd = 512, .n_ff = 1024};
	struct err e = ERR_NONE;
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/tmp/assay-vocab-only-%d.gguf", (int)getpid());
	CHECK(fixture_write(path, &o, &e) == 0, "a model with weights: %s", e.msg);
	if (stat(path, &st) == 0) {
		check_engine(&engine_native, path, (long)(st.st_size >> 10));
		check_engine(&engine_oracle, path, (long)(st.st_size >> 10));
	}
	unlink(path);
	return TEST_END();
}
