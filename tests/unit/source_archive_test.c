/* Where the tarball of a pinned commit is. */
#include "provision/source_archive.h"

#include "test.h"

#include <string.h>

static void is(const char *archive, const char *url, const char *want)
{
	struct lock_entry x = {.name = "x", .commit = "0123abc", .archive = archive, .url = url};
	struct err e = ERR_NONE;
	char got[300] = "";

	CHECK(source_archive_url(&x, got, sizeof(got), &e) == (*want ? 0 : -EXIT_USAGE), "%s %s",
	      archive ? archive : "-", url);
	CHECK_STR(got, want, "the address");
}

int main(void)
{
	is(NULL, "https://github.com/microsoft/BitNet",
	   "https://codeload.github.com/microsoft/BitNet/tar.gz/0123abc");
	is(NULL, "https://github.com/a/b.cpp.git",
	   "https://codeload.github.com/a/b.cpp/tar.gz/0123abc");
	is("https://example.org/{commit}.tar.zst", "https://github.com/a/b",
	   "https://example.org/0123abc.tar.zst");
	is("https://example.org/v1.tar.gz", "https://github.com/a/b",
	   "https://example.org/v1.tar.gz");
	is(NULL, "https://example.org/a/b", "");
	CHECK(source_archive_is_url("https://x/y") && !source_archive_is_url("/a/b.tar.gz"),
	      "an address is not a file");
	return TEST_END();
}
