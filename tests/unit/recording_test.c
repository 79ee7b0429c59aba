/* Recordings: what is written is read; every change of an archive is noticed and named; the
 * compact form keeps its stated error. */
#include "test.h"

#include "report/canonical.h"
#include "report/recording.h"
#include "report/recording_logits.h"

#include <archive.h>
#include <archive_entry.h>
#include <math.h>
#include <unistd.h>

static char folder[] = "/tmp/recording_test.XXXXXX";

static const char *in_folder(const char *name)
{
	static char paths[4][128];
	static int next;
	char *p = paths[next++ & 3];

	snprintf(p, sizeof(paths[0]), "%s/%s", folder, name);
	return p;
}

static int make(const char *path)
{
	struct recording_writer *w = NULL;
	struct err e = ERR_NONE;
	int rc = recording_create(&w, path, &e);

	recording_begin(w, RECORDING_LOGITS, "a/logits.f32", &e);
	recording_begin(w, RECORDING_TRACE, "a/trace/0.f32", &e);
	recording_append(w, RECORDING_LOGITS, "one ", 4, &e); /* both kinds at the same time */
	recording_append(w, RECORDING_TRACE, "trace", 5, &e);
	recording_append(w, RECORDING_LOGITS, "two", 3, &e);
	recording_add(w, RECORDING_SMALL, "a/prompt.txt", "2+2=", 4, &e);
	recording_add(w, RECORDING_SMALL, "a/empty.txt", "", 0, &e);
	rc = rc < 0 ? rc : recording_finish(w, json_pack("{s:s}", "kind", "recording"), &e);
	recording_discard(w);
	return rc;
}

struct copying {
	const char *member;  /* which one is changed */
	const char *instead; /* its new content, NULL = left out */
};

/* The same archive, one member changed. */
static void forge(const char *from, const char *to, struct copying how)
{
	struct archive *in = archive_read_new(), *out = archive_write_new();
	struct archive_entry *entry;
	char buf[1 << 16];

	archive_read_support_filter_zstd(in);
	archive_read_support_format_tar(in);
	archive_read_open_filename(in, from, 10240);
	archive_write_set_format_pax_restricted(out);
	archive_write_add_filter_zstd(out);
	archive_write_open_filename(out, to);
	while (archive_read_next_header(in, &entry) == ARCHIVE_OK) {
		bool hit = strcmp(archive_entry_pathname(entry), how.member) == 0;
		la_ssize_t n = archive_read_data(in, buf, sizeof(buf));

		if (hit && !how.instead)
			continue;
		if (hit) {
			n = (la_ssize_t)strlen(how.instead);
			memcpy(buf, how.instead, (size_t)n);
			archive_entry_set_size(entry, n);
		}
		archive_write_header(out, entry);
		archive_write_data(out, buf, (size_t)n);
	}
	archive_write_free(out);
	archive_read_free(in);
}

static void refused(const char *what, struct copying how, int code, const char *sentence)
{
	struct recording r = {.n = 0};
	struct err e = ERR_NONE;
	const char *path = in_folder("forged");
	int rc;

	forge(in_folder("good"), path, how);
	rc = recording_open(&r, path, &e);
	if (rc == 0)
		rc = recording_verify(&r, &e);
	CHECK(rc == -code && strstr(e.msg, sentence), "%s: %d, %s", what, rc, e.msg);
	recording_close(&r);
}

static void test_archive(void)
{
	struct recording r = {.n = 0};
	struct err e = ERR_NONE;
	const struct recording_member *m;

	CHECK(make(in_folder("good")) == 0, "a recording is written");
	CHECK(recording_open(&r, in_folder("good"), &e) == 0, "and opened");
	CHECK(recording_verify(&r, &e) == 0 && r.n == 4, "and whole: %d members", r.n);
	CHECK_STR(r.members[0].name, "a/prompt.txt", "small members come first");
	CHECK_STR(r.members[2].name, "a/logits.f32", "then logits");
	m = recording_find(&r, "a/prompt.txt");
	CHECK(m && m->content && strcmp((char *)m->content, "2+2=") == 0, "small ones are kept");
	m = recording_find(&r, "a/logits.f32");
	CHECK(m && !m->content && m->bytes == 7, "large ones are not");
	CHECK(!recording_find(&r, "b/prompt.txt"), "what is not there is not found");
	recording_close(&r);
	refused("one changed byte", (struct copying){"a/logits.f32", "one twO"}, EXIT_HASH_MISMATCH,
		"member a/logits.f32 is not what was recorded");
	refused("a longer member", (struct copying){"a/logits.f32", "one two three"},
		EXIT_HASH_MISMATCH, "member a/logits.f32");
	refused("a changed trace", (struct copying){"a/trace/0.f32", "tracE"}, EXIT_HASH_MISMATCH,
		"a/trace/0.f32");
	refused("a changed prompt", (struct copying){"a/prompt.txt", "2+3="}, EXIT_HASH_MISMATCH,
		"a/prompt.txt");
	refused("a member left out", (struct copying){"a/empty.txt", NULL}, EXIT_HASH_MISMATCH,
		"where its manifest says a/empty.txt");
	refused("the last one left out", (struct copying){"a/trace/0.f32", NULL},
		EXIT_HASH_MISMATCH, "ends before member a/trace/0.f32");
	refused("no manifest", (struct copying){"manifest.json", NULL}, EXIT_HASH_MISMATCH,
		"where its manifest says manifest.json");
	refused("another manifest", (struct copying){"manifest.json", "{\"members\": []}"},
		EXIT_HASH_MISMATCH, "the manifest was changed");
	refused("a manifest that is no JSON", (struct copying){"manifest.json", "{"},
		EXIT_HASH_MISMATCH, "manifest.json:1");
	CHECK(recording_open(&r, in_folder("nowhere"), &e) == -EXIT_NO_REFERENCE,
	      "a file that is not there: %s", e.msg);
}

/* Every cut and every flipped byte of the archive itself. */
static void test_damage(void)
{
	char bytes[1 << 14];
	FILE *f = fopen(in_folder("good"), "rb");
	size_t n = fread(bytes, 1, sizeof(bytes), f);
	int passed = 0, same = 0;

	fclose(f);
	for (size_t at = 0; at < n; at++) {
		struct recording r = {.n = 0};

		bytes[at] ^= 16;
		f = fopen(in_folder("damaged"), "wb");
		fwrite(bytes, 1, n, f);
		fclose(f);
		bytes[at] ^= 16;
		if (recording_open(&r, in_folder("damaged"), NULL) == 0 &&
		    recording_verify(&r, NULL) == 0) {
			passed++;
			same += recording_find(&r, "a/logits.f32")->bytes == 7;
		}
		recording_close(&r);
	}
	CHECK(passed == same && passed < (int)n / 4,
	      "a flipped bit of %zu bytes is refused, or harmless (%d: unused fields of tar)", n,
	      passed);
	for (size_t cut = 0; cut + 8 < n; cut += 7) {
		struct recording r = {.n = 0};

		f = fopen(in_folder("damaged"), "wb");
		fwrite(bytes, 1, cut, f);
		fclose(f);
		if (recording_open(&r, in_folder("damaged"), NULL) == 0 &&
		    recording_verify(&r, NULL) == 0)
			CHECK(0, "cut at %zu passes", cut);
		recording_close(&r);
	}
}

struct expected {
	const float *rows;
	int n_vocab, n;
	double error;
	bool bits;
};

static int on_row(void *ctx, const float *row, struct err *e)
{
	struct expected *x = ctx;
	const float *want = x->rows + (size_t)x->n++ * (size_t)x->n_vocab;

	(void)e;
	x->bits &= memcmp(row, want, (size_t)x->n_vocab * sizeof(*row)) == 0;
	for (int i = 0; i < x->n_vocab; i++) {
		double d = fabs((double)row[i] - (double)want[i]);

		if (!(isnan(row[i]) && isnan(want[i])) && row[i] != want[i])
			x->error = d > x->error || isnan(d) ? d : x->error;
	}
	return 0;
}

static void test_rows(int n_vocab, int piece)
{
	enum { ROWS = 4 };
	float *rows = calloc((size_t)(ROWS * n_vocab), sizeof(*rows));
	size_t room = recording_row_bytes_max(n_vocab), n = 0;
	uint8_t *bytes = malloc(ROWS * room);
	struct expected x = {.rows = rows, .n_vocab = n_vocab, .bits = true};
	struct recording_rows s = {.compact = true, .n_vocab = n_vocab};
	struct err e = ERR_NONE;
	double worst = 0, range = 0;
	uint32_t state = 12345;

	for (int i = 0; i < ROWS * n_vocab; i++) {
		state = state * 1664525u + 1013904223u;
		rows[i] = i / n_vocab == 2 ? 1.5f : (float)(state >> 8) / 65536 - 128;
	}
	rows[3 * n_vocab] = NAN;
	for (int i = 0; i < ROWS; i++) {
		double error;

		n += recording_row_pack(bytes + n, rows + i * n_vocab, n_vocab, &error);
		worst = error > worst ? error : worst;
	}
	for (int i = 0; i < n_vocab; i++)
		range = rows[i] + 128 > (float)range ? rows[i] + 128 : range;
	for (size_t at = 0; at < n; at += (size_t)piece)
		if (recording_rows_feed(&s, bytes + at,
					n - at < (size_t)piece ? n - at : (size_t)piece, on_row, &x,
					&e) != 0)
			CHECK(0, "fed: %s", e.msg);
	CHECK(x.n == ROWS && recording_rows_whole(&s), "%d ids in pieces of %d: %d rows", n_vocab,
	      piece, x.n);
	CHECK(x.error == worst, "the error told (%g) is the error made (%g)", worst, x.error);
	CHECK(worst <= 256.0 / 131070 * 1.01, "and below 1/131070 of the range");
	CHECK(n_vocab > RECORDING_EXACT || x.bits, "%d ids: small rows are exact", n_vocab);
	recording_rows_free(&s);
	free(bytes);
	free(rows);
}

static void test_broken_rows(void)
{
	struct recording_rows s = {.compact = true, .n_vocab = 4};
	struct expected x = {.n_vocab = 4};
	struct err e = ERR_NONE;
	uint8_t bad[8] = {7};
	int rc = recording_rows_feed(&s, bad, sizeof(bad), on_row, &x, &e);

	CHECK(rc == -EXIT_HASH_MISMATCH, "a row of no known form: %s", e.msg);
	recording_rows_free(&s);
}

int main(void)
{
	if (!mkdtemp(folder))
		return 1;
	test_archive();
	test_damage();
	test_rows(1000, 333);
	test_rows(1000, 1 << 20);
	test_rows(40, 1);
	test_rows(1, 3);
	test_broken_rows();
	unlink(in_folder("good"));
	unlink(in_folder("forged"));
	unlink(in_folder("damaged"));
	rmdir(folder);
	return TEST_END();
}
