/*
 * Runs one fuzz entry over its committed corpus without libFuzzer, also cut at each byte and with
 * each byte changed, so that the entries are tested with every compiler. The program is called
 * NAME_corpus; the corpus is tests/fuzz/corpus/NAME.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 1 << 20, CHANGED_MAX = 4096 };

/* An exact-size copy, so that a sanitizer sees a byte read beyond the end. */
static void one(const uint8_t *data, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);

	if (!copy)
		abort();
	memcpy(copy, data, n);
	LLVMFuzzerTestOneInput(copy, n);
	free(copy);
}

static long input(uint8_t *data, size_t n)
{
	static const uint8_t flips[] = { 0x01, 0x80, 0xff };
	size_t part = n < CHANGED_MAX ? n : CHANGED_MAX;
	long runs = 1;

	one(data, n);
	for (size_t i = 0; i < part; i++, runs++)
		one(data, i);
	for (size_t i = 0; i < part; i++)
		for (size_t k = 0; k < sizeof(flips); k++, runs++) {
			data[i] ^= flips[k];
			one(data, n);
			data[i] ^= flips[k];
		}
	return runs;
}

int main(int argc, char **argv)
{
	static uint8_t data[INPUT_MAX];
	const char *base = argc > 0 && strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	int name_bytes = (int)(strstr(base, "_corpus") ? strstr(base, "_corpus") - base
						       : (long)strlen(base));
	char dir[256], path[600];
	long runs = 0, files = 0;

	snprintf(dir, sizeof(dir), "tests/fuzz/corpus/%.*s", name_bytes, base);
	DIR *d = opendir(dir);

	for (struct dirent *entry; d && (entry = readdir(d));) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		FILE *f = fopen(path, "rb");
		size_t n = f ? fread(data, 1, sizeof(data), f) : 0;

		if (f)
			fclose(f);
		runs += input(data, n);
		files++;
	}
	if (d)
		closedir(d);
	printf("%s - %.*s: %ld inputs from %ld files\n", files ? "ok" : "not ok", name_bytes, base,
	       runs, files);
	return files ? 0 : 1;
}
