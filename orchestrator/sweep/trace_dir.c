#include "trace_dir.h"

#include "trace_frame.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct reading {
	struct trace_dir *d;
	int line;
};

static int broken(const struct reading *r, struct err *e, const char *what)
{
	return err_set(e, EXIT_USAGE, "%s:%d: %s", r->d->path, r->line, what);
}

static int open_values(struct trace_dir *d, const char *dir, struct err *e)
{
	char path[PATH_MAX];
	struct stat st;
	void *map;
	int fd;

	snprintf(path, sizeof(path), "%.4000s/values.f32", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0 || st.st_size == 0 || st.st_size % (off_t)sizeof(float)) {
		close(fd);
		return err_set(e, EXIT_USAGE, "%s is not a file of float32 values", path);
	}
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
		return err_set(e, EXIT_USAGE, "%s: %s", path, strerror(errno));
	d->values = map;
	d->bytes = (size_t)st.st_size;
	return 0;
}

static int open_lines(struct trace_dir *d, const char *path, FILE **lines, struct err *e)
{
	struct stat st;
	int rc = 0;

	snprintf(d->path, sizeof(d->path), "%.4000s", path);
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		snprintf(d->path, sizeof(d->path), "%.4000s/trace.jsonl", path);
		rc = open_values(d, path, e);
	}
	if (rc < 0)
		return rc;
	*lines = fopen(d->path, "rbe");
	if (!*lines)
		return err_set(e, EXIT_USAGE, "%s: %s", d->path, strerror(errno));
	return 0;
}

static int parse_shape(const struct reading *r, struct trace_record *rec, const json_t *shape,
		       struct err *e)
{
	const char *fault;

	rec->n_dims = (int)json_array_size(shape);
	if (rec->n_dims < 1 || rec->n_dims > TRACE_DIMS_MAX)
		return broken(r, e, "\"shape\" has to have 1 to 4 dimensions");
	for (int i = 0; i < rec->n_dims; i++)
		rec->shape[i] = json_integer_value(json_array_get(shape, (size_t)i));
	fault = trace_record_fault(rec);
	return fault ? broken(r, e, fault) : 0;
}

static int parse_record(const struct reading *r, struct trace_record *rec, const json_t *o,
			int64_t *offset, struct err *e)
{
	const char *name = "", *stage = NULL, *dtype = "f32", *blake3 = "";
	json_int_t layer = -1, seq = 0, n = 0, at = -1;
	const json_t *shape = NULL, *rms = NULL;
	json_error_t why;
	char what[300];

	if (json_unpack_ex((json_t *)(uintptr_t)o, &why, 0,
			   "{s?s, s:s, s:I, s?I, s?s, s?s, s:I, s?I, s:o, s?o}", "name", &name,
			   "stage", &stage, "layer", &layer, "seq", &seq, "dtype", &dtype, "blake3",
			   &blake3, "num_elements", &n, "values_offset", &at, "shape", &shape,
			   "rms", &rms) < 0)
		return broken(r, e, why.text);
	*rec = (struct trace_record){.layer = (int)layer, .seq = (int)seq, .num_elements = n};
	snprintf(rec->name, sizeof(rec->name), "%s", name);
	snprintf(rec->dtype, sizeof(rec->dtype), "%s", dtype);
	snprintf(rec->blake3, sizeof(rec->blake3), "%s", blake3);
	rec->rms = json_is_number(rms) ? json_number_value(rms) : NAN;
	if (trace_stage_by_name(stage) < 0) {
		snprintf(what, sizeof(what), "stage \"%.100s\" does not exist", stage);
		return broken(r, e, what);
	}
	rec->stage = (enum trace_stage)trace_stage_by_name(stage);
	if (layer < -1 || layer > 100000 || n < 1)
		return broken(r, e, "\"layer\" or \"num_elements\" is out of range");
	if (*blake3 && (strlen(blake3) != BLAKE3_HEX - 1 ||
			strspn(blake3, "0123456789abcdef") != BLAKE3_HEX - 1))
		return broken(r, e, "\"blake3\" is not 64 hexadecimal digits in lower case");
	*offset = at;
	return parse_shape(r, rec, shape, e);
}

static int take_line(struct reading *r, const char *line, struct err *e)
{
	struct trace_dir *d = r->d;
	struct trace_record rec;
	json_error_t why;
	json_t *o = json_loads(line, JSON_REJECT_DUPLICATES, &why);
	int64_t offset = -1;
	int rc;

	if (!o)
		return broken(r, e, why.text);
	rc = parse_record(r, &rec, o, &offset, e);
	json_decref(o);
	if (rc < 0)
		return rc;
	if (offset >= 0 && d->values &&
	    offset > (int64_t)(d->bytes / sizeof(float)) - rec.num_elements)
		return broken(r, e, "\"values_offset\" is beyond the end of values.f32");
	if (d->n == d->cap) {
		d->cap = d->cap ? 2 * d->cap : 256;
		d->records = realloc(d->records, (size_t)d->cap * sizeof(*d->records));
		assert(d->records);
	}
	d->records[d->n++] = (struct trace_dir_record){
		rec, offset >= 0 && d->values ? d->values + offset : NULL};
	return 0;
}

int trace_dir_open(struct trace_dir *d, const char *path, struct err *e)
{
	struct reading r = {d, 0};
	FILE *lines = NULL;
	char *line = NULL;
	size_t cap = 0;
	int rc;

	*d = (struct trace_dir){.n = 0};
	rc = open_lines(d, path, &lines, e);
	while (rc == 0 && getline(&line, &cap, lines) > 0) {
		r.line++;
		if (line[strspn(line, " \t\r\n")])
			rc = take_line(&r, line, e);
	}
	if (rc == 0 && d->n == 0)
		rc = err_set(e, EXIT_USAGE, "%s has no trace record", d->path);
	free(line);
	if (lines)
		fclose(lines);
	if (rc < 0)
		trace_dir_close(d);
	return rc;
}

void trace_dir_close(struct trace_dir *d)
{
	free(d->records);
	if (d->values)
		munmap((void *)(uintptr_t)d->values, d->bytes);
	d->records = NULL;
	d->values = NULL;
	d->n = d->cap = 0;
}

int trace_dir_read(const char *path, side_trace_fn *fn, void *ctx, struct err *e)
{
	struct trace_dir d;
	int rc = trace_dir_open(&d, path, e);

	for (int i = 0; rc == 0 && i < d.n; i++)
		rc = fn(ctx, &d.records[i].r, d.records[i].values, e);
	trace_dir_close(&d);
	return rc;
}
