#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

FILE *input_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), flags;
	FILE *f;

	if (fd < 0)
		return NULL;
	flags = fcntl(fd, F_GETFL);
	/* a pipe with a writer is read like any file */
	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 || !(f = fdopen(fd, "rb"))) {
		close(fd);
		return NULL;
	}
	return f;
}

struct source {
	FILE *f;
	size_t left;
};

static size_t some(void *to, size_t n, void *ctx)
{
	struct source *s = ctx;
	size_t got;

	if (s->left == 0)
		return fgetc(s->f) == EOF ? 0 : (size_t)-1;
	got = fread(to, 1, n < s->left ? n : s->left, s->f);
	s->left -= got;
	return got ? got : ferror(s->f) ? (size_t)-1 : 0;
}

json_t *input_json(const char *path, json_error_t *why)
{
	struct source s = {input_open(path), INPUT_JSON_MAX};
	json_error_t ignored;
	json_t *o;

	if (!why)
		why = &ignored;
	if (!s.f) {
		*why = (json_error_t){.line = -1};
		snprintf(why->text, sizeof(why->text), "unable to open: %s", strerror(errno));
		return NULL;
	}
	o = json_load_callback(some, &s, JSON_REJECT_DUPLICATES, why);
	if (!o && s.left == 0)
		snprintf(why->text, sizeof(why->text), "more than %d MiB", INPUT_JSON_MAX >> 20);
	fclose(s.f);
	return o;
}
