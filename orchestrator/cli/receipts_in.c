#include "receipts_in.h"

#include "report/input.h"
#include "sweep/facts.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int add_file(struct summary *s, const char *path, struct err *e)
{
	FILE *f = input_open(path);
	struct stat st;
	char *text = NULL;
	size_t n = 0;
	int r = 0;

	if (!f || fstat(fileno(f), &st) < 0)
		r = err_set(e, EXIT_RECEIPT_INVALID, "%s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode) || st.st_size > INPUT_JSON_MAX)
		r = err_set(e, EXIT_RECEIPT_INVALID, "%s: not a regular file of at most %d MiB",
			    path, INPUT_JSON_MAX >> 20);
	if (r == 0) {
		text = malloc((size_t)st.st_size + 1);
		assert(text);
		n = fread(text, 1, (size_t)st.st_size, f);
	}
	if (f)
		fclose(f);
	if (r == 0)
		r = summary_add(s, text, n, path, e);
	free(text);
	return r;
}

/* A run's directory, one comparison's directory, or a receipt. */
int receipts_add(struct summary *s, const char *path, struct err *e)
{
	char file[PATH_MAX];
	struct stat st;
	struct dirent **names;
	int n, r = 0, found = 0;

	if (stat(path, &st) < 0)
		return err_set(e, EXIT_USAGE, "%s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return add_file(s, path, e);
	n = scandir(path, &names, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		snprintf(file, sizeof(file), "%.3000s/%s%s", path, names[i]->d_name,
			 strcmp(names[i]->d_name, "receipt.json") == 0 ? "" : "/receipt.json");
		if (r == 0 && names[i]->d_name[0] != '.' && stat(file, &st) == 0) {
			found++;
			r = add_file(s, file, e);
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	if (r == 0 && found == 0)
		return err_set(e, EXIT_NOTHING_RAN, "%s holds no receipt", path);
	return r;
}

int receipts_check_unique(const struct summary *s, struct err *e)
{
	for (int i = 1; i < s->n; i++)
		if (strcmp(s->rows[i].id, s->rows[i - 1].id) == 0 &&
		    strcmp(s->rows[i].sha256, s->rows[i - 1].sha256) != 0)
			return err_set(
				e, EXIT_RECEIPT_INVALID,
				"two different receipts are called \"%s\"; shards of one run have "
				"one of each",
				s->rows[i].id);
	return 0;
}

int receipts_write_summary(const struct summary *s, const char *folder, struct err *e)
{
	char path[PATH_MAX], *text = summary_json(s);
	int r;

	if (mkdir(folder, 0777) < 0 && errno != EEXIST)
		r = err_set(e, EXIT_USAGE, "--out %s: %s", folder, strerror(errno));
	else {
		snprintf(path, sizeof(path), "%.4000s/summary.json", folder);
		r = facts_write(path, text, e);
	}
	free(text);
	if (r < 0)
		return r;
	text = summary_markdown(s);
	snprintf(path, sizeof(path), "%.4000s/summary.md", folder);
	r = facts_write(path, text, e);
	free(text);
	return r;
}
