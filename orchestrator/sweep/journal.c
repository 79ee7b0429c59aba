#include "journal.h"

#include "output.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static int io_error(struct err *e, const char *path)
{
	return output_failed(e, "journal", path);
}

static int append(struct journal *j, json_t *line, struct err *e)
{
	char *text = json_dumps(line, JSON_COMPACT | JSON_SORT_KEYS);
	size_t n;
	int r = 0;

	assert(text);
	n = strlen(text);
	text[n++] = '\n';	/* the NUL is not needed any more */
	if (write(j->fd, text, n) != (ssize_t)n || fdatasync(j->fd) < 0)
		r = io_error(e, "journal.jsonl");
	free(text);
	json_decref(line);
	return r;
}

static int write_identity(struct journal *j, const char *identity, struct err *e)
{
	return append(j, json_pack("{s:s, s:s}", "journal", "1", "run", identity), e);
}

/* Workers that died are tried again; everything else is done. */
static void take_line(struct journal *j, json_t *line)
{
	const char *id = json_string_value(json_object_get(line, "id"));

	if (!id || json_integer_value(json_object_get(line, "exit_code")) == EXIT_WORKER)
		return;
	j->done = realloc(j->done, (size_t)(j->n_done + 1) * sizeof(*j->done));
	assert(j->done);
	j->done[j->n_done++] = strdup(id);
}

static int read_back(struct journal *j, const char *path, const char *identity, off_t *end,
		     bool *found, struct err *e)
{
	FILE *f = fopen(path, "re");
	char line[JOURNAL_LINE_MAX];
	int r = 0;

	*end = 0;
	*found = false;
	if (!f)
		return errno == ENOENT ? 0 : io_error(e, path);
	while (r == 0 && fgets(line, sizeof(line), f) && strchr(line, '\n')) {
		json_t *o = json_loads(line, 0, NULL);
		const char *run = json_string_value(json_object_get(o, "run"));

		if (!o)
			break;
		if (!*found && (!run || strcmp(run, identity) != 0))
			r = err_set(e, EXIT_USAGE,
				    "%s belongs to another run (model, engines or options differ); "
				    "leave --resume out to begin anew",
				    path);
		else if (*found)
			take_line(j, o);
		*found = true;
		*end = ftello(f);
		json_decref(o);
	}
	fclose(f);
	return r;
}

/* Two runs would mix their receipts. Where locks are not known, as on some network disks, nobody
 * is kept out. */
static int keep_others_out(const struct journal *j, const char *out, struct err *e)
{
	if (flock(j->fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return 0;
	return err_set(e, EXIT_USAGE,
		       "another run is writing into %s; wait for its end or name another --out",
		       out);
}

int journal_open(struct journal *j, const char *out, const char *identity, bool resume,
		 struct err *e)
{
	char path[PATH_MAX];
	bool found = false;
	off_t end = 0;
	int r = 0;

	*j = (struct journal){.fd = -1};
	snprintf(path, sizeof(path), "%.4000s/journal.jsonl", out);
	j->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	r = j->fd < 0 ? io_error(e, path) : keep_others_out(j, out, e);
	if (r == 0 && resume)
		r = read_back(j, path, identity, &end, &found, e);
	if (r == 0 && (ftruncate(j->fd, end) < 0 || lseek(j->fd, end, SEEK_SET) < 0))
		r = io_error(e, path);
	if (r == 0 && !found)
		r = write_identity(j, identity, e);
	if (r < 0)
		journal_close(j);
	return r;
}

bool journal_has(const struct journal *j, const char *id)
{
	for (int i = 0; i < j->n_done; i++)
		if (strcmp(j->done[i], id) == 0)
			return true;
	return false;
}

int journal_add(struct journal *j, const char *id, const char *verdict, int exit_code,
		struct err *e)
{
	return append(j,
		      json_pack("{s:s, s:s, s:i}", "id", id, "verdict", verdict, "exit_code",
				exit_code),
		      e);
}

void journal_close(struct journal *j)
{
	if (j->fd >= 0)
		close(j->fd);
	for (int i = 0; i < j->n_done; i++)
		free(j->done[i]);
	free(j->done);
	*j = (struct journal){.fd = -1};
}
