#include "digest.h"
#include "provision/json_line.h"
#include "provision/models_lock.h"
#include "test.h"

#include <unistd.h>

#define SHA_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHA_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define HEAD  "{\"schema_version\": 1,\n \"models\": [\n"
#define TAIL  "\n]}"
#define BASE  "\"tier\": \"integration\", \"licence\": \"MIT\", \"mirrors\": [\"https://h/f\"],\n"
#define ENTRY(id, sha, rest)                                                                       \
	"{\"id\": \"" id "\", " BASE "\"file\": \"f.gguf\", \"sha256\": \"" sha "\"" rest "}"

static const struct {
	const char *name, *text, *want;
} refused[] = {
	{"not JSON", "{\n\n", "t.json:3: not valid JSON: string or '}' expected near end of file"},
	{"a key twice", "{\"schema_version\": 1, \"schema_version\": 1}",
	 "t.json:1: not valid JSON: duplicate object key near '\"schema_version\"'"},
	{"another schema", "{\"schema_version\": 2}",
	 "t.json:1: schema_version: expected 1: this program reads no other"},
	{"unknown key above", "{\"schema_version\": 1, \"models\": [],\n\"x\": 1}",
	 "t.json:2: x: unknown key"},
	{"unknown key", HEAD ENTRY("a", SHA_A, ",\n\"shasum\": 1") TAIL,
	 "t.json:5: models/0/shasum: unknown key"},
	{"id twice", HEAD ENTRY("a", SHA_A, "") ",\n" ENTRY("a", SHA_B, "") TAIL,
	 "t.json:5: models/1/id: \"a\" is there twice"},
	{"file twice", HEAD ENTRY("a", SHA_A, "") ",\n" ENTRY("b", SHA_A, "") TAIL,
	 "t.json:6: models/1/sha256: the same file as \"a\""},
	{"short hash", HEAD ENTRY("a", "abc", "") TAIL,
	 "t.json:4: models/0/sha256: expected 64 lower-case hex digits, got \"abc\""},
	{"upper-case hash", HEAD ENTRY("a", "A" SHA_A, "") TAIL,
	 "t.json:4: models/0/sha256: expected 64 lower-case hex digits, got \"A" SHA_A "\""},
	{"negative size", HEAD ENTRY("a", SHA_A, ",\n\"size\": -5") TAIL,
	 "t.json:5: models/0/size: expected 1 byte to 4 TiB, got -5"},
	{"size as text", HEAD ENTRY("a", SHA_A, ",\n\"size\": \"5\"") TAIL,
	 "t.json:5: models/0/size: expected an integer of bytes"},
	{"chunks without size", HEAD ENTRY("a", SHA_A, ", \"chunk_sha256\": []") TAIL,
	 "t.json:4: models/0/chunk_sha256: needs \"size\" beside it"},
	{"too few chunks", HEAD ENTRY("a", SHA_A, ", \"size\": 9000000, \"chunk_sha256\": []") TAIL,
	 "t.json:4: models/0/chunk_sha256: expected 2 hashes for 9000000 bytes, got 0"},
	{"tokenizer of nobody", HEAD ENTRY("a", SHA_A, ", \"tokenizer\": \"z\"") TAIL,
	 "t.json:4: models/0/tokenizer: no other entry has the id \"z\""},
	{"no source",
	 HEAD "{\"id\": \"a\", \"tier\": \"ci-light\", \"licence\": \"MIT\",\n"
	  "\"file\": \"f\", \"sha256\": \"" SHA_A "\"}" TAIL,
	 "t.json:3: models/0: needs \"repository\", \"mirrors\" or \"generate\""},
};

static const struct {
	const char *key, *value, *want;
} fields[] = {
	{"id", "\"A\"", "expected 1 to 64 of a-z 0-9 . _ -, not starting with a dot, got \"A\""},
	{"tier", "\"big\"", "expected \"ci-light\" or \"integration\", got \"big\""},
	{"repository", "\"a/b/c\"", "expected \"owner/name\", got \"a/b/c\""},
	{"repository", "\"../b\"", "expected \"owner/name\", got \"../b\""},
	{"revision", "\"main\"", "expected 40 lower-case hex digits, got \"main\""},
	{"file", "\"../f\"", "a path must not leave its folder or have empty parts, got \"../f\""},
	{"file", "\"a/../f\"",
	 "a path must not leave its folder or have empty parts, got \"a/../f\""},
	{"file", "\"/f\"", "expected a relative path of 1 to 255 bytes, got \"/f\""},
	{"file", "\"a//f\"", "a path must not leave its folder or have empty parts, got \"a//f\""},
	{"licence", "7", "expected a string"},
};

static void test_refused(void)
{
	struct models_lock l = {0};

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct err e = ERR_NONE;

		CHECK(models_lock_parse(&l, refused[i].text, "t.json", &e) == -EXIT_USAGE &&
			  l.n == 0,
		      "refused: %s", refused[i].name);
		CHECK_STR(e.msg, refused[i].want, "sentence: %s", refused[i].name);
	}
}

static void test_fields(void)
{
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		static const char *const all[][2] = {
		    {"id", "\"a\""},
		    {"tier", "\"integration\""},
		    {"licence", "\"MIT\""},
		    {"repository", "\"o/r\""},
		    {"file", "\"f\""},
		    {"sha256", "\"" SHA_A "\""},
		    {"revision", "\"0123456789012345678901234567890123456789\""}};
		char text[2000] = HEAD "{", want[600];
		struct models_lock l = {0};
		struct err e = ERR_NONE;

		for (size_t k = 0; k < 7; k++)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s\"%s\": %s",
				 k ? ", " : "", all[k][0],
				 strcmp(all[k][0], fields[i].key) ? all[k][1] : fields[i].value);
		strcat(text, "}" TAIL);
		snprintf(want, sizeof(want), "t.json:3: models/0/%s: %s", fields[i].key,
			 fields[i].want);
		models_lock_parse(&l, text, "t.json", &e);
		CHECK_STR(e.msg, want, "%s = %s", fields[i].key, fields[i].value);
	}
}

static void test_mirrors(void)
{
	static const struct {
		const char *url;
		int fine;
	} mirrors[] = {{"https://h/f", 1},       {"http://127.0.0.1:80/f?x=1", 1},
		       {"hf://o/r/f", 1},        {"hf://o/r@main/f", 1},
		       {"ftp://h/f", 0},         {"https://u:p@h/f", 0},
		       {"https:///f", 0},        {"https://h/a b", 0},
		       {"hf://o/r", 0},          {"https://h/../f", 0},
		       {"file:///etc/passwd", 0}};

	for (size_t i = 0; i < sizeof(mirrors) / sizeof(mirrors[0]); i++) {
		struct models_lock l = {0};
		struct err e = ERR_NONE;
		char text[1000];

		snprintf(text, sizeof(text),
			 HEAD "{\"id\": \"a\", \"tier\": \"integration\", "
			      "\"licence\": \"MIT\", \"file\": \"f\", \"sha256\": \"" SHA_A "\", "
			      "\"mirrors\": [\"%s\"]}" TAIL,
			 mirrors[i].url);
		CHECK((models_lock_parse(&l, text, "t.json", &e) == 0) == mirrors[i].fine,
		      "%s is %s", mirrors[i].url, mirrors[i].fine ? "taken" : "refused");
		models_lock_free(&l);
	}
}

static void test_built_in(void)
{
	struct models_lock l = {0};
	struct err e = ERR_NONE;
	const struct lock_model *m;

	CHECK(models_lock_open(&l, NULL, &e) == 0, "the built-in lockfile reads: %s", e.msg);
	m = models_lock_find(&l, "bitnet-2b4t-i2s");
	CHECK(m && m->size == 1187801280 && strcmp(m->tokenizer, "llama3-tokenizer") == 0,
	      "it names the integration model and its tokenizer");
	CHECK(m && strcmp(m->sha256_hex,
			  "4221b252fdd5fd25e15847adfeb5ee88886506ba50b8a34548374492884c2162") == 0,
	      "and its hash");
	models_lock_free(&l);
}

static void test_add(void)
{
	char path[] = "/tmp/assay-lock-XXXXXX";
	int fd = mkstemp(path);
	struct lock_model m = {.id = "new",
			       .tier = "integration",
			       .file = "f.gguf",
			       .size = 9,
			       .licence = "unknown",
			       .n_mirrors = 1,
			       .mirrors = {"https://h/f"},
			       .sha256_hex = SHA_A};
	struct models_lock l = {0};
	struct err e = ERR_NONE;

	close(fd);
	unlink(path);
	CHECK(models_lock_add(path, &m, &e) == 0, "an entry is added to a new lockfile %s", e.msg);
	CHECK(models_lock_open(&l, path, &e) == 0 && l.n == 1 && l.models[0].size == 9 &&
		  strcmp(l.models[0].sha256_hex, SHA_A) == 0,
	      "and reads back");
	models_lock_free(&l);
	CHECK(models_lock_add(path, &m, &e) < 0, "the same id is not added twice");
	m.id = "BAD";
	CHECK(models_lock_add(path, &m, &e) < 0, "an entry the reader would refuse is not written");
	CHECK(models_lock_open(&l, path, &e) == 0 && l.n == 1, "the file is as before");
	models_lock_free(&l);
	unlink(path);
}

static void test_digest(void)
{
	static uint8_t data[1000];
	uint8_t want[DIGEST_BYTES], got[DIGEST_BYTES], saved[DIGEST_STATE_BYTES];
	struct digest d;
	char hex[DIGEST_HEX];
	int same = 1;

	digest_init(&d);
	digest_update(&d, "abc", 3);
	digest_final(&d, got);
	digest_hex(got, hex);
	CHECK_STR(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		  "SHA-256 of abc (FIPS 180-4)");
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	digest_init(&d);
	digest_update(&d, data, sizeof(data));
	digest_final(&d, want);
	for (size_t cut = 0; cut <= sizeof(data); cut++) {
		digest_init(&d);
		digest_update(&d, data, cut);
		digest_save(&d, saved);
		memset(&d, 0xaa, sizeof(d));
		digest_restore(&d, saved);
		digest_update(&d, data + cut, sizeof(data) - cut);
		digest_final(&d, got);
		same &= memcmp(got, want, sizeof(got)) == 0;
	}
	CHECK(same, "a state saved after any number of bytes goes on to the same digest");
}

int main(void)
{
	CHECK(json_line_of("{\"a\":\n[1,\n{\"b\": \"x]\\\"\",\n\"c\": 2}]}", "a/1/c") == 4,
	      "the line of a value");
	CHECK(json_line_of("{}", "a/1") == 0, "no line of a value that is not there");
	test_refused();
	test_fields();
	test_mirrors();
	test_built_in();
	test_add();
	test_digest();
	return TEST_END();
}
