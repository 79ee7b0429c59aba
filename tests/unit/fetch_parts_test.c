#include "provision/http_head.h"
#include "provision/hub.h"
#include "provision/partlog.h"
#include "provision/place.h"
#include "provision/ranges.h"
#include "provision/store.h"
#include "provision/unpack.h"
#include "test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { N = 64 };

/* Every operation against a plain array of flags. */
static void test_ranges(void)
{
	struct ranges s = {0}, copy = {0};
	unsigned char flags[N] = {0};
	unsigned random = 1;
	int same = 1, sorted = 1;

	for (int step = 0; step < 20000; step++) {
		int from, to, bytes = 0;
		struct range gap;

		random = random * 1103515245 + 12345;
		from = (int)(random >> 16) % N;
		random = random * 1103515245 + 12345;
		to = from + (int)(random >> 16) % 9;
		to = to > N ? N : to;
		if (random & 1 << 10) {
			ranges_add(&s, from, to);
			memset(flags + from, 1, (size_t)(to - from));
		} else {
			ranges_remove(&s, from, to);
			memset(flags + from, 0, (size_t)(to - from));
		}
		for (int i = 0; i < N; i++) {
			bytes += flags[i];
			same &= ranges_has(&s, i, i + 1) == flags[i];
		}
		same &= ranges_bytes(&s) == bytes;
		same &= ranges_gap(&s, 0, N, &gap) == (bytes < N);
		for (int i = 0; bytes < N && i <= gap.from; i++)
			same &= flags[i] == (i < gap.from);
		for (int i = 1; i < s.n; i++)
			sorted &= s.v[i - 1].to < s.v[i].from;
	}
	CHECK(same, "20000 random additions and removals agree with an array of flags");
	CHECK(sorted, "the ranges stay sorted and do not touch");
	ranges_copy(&copy, &s);
	CHECK(ranges_bytes(&copy) == ranges_bytes(&s), "a copy holds the same");
	ranges_free(&s);
	ranges_free(&copy);
}

static struct http_head head_of(const char *text)
{
	struct http_head h = {0};

	for (const char *p = text; *p;) {
		size_t n = strcspn(p, "\n");

		http_head_line(&h, p, n, 784111777); /* 1994-11-06 08:49:37 */
		p += n + (p[n] == '\n');
	}
	return h;
}

static void test_head(void)
{
	struct http_head h =
	    head_of("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/100\r\n"
		    "content-length: 5\r\nETag: \"a\"\r\nContent-Type: text/HTML; x\r\n");
	static const struct {
		const char *value;
		long long seconds;
	} waits[] = {{"120", 120},
		     {"0", 0},
		     {"-5", -1},
		     {"soon", -1},
		     {"99999999999999999999", INT64_MAX},
		     {"Sun, 06 Nov 1994 08:49:47 GMT", 10},
		     {"Sunday, 06-Nov-94 08:49:47 GMT", 10},
		     {"Sun Nov  6 08:49:47 1994", 10},
		     {"Sun, 06 Nov 1994 08:00:00 GMT", 0}};
	static const char *const bad[] = {"bytes 9-5/10", "bytes 5-/10", "bytes -5/10",
					  "octets 0-1/2", "bytes 0-1",   "bytes 0-1/x",
					  "bytes 0-1/-3"};

	CHECK(h.status == 206 && h.has_range && h.range_from == 5 && h.range_to == 10 &&
		  h.range_total == 100 && h.length == 5,
	      "a range and a length");
	CHECK_STR(h.etag, "\"a\"", "a strong ETag with its quotes");
	CHECK_STR(h.type, "text/html", "the type without parameters, in lower case");
	h = head_of("HTTP/2 416\nContent-Range: bytes */77\nETag: W/\"weak\"\n");
	CHECK(h.has_range && h.range_from == -1 && h.range_total == 77, "the range of a 416");
	CHECK_STR(h.etag, "", "a weak ETag does not count");
	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
		char text[200];

		snprintf(text, sizeof(text), "HTTP/1.1 429 x\nRetry-After: %s\n", waits[i].value);
		h = head_of(text);
		CHECK(h.retry_after_s == waits[i].seconds, "Retry-After: %s", waits[i].value);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[200];

		snprintf(text, sizeof(text), "HTTP/1.1 206 x\nContent-Range: %s\n", bad[i]);
		h = head_of(text);
		CHECK(!h.has_range, "not a range: %s", bad[i]);
	}
	h = head_of("HTTP/1.1 302 Found\nX-Linked-ETag: W/\"abc\"\nX-Linked-Size: 12\n"
		    "X-Repo-Commit: 77\nLocation: /x?y\nHTTP/1.1 200 OK\n");
	CHECK(h.status == 200 && !h.location[0] && h.linked_size == -1,
	      "a new status line starts afresh");
	h = head_of(
	    "HTTP/1.1 302 Found\nX-Linked-ETag: W/\"abc\"\nX-Linked-Size: 12\nX-Repo-Commit: 7\n");
	CHECK(h.linked_size == 12 && !strcmp(h.linked_etag, "abc") && !strcmp(h.commit, "7"),
	      "what the hub says of a file");
}

static void test_hub(void)
{
	struct hub h = {.endpoint = "https://huggingface.co", .token = "t"};
	static const struct {
		const char *url;
		int sees;
	} urls[] = {
	    {"https://huggingface.co/x", 1},          {"https://HUGGINGFACE.co:443/x", 1},
	    {"http://huggingface.co/x", 0},           {"https://huggingface.co.evil.org/x", 0},
	    {"https://huggingface.co:8443/x", 0},     {"https://huggingface.co@evil.org/x", 0},
	    {"https://cdn.huggingface.co/x", 0},      {"https://evil.org/huggingface.co", 0},
	    {"https://huggingface.co\\@evil.org/", 0}};
	char url[HUB_URL_MAX];
	struct err e = ERR_NONE;

	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++)
		CHECK(hub_may_see_token(&h, urls[i].url) == urls[i].sees, "%s %s the token",
		      urls[i].url, urls[i].sees ? "sees" : "does not see");
	strcpy(h.endpoint, "http://127.0.0.1:8080");
	CHECK(hub_may_see_token(&h, "http://127.0.0.1:8080/x"), "plain http on this machine may");
	strcpy(h.endpoint, "http://mirror.lan");
	CHECK(!hub_may_see_token(&h, "http://mirror.lan/x"), "plain http elsewhere may not");
	CHECK(!hub_is_loopback("http://127.0.0.1.evil.org/"),
	      "a name that starts like loopback is none");
	CHECK(hub_url(&h, "o/r", NULL, "a b#.gguf", url, &e) == 0, "an URL is made");
	CHECK_STR(url, "http://mirror.lan/o/r/resolve/main/a%20b%23.gguf", "its path is encoded");
	CHECK(hub_expand(&h, "hf://o/r@v1/d/f", url, &e) == 0, "hf:// is expanded");
	CHECK_STR(url, "http://mirror.lan/o/r/resolve/v1/d/f", "with its revision");
	hub_public_url("https://u:p@host/f?sig=1#x", url, sizeof(url));
	CHECK_STR(url, "https://host/f", "what is shown has no password, no query, no fragment");
	hub_public_url("https://host/a@b/f", url, sizeof(url));
	CHECK_STR(url, "https://host/a@b/f", "an @ in the path is none");
}

static void test_proxy_of_another_machine(void)
{
	static const struct {
		const char *proxy;
		int far;
	} proxies[] = {{"", 0},
		       {"127.0.0.1:3128", 0},
		       {"http://u:p@localhost:3128", 0},
		       {"http://[::1]:3128/", 0},
		       {"proxy.lan:3128", 1},
		       {"http://127.0.0.1@proxy.lan", 1},
		       {"socks5h://127.0.0.1.lan:9", 1}};

	unsetenv("all_proxy");
	unsetenv("ALL_PROXY");
	for (size_t i = 0; i < sizeof(proxies) / sizeof(proxies[0]); i++) {
		setenv("http_proxy", proxies[i].proxy, 1);
		CHECK(hub_proxy_is_far() == proxies[i].far, "the proxy \"%s\" is %s",
		      proxies[i].proxy, proxies[i].far ? "another machine" : "none or here");
	}
	unsetenv("http_proxy");
}

static void log_states(const char *path, const uint8_t *sha256, int *ranges_ok, int *digest_ok)
{
	struct partlog j;
	struct partlog_state s;
	struct err e = ERR_NONE;

	partlog_open(&j, path, 42, sha256, &s, &e);
	*ranges_ok =
	    s.size == 1000 && ranges_bytes(&s.on_disk) == 300 && ranges_has(&s.on_disk, 0, 200);
	*digest_ok = s.digest.bytes == 150;
	ranges_free(&s.on_disk);
	partlog_close(&j);
}

static void write_log(const char *path, const uint8_t *sha256)
{
	struct partlog j;
	struct partlog_state s;
	struct ranges added = {0};
	struct err e = ERR_NONE;
	struct digest d;

	partlog_open(&j, path, 42, sha256, &s, &e);
	partlog_begin(&j, 1000, 42, sha256, NULL, &e);
	ranges_add(&added, 0, 200);
	ranges_add(&added, 500, 600);
	digest_init(&d);
	digest_update(&d, path, 0);
	for (int i = 0; i < 150; i++)
		digest_update(&d, "x", 1);
	partlog_append(&j, &added, &d, &e);
	partlog_source(&j, 7, "\"etag\"", &e);
	ranges_free(&added);
	ranges_free(&s.on_disk);
	partlog_close(&j);
}

/* Cut at every byte, and every byte flipped: what is read back is true or nothing. */
static void test_log(const char *folder)
{
	uint8_t sha256[DIGEST_BYTES] = {1, 2, 3}, other[DIGEST_BYTES] = {9};
	char path[300];
	uint8_t text[8 * PARTLOG_RECORD_BYTES];
	int ranges_ok, digest_ok, fd, lied = 0;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/log", folder);
	write_log(path, sha256);
	log_states(path, sha256, &ranges_ok, &digest_ok);
	CHECK(ranges_ok && digest_ok, "ranges and the digest's state are read back");
	log_states(path, other, &ranges_ok, &digest_ok);
	CHECK(!ranges_ok && !digest_ok, "a journal of another file says nothing");
	fd = open(path, O_RDWR);
	n = read(fd, text, sizeof(text));
	for (ssize_t i = 0; i < 2 * n; i++) {
		struct partlog j;
		struct partlog_state s;
		struct err e = ERR_NONE;

		if (i < n)
			text[i] ^= 0x10;
		if (pwrite(fd, text, (size_t)n, 0) != n || ftruncate(fd, i < n ? n : i - n) != 0)
			lied++;
		partlog_open(&j, path, 42, sha256, &s, &e);
		for (int k = 0; k < s.on_disk.n; k++)
			lied += !((s.on_disk.v[k].from == 0 && s.on_disk.v[k].to == 200) ||
				  (s.on_disk.v[k].from == 500 && s.on_disk.v[k].to == 600));
		lied += s.digest.bytes != 0 && s.digest.bytes != 150;
		ranges_free(&s.on_disk);
		partlog_close(&j);
		if (i < n)
			text[i] ^= 0x10;
	}
	close(fd);
	CHECK(n == 5 * PARTLOG_RECORD_BYTES && lied == 0,
	      "cut at every byte or with any byte changed it does not lie");
}

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	if (f) {
		fputs(text, f);
		fclose(f);
	}
}

static void test_store(const char *folder)
{
	static const char sha[] =
	    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	struct store_meta m = {.id = "abc", .tier = "ci-light", .file = "abc.gguf"}, back;
	struct store_blob b;
	struct store s;
	struct err e = ERR_NONE;
	struct stat st;
	bool busy;
	int lock, second, lease;

	CHECK(store_open(&s, folder, &e) == 0 && store_blob(&s, sha, "d/abc.gguf", &b, &e) == 0,
	      "a cache is made %s", e.msg);
	CHECK(strstr(b.path,
		     "/models/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad/"
		     "model.gguf"),
	      "a model's name is its hash");
	CHECK(store_blob(&s, sha, "lease", &b, &e) == 0 && strcmp(b.path, b.lease) != 0 &&
		  store_blob(&s, sha, "model.json", &b, &e) == 0 && strcmp(b.path, b.meta) != 0 &&
		  store_blob(&s, sha, "d/abc.gguf", &b, &e) == 0,
	      "a file called like one of the cache's own gets another name");
	CHECK(store_state(&b) == STORE_ABSENT && store_make_dir(&b, &e) == 0, "it is absent");
	put(b.part, "abc");
	CHECK(store_state(&b) == STORE_PARTIAL, "then partial");
	CHECK(store_commit(&b, b.part, &m, &e) == 0 && store_state(&b) == STORE_READY,
	      "then ready %s", e.msg);
	CHECK(stat(b.path, &st) == 0 && (st.st_mode & 0777) == 0444, "and read-only");
	CHECK(store_meta_read(b.meta, &back, &e) == 0 && !strcmp(back.id, "abc") && back.size == 3,
	      "its metadata says what it is");
	chmod(b.path, 0644);
	put(b.path, "abd");
	CHECK(store_state(&b) == STORE_UNSURE, "a changed file is unsure");
	lock = store_lock(&b, &busy, &e);
	second = store_lock(&b, &busy, &e);
	CHECK(lock >= 0 && second == -1 && busy, "a lock is taken once");
	CHECK(store_in_use(&b), "a locked blob is in use");
	close(lock);
	CHECK(!store_in_use(&b), "an unlocked one is not");
	lease = store_lease(b.path);
	CHECK(lease >= 0 && store_claim(&b) == -1, "a lease is seen");
	close(lease);
	CHECK(store_lease("/etc/passwd") == -1, "files of others get no lease");
	put(b.part, "x");
	snprintf(m.source, sizeof(m.source), "%s/users.txt", b.dir);
	put(m.source, "mine");
	CHECK(store_delete(&b, false, &e) >= 0 && access(b.path, F_OK) != 0 &&
		  access(b.part, F_OK) != 0 && access(m.source, F_OK) == 0,
	      "deleting leaves what is not ours");
}

static void test_place(const char *folder)
{
	char from[300], to[300];
	struct err e = ERR_NONE;
	enum place_how how;

	snprintf(from, sizeof(from), "%s/from", folder);
	snprintf(to, sizeof(to), "%s/to", folder);
	put(from, "content");
	put(to, "old");
	CHECK(place_file(from, to, &how, &e) == 0 && access(to, F_OK) == 0, "placed as a %s %s",
	      place_name(how), e.msg);
	CHECK(place_file(from, to, &how, &e) == 0, "and once more");
	CHECK(place_file("/nonexistent", to, &how, &e) < 0, "a file that is not there is an error");
	CHECK(unpack_is_archive("a.tar.gz") && unpack_is_archive("A.ZIP") &&
		  unpack_is_archive("a.tar.zst") && !unpack_is_archive("a.gguf") &&
		  !unpack_is_archive(".zip"),
	      "archives by their names");
}

int main(void)
{
	char folder[] = "/tmp/assay-parts-XXXXXX", command[100];

	if (!mkdtemp(folder))
		return 1;
	test_ranges();
	test_head();
	test_hub();
	test_proxy_of_another_machine();
	test_log(folder);
	test_place(folder);
	test_store(folder);
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	if (system(command) != 0)
		return 1;
	return TEST_END();
}
