/* The reader on whole files, on every kind of broken file, and the writer through the reader. */
#include "gguf.h"

#include "fixtures.h"
#include "gguf_write.h"
#include "test.h"
#include "weight_type.h"

#include <stdint.h>
#include <unistd.h>

/* ---- a file in memory, built by hand so that it can be wrong ------------------------------ */

struct file { uint8_t b[8192]; size_t n; };

static void bytes(struct file *f, const void *p, size_t n)
{
	if (f->n + n > sizeof(f->b))
		abort();
	memcpy(f->b + f->n, p, n);
	f->n += n;
}

static void u8(struct file *f, uint8_t v) { bytes(f, &v, 1); }
static void u32(struct file *f, uint32_t v) { bytes(f, &v, 4); }
static void u64(struct file *f, uint64_t v) { bytes(f, &v, 8); }

static void text(struct file *f, const char *s)
{
	u64(f, strlen(s));
	bytes(f, s, strlen(s));
}

static void head(struct file *f, uint32_t version, uint64_t n_tensors, uint64_t n_kv)
{
	f->n = 0;
	bytes(f, "GGUF", 4);
	u32(f, version);
	u64(f, n_tensors);
	u64(f, n_kv);
}

static void kv_u32(struct file *f, const char *key, uint32_t v)
{
	text(f, key);
	u32(f, GGUF_U32);
	u32(f, v);
}

static void kv_string(struct file *f, const char *key, const char *v)
{
	text(f, key);
	u32(f, GGUF_STRING);
	text(f, v);
}

static void kv_array(struct file *f, const char *key, uint32_t elem, uint64_t n)
{
	text(f, key);
	u32(f, GGUF_ARRAY);
	u32(f, elem);
	u64(f, n);
}

static void tensor(struct file *f, const char *name, uint64_t ne0, uint64_t ne1, uint32_t type,
		   uint64_t offset)
{
	text(f, name);
	u32(f, 2);
	u64(f, ne0);
	u64(f, ne1);
	u32(f, type);
	u64(f, offset);
}

static void data(struct file *f, size_t n)
{
	while (f->n % 32)
		u8(f, 0);
	while (n--)
		u8(f, 0);
}

/* Parses an exact-size heap copy, so that a sanitizer sees any byte read beyond the end. */
static int parse(const struct file *f, struct err *e)
{
	struct gguf g = {0};
	uint8_t *copy = malloc(f->n ? f->n : 1);

	memcpy(copy, f->b, f->n);
	*e = ERR_NONE;
	int rc = gguf_parse(&g, copy, f->n, e);

	gguf_close(&g);
	free(copy);
	return rc;
}

static void refused(const char *name, const struct file *f, const char *sentence)
{
	struct err e;

	CHECK(parse(f, &e) == -EXIT_MODEL_INVALID, "%s: refused with code 15", name);
	CHECK_STR(e.msg, sentence, "%s: the sentence", name);
}

/* ---- header and keys ---------------------------------------------------------------------- */

static void broken_headers(void)
{
	struct file f;

	f.n = 0;
	bytes(&f, "GGML", 4);
	refused("magic", &f, "this is not a GGUF file: it does not begin with the bytes GGUF");
	head(&f, 1, 0, 0);
	refused("version 1", &f, "GGUF version 1 is not supported, versions 2 and 3 are");
	head(&f, 0x03000000, 0, 0);
	refused("big-endian", &f,
		"this is a big-endian GGUF file; only little-endian ones are read");
	head(&f, 3, 0, UINT64_MAX / 64 + 2);
	refused("key count wraps", &f,
		"the header promises 288230376151711745 keys, more than the file has bytes for");
	head(&f, 3, UINT64_MAX / 96 + 2, 0);
	refused("tensor count wraps", &f,
		"the header promises 192153584101141164 tensors, more than the file has bytes for");
}

static void broken_keys(void)
{
	struct file f;

	head(&f, 3, 0, 2);
	kv_u32(&f, "a.b", 1);
	kv_u32(&f, "a.b", 1);
	refused("duplicate key", &f, "key 'a.b' is there twice");
	head(&f, 3, 0, 1);
	kv_u32(&f, "", 1);
	refused("empty key", &f, "key 0 is empty");
	head(&f, 3, 0, 1);
	kv_u32(&f, "a\xff" "b", 1);
	refused("key not UTF-8", &f, "key 0 ('a?b') is not UTF-8 text");
	head(&f, 3, 0, 1);
	kv_u32(&f, "a\xc0\x80" "b", 1);
	refused("key overlong UTF-8", &f, "key 0 ('a??b') is not UTF-8 text");
	head(&f, 3, 0, 1);
	u64(&f, UINT64_MAX - 3);
	data(&f, 64);
	refused("key length wraps", &f,
		"the file ends inside key 0: a length reaches beyond its 96 bytes, "
		"or the file was cut");
	head(&f, 3, 0, 1);
	text(&f, "a");
	u32(&f, 13);
	data(&f, 32);
	refused("value type", &f, "key 'a' has type 13, which does not exist");
	head(&f, 3, 0, 1);
	text(&f, "a");
	u32(&f, GGUF_STRING);
	u64(&f, UINT64_MAX);
	refused("string length wraps", &f, "key 'a': its value is longer than the file");
	head(&f, 3, 0, 1);
	text(&f, "a");
	u32(&f, GGUF_BOOL);
	u8(&f, 2);
	refused("bool of 2", &f, "key 'a' is a bool with the value 2");
}

static void broken_arrays(void)
{
	struct file f;

	head(&f, 3, 0, 1);
	kv_array(&f, "a", GGUF_U64, UINT64_MAX / 8 + 2);
	data(&f, 64);
	refused("array length wraps", &f,
		"key 'a' is an array of 2305843009213693953 elements, more than the file has bytes for");
	head(&f, 3, 0, 1);
	kv_array(&f, "a", GGUF_ARRAY, 1);
	refused("array of arrays", &f, "key 'a' is an array of arrays, which is not supported");
	head(&f, 3, 0, 1);
	kv_array(&f, "a", 99, 1);
	refused("array of unknown", &f, "key 'a' is an array of type 99, which does not exist");
	head(&f, 3, 0, 1);
	kv_array(&f, "tokenizer.ggml.tokens", GGUF_STRING, 2);
	text(&f, "x");
	u64(&f, 1 << 20);
	refused("token longer than the file", &f,
		"key 'tokenizer.ggml.tokens': the text of element 1 is longer than the file");
	head(&f, 3, 0, 1);
	kv_array(&f, "tokenizer.ggml.scores", GGUF_U8, 2);
	u8(&f, 0);
	u8(&f, 0);
	refused("scores as bytes", &f,
		"key 'tokenizer.ggml.scores' is an array of u8, an array of floats or i32 is needed");
	head(&f, 3, 0, 1);
	kv_array(&f, "tokenizer.ggml.token_type", GGUF_F32, 1);
	u32(&f, 0);
	refused("types as floats", &f,
		"key 'tokenizer.ggml.token_type' is an array of f32, an array of integers is needed");
	head(&f, 3, 0, 2);
	kv_array(&f, "tokenizer.ggml.tokens", GGUF_STRING, 2);
	text(&f, "x");
	text(&f, "y");
	kv_array(&f, "tokenizer.ggml.scores", GGUF_F32, 1);
	u32(&f, 0);
	refused("arrays of different length", &f,
		"key 'tokenizer.ggml.scores' has 1 elements, tokenizer.ggml.tokens has 2");
}

static void broken_known_keys(void)
{
	static const struct { uint32_t v; const char *sentence;
	} alignments[] = {
		{0, "general.alignment is 0, a power of two from 8 to 65536 is needed"},
		{24, "general.alignment is 24, a power of two from 8 to 65536 is needed"},
		{1u << 31,
		 "general.alignment is 2147483648, a power of two from 8 to 65536 is needed"},
		{UINT32_MAX,
		 "general.alignment is 4294967295, a power of two from 8 to 65536 is needed"},
	};
	struct file f;

	for (int i = 0; i < 4; i++) {
		head(&f, 3, 0, 1);
		kv_u32(&f, "general.alignment", alignments[i].v);
		refused("alignment", &f, alignments[i].sentence);
	}
	head(&f, 3, 0, 1);
	text(&f, "general.alignment");
	u32(&f, GGUF_I32);
	u32(&f, (uint32_t)-32);
	refused("negative alignment", &f, "key 'general.alignment' is i32, u32 is needed");
	head(&f, 3, 0, 2);
	kv_string(&f, "general.architecture", "llama");
	kv_u32(&f, "llama.block_count", 513);
	refused("513 layers", &f, "key 'llama.block_count' is 513, 1 to 512 layers are allowed");
	head(&f, 3, 0, 2);
	kv_string(&f, "general.architecture", "llama");
	kv_string(&f, "llama.rope.freq_base", "10000");
	refused("a text for a float", &f,
		"key 'llama.rope.freq_base' is string, a float is needed");
	head(&f, 3, 0, 1);
	kv_u32(&f, "split.count", 3);
	refused("split", &f, "this is one part of a model split into 3 files; merge them first");
}

/* ---- tensors ------------------------------------------------------------------------------ */

static void broken_tensor_entries(void)
{
	struct file f;

	head(&f, 3, 1, 0);
	text(&f, "w");
	u32(&f, 5);
	data(&f, 256);
	refused("five dimensions", &f, "tensor 'w' has 5 dimensions, 1 to 4 are allowed");
	head(&f, 3, 1, 0);
	text(&f, "w");
	u32(&f, 0);
	data(&f, 256);
	refused("no dimension", &f, "tensor 'w' has 0 dimensions, 1 to 4 are allowed");
	head(&f, 3, 1, 0);
	tensor(&f, "w", 32, 0, TYPE_F32, 0);
	data(&f, 256);
	refused("dimension 0", &f, "tensor 'w': dimension 1 is 0");
	head(&f, 3, 1, 0);
	tensor(&f, "w", 1ull << 32, 1ull << 32, TYPE_F32, 0);
	data(&f, 256);
	refused("dimension product wraps", &f,
		"tensor 'w': the product of its dimensions does not fit 63 bits");
	head(&f, 3, 1, 0);
	tensor(&f, "w", 1ull << 31, 1ull << 31, TYPE_F32, 0);
	data(&f, 256);
	refused("bytes wrap", &f, "tensor 'w' is too large");
	head(&f, 3, 1, 0);
	tensor(&f, "w", 32, 1, 77, 0);
	data(&f, 256);
	refused("unknown type", &f, "tensor 'w' has type 77, which is not known");
	CHECK(strcmp(gguf_weight_name(20), "iq4_nl") == 0 &&
		      strcmp(gguf_weight_name(42), "q2_0") == 0 &&
		      strcmp(gguf_weight_name(12), "q4_k") == 0 &&
		      strcmp(gguf_weight_name(77), "unknown") == 0,
	      "types that are read but not computed have names");
	head(&f, 3, 1, 0);
	tensor(&f, "w", 33, 1, TYPE_Q8_0, 0);
	data(&f, 256);
	refused("part of a block", &f,
		"tensor 'w' has rows of 33 elements, q8_0 needs a multiple of 32");
	head(&f, 3, 1, 0);
	tensor(&f, "", 32, 1, TYPE_F32, 0);
	data(&f, 256);
	refused("no name", &f, "tensor 0 has no name");
	head(&f, 3, 1, 0);
	tensor(&f, "w\xed\xa0\x80", 32, 1, TYPE_F32, 0);
	data(&f, 256);
	refused("name not UTF-8", &f, "tensor 0 ('w?" "?" "?') has a name that is not UTF-8 text");
	head(&f, 3, 1, 0);
	tensor(&f, "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww", 32, 1,
	       TYPE_F32, 0);
	data(&f, 256);
	CHECK(parse(&f, &(struct err){0}) == -EXIT_MODEL_INVALID, "a name of 65 bytes is refused");
}

static void broken_places(void)
{
	struct file f;

	head(&f, 3, 2, 0);
	tensor(&f, "w", 32, 1, TYPE_F32, 0);
	tensor(&f, "w", 32, 1, TYPE_F32, 128);
	data(&f, 256);
	refused("duplicate tensor", &f, "tensor 'w' is there twice");
	head(&f, 3, 2, 0);
	tensor(&f, "w", 32, 1, TYPE_F32, 0);
	tensor(&f, "v", 32, 1, TYPE_F32, 96);
	data(&f, 256);
	refused("overlap", &f, "tensors 'w' and 'v' overlap in the file");
	head(&f, 3, 1, 0);
	tensor(&f, "w", 32, 1, TYPE_F32, 160);
	data(&f, 256);
	refused("behind the end", &f,
		"tensor 'w' lies outside the file: it needs 128 bytes at 160 of the data, "
		"the file has 256");
	head(&f, 3, 1, 0);
	tensor(&f, "w", 32, 1, TYPE_F32, UINT64_MAX - 31);
	data(&f, 256);
	refused("offset wraps", &f, "tensor 'w' lies outside the file: it needs 128 bytes at "
		"18446744073709551584 of the data, the file has 256");
	head(&f, 3, 1, 0);
	tensor(&f, "w", 32, 1, TYPE_F32, 8);
	data(&f, 256);
	refused("offset not aligned", &f,
		"tensor 'w' starts at 8, which is not a multiple of the alignment 32");
}

/* ---- whole files -------------------------------------------------------------------------- */

static void accessors(void)
{
	struct file f;
	struct gguf g = {0};
	struct err e = ERR_NONE;
	struct gguf_str s = {0};
	uint64_t u = 0;
	double d = 0;
	bool b = false;
	size_t at = 0;

	head(&f, 2, 1, 6);
	kv_string(&f, "general.architecture", "llama");
	text(&f, "small");
	u32(&f, GGUF_I8);
	u8(&f, 0xff);
	text(&f, "half");
	u32(&f, GGUF_F64);
	u64(&f, 0x3fe0000000000000);
	text(&f, "yes");
	u32(&f, GGUF_BOOL);
	u8(&f, 1);
	kv_array(&f, "names", GGUF_STRING, 2);
	text(&f, "one");
	text(&f, "");
	kv_array(&f, "bytes", GGUF_I16, 2);
	u32(&f, 0xfffe0007);
	tensor(&f, "w", 128, 2, TYPE_I2_S, 0);
	data(&f, 96);
	CHECK(gguf_parse(&g, f.b, f.n, &e) == 0, "a file of version 2 is read (%s)", e.msg);
	CHECK(gguf_string(&g, "general.architecture", &s) && s.n == 5 && !memcmp(s.s, "llama", 5),
	      "string");
	CHECK(!gguf_u64(&g, "small", &u), "a negative number is no u64");
	CHECK(!gguf_u64(&g, "half", &u) && gguf_f64(&g, "half", &d) && d == 0.5, "float");
	CHECK(gguf_bool(&g, "yes", &b) && b, "bool");
	CHECK(!gguf_find(&g, "absent") && !gguf_tensor(&g, "absent"), "absent names");
	const struct gguf_kv *names = gguf_find(&g, "names"), *shorts = gguf_find(&g, "bytes");

	CHECK(gguf_next_string(names, &at, &s) && s.n == 3 && gguf_next_string(names, &at, &s) &&
		      s.n == 0 && !gguf_next_string(names, &at, &s),
	      "strings one after the other");
	CHECK(gguf_array_i64(shorts, 0) == 7 && gguf_array_i64(shorts, 1) == -2 &&
		      gguf_array_i64(shorts, 2) == 0 && gguf_array_f64(shorts, 1) == -2.0,
	      "array elements");
	const struct gguf_tensor *w = gguf_tensor(&g, "w");

	CHECK(w && w->bytes == 96 && w->ne[0] == 128 && w->ne[1] == 2 && w->ne[2] == 1,
	      "I2_S and its tail");
	gguf_close(&g);
	gguf_close(&g);
	CHECK(gguf_find(&g, "names") == NULL, "a closed file finds nothing");
}

static size_t slurp(const char *path, uint8_t *out, size_t size)
{
	FILE *f = fopen(path, "rb");
	size_t n = f ? fread(out, 1, size, f) : 0;

	if (f)
		fclose(f);
	return n;
}

/* 201 bytes are metadata, the rest is padding, which vocabulary files also leave away. */
static void mini(const char *dir)
{
	char path[256];
	struct err e = ERR_NONE;
	struct file f;
	int bad = 0;

	snprintf(path, sizeof(path), "%s/mini.gguf", dir);
	CHECK(fixture_write_mini(path, 3, 0, &e) == 0, "the mini file is written (%s)", e.msg);
	size_t whole = f.n = slurp(path, f.b, sizeof(f.b));

	CHECK(whole == 224 && parse(&f, &e) == 0, "it has 224 bytes and is read");
	for (f.n = 0; f.n < 201; f.n++)
		bad += parse(&f, &e) != -EXIT_MODEL_INVALID || !e.msg[0];
	CHECK(bad == 0, "cut at each of its 201 bytes it is refused");
	for (f.n = 201; f.n <= whole; f.n++)
		bad += parse(&f, &e) != 0;
	CHECK(bad == 0, "without its padding it is read");
	CHECK(fixture_write_mini(path, 2, 0, &e) == 0 && slurp(path, f.b, sizeof(f.b)) == 224 &&
		      f.b[4] == 2,
	      "version 2 has 224 bytes too");
	CHECK(fixture_write_mini(path, 3, 1, &e) == 0 &&
		      (f.n = slurp(path, f.b, sizeof(f.b))) == 224 && f.b[24] == 32 &&
		      f.b[28] == 224,
	      "the older layout has alignment and data offset in its header");
	CHECK(parse(&f, &e) == -EXIT_MODEL_INVALID, "which a true reader refuses");
	CHECK(fixture_write_mini(path, 4, 0, &e) == -EXIT_USAGE, "there is no version 4");
	unlink(path);
}

/* Every byte position of a small whole model, cut: refused, never read beyond the end. */
static void cut_model(void)
{
	struct file f, whole;
	struct err e;
	int bad = 0;

	head(&f, 3, 2, 2);
	kv_string(&f, "general.architecture", "llama");
	kv_array(&f, "tokenizer.ggml.tokens", GGUF_STRING, 1);
	text(&f, "x");
	tensor(&f, "v", 32, 1, TYPE_Q4_0, 0);
	tensor(&f, "w", 32, 1, TYPE_F32, 32);
	data(&f, 160);
	whole = f;
	CHECK(parse(&f, &e) == 0, "a small model is read");
	for (f.n = 0; f.n < whole.n; f.n++)
		bad += parse(&f, &e) != -EXIT_MODEL_INVALID;
	CHECK(bad == 0, "cut at each of its %zu bytes it is refused", whole.n);
}

static void opening(const char *dir)
{
	char path[256], want[512];
	struct gguf g = {0};
	struct err e = ERR_NONE;

	snprintf(path, sizeof(path), "%s/absent.gguf", dir);
	CHECK(gguf_open(&g, path, &e) == -EXIT_MODEL_LOAD, "a missing file is code 10");
	snprintf(want, sizeof(want),
		 "model file %s does not exist; `assay fetch-models` fetches the models of "
		 "the lockfile and prints their paths",
		 path);
	CHECK_STR(e.msg, want, "and the sentence says what helps");
	CHECK(gguf_open(&g, dir, &e) == -EXIT_MODEL_LOAD, "a folder is code 10");
	FILE *f = fopen(path, "wb");

	fclose(f);
	CHECK(gguf_open(&g, path, &e) == -EXIT_MODEL_INVALID, "an empty file is code 15");
	snprintf(want, sizeof(want), "%s: the file is empty", path);
	CHECK_STR(e.msg, want, "and says so");
	unlink(path);
}

static void writer(const char *dir)
{
	char path[256];
	struct gguf_writer w;
	struct gguf g = {0};
	struct err e = ERR_NONE;
	struct gguf_str s = {0}, texts[2] = { { "ab", 2 }, { "", 0 } };
	float x[64];
	uint64_t u = 0;

	for (int i = 0; i < 64; i++)
		x[i] = (float)i;
	snprintf(path, sizeof(path), "%s/w.gguf", dir);
	CHECK(gguf_write_open(&w, path, 3, &e) == 0, "writer opens (%s)", e.msg);
	gguf_put_string(&w, "general.architecture", "x");
	gguf_put_u32(&w, "n", 7);
	gguf_put_strings(&w, "t", texts, 2);
	gguf_put_tensor(&w, "a", TYPE_F32, 1, (int64_t[]){ 3 });
	gguf_put_tensor(&w, "b", TYPE_F32, 2, (int64_t[]){ 4, 2 });
	gguf_write_data(&w, x, 5 * 4);	/* pieces need not fit the tensors */
	gguf_write_data(&w, x + 5, 6 * 4);
	CHECK(gguf_write_finish(&w, &e) == 0 && gguf_open(&g, path, &e) == 0,
	      "and is read back (%s)", e.msg);
	CHECK(g.n_kv == 3 && g.n_tensors == 2 && gguf_u64(&g, "n", &u) && u == 7 &&
		      gguf_string(&g, "general.architecture", &s) && g.size % 32 == 0,
	      "counts are patched");
	const struct gguf_tensor *b = gguf_tensor(&g, "b");

	CHECK(b && b->offset == 32 && memcmp(b->data, x + 3, 32) == 0,
	      "data lies where it was declared");
	gguf_close(&g);
	unlink(path);

	CHECK(gguf_write_open(&w, path, 3, &e) == 0, "again");
	gguf_put_tensor(&w, "a", TYPE_F32, 1, (int64_t[]){ 3 });
	gguf_write_data(&w, x, 8);
	CHECK(gguf_write_finish(&w, &e) < 0 && access(path, F_OK) != 0,
	      "with data missing no file appears (%s)", e.msg);
}

int main(void)
{
	char dir[] = "/tmp/assay-gguf-XXXXXX";

	if (!mkdtemp(dir))
		return 1;
	broken_headers();
	broken_keys();
	broken_arrays();
	broken_known_keys();
	broken_tensor_entries();
	broken_places();
	accessors();
	mini(dir);
	cut_model();
	opening(dir);
	writer(dir);
	rmdir(dir);
	return TEST_END();
}
