/*
 * Build-time program: puts files into the program. `embed OUT.c FILE…` writes a C table that
 * orchestrator/provision/embed.h reads; each file gets a NUL behind its last byte.
 */
#include <stdio.h>
#include <stdlib.h>

static void fail(const char *path)
{
	perror(path);
	exit(1);
}

static unsigned long put_file(FILE *out, const char *path, int number)
{
	FILE *in = fopen(path, "rbe");
	unsigned long n = 0;
	int c;

	if (!in)
		fail(path);
	fprintf(out, "static const unsigned char file_%d[] = {", number);
	for (; (c = getc(in)) != EOF; n++)
		fprintf(out, "%s%d,", n % 24 ? "" : "\n", c);
	if (ferror(in) || fclose(in) != 0)
		fail(path);
	fprintf(out, "\n0};\n\n");
	return n;
}

int main(int argc, char **argv)
{
	FILE *out = argc > 1 ? fopen(argv[1], "we") : NULL;
	unsigned long *bytes = calloc((size_t)argc, sizeof(*bytes));

	if (!out || !bytes)
		fail(argc > 1 ? argv[1] : "usage: embed OUT.c FILE…");
	fprintf(out, "#include \"provision/embed.h\"\n\n");
	for (int i = 2; i < argc; i++)
		bytes[i] = put_file(out, argv[i], i);
	fprintf(out, "const struct embedded embedded_files[] = {\n");
	for (int i = 2; i < argc; i++)
		fprintf(out, "\t{\"%s\", file_%d, %lu},\n", argv[i], i, bytes[i]);
	fprintf(out, "\t{0},\n};\n");
	if (fclose(out) != 0)
		fail(argv[1]);
	free(bytes);
	return 0;
}
