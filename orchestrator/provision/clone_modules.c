#include "clone.h"

#include "references_lock.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct reader {
	struct clone_module *out;
	int max, n, line;
	struct err *e;
};

static char *trim(char *s)
{
	char *end;

	while (isspace((unsigned char)*s))
		s++;
	end = s + strlen(s);
	while (end > s && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return s;
}

static int refuse(const struct reader *r, const char *what, const char *value)
{
	char shown[300];
	size_t n = 0;

	for (; value[n] && n + 1 < sizeof(shown); n++)
		shown[n] = iscntrl((unsigned char)value[n]) ? '?' : value[n];
	shown[n] = '\0';
	return err_set(r->e, EXIT_HASH_MISMATCH, ".gitmodules line %d: %s: \"%s\"", r->line, what,
		       shown);
}

static int copy(const struct reader *r, char *out, size_t size, const char *value)
{
	if (snprintf(out, size, "%s", value) >= (int)size)
		return refuse(r, "value is too long", "…");
	return 0;
}

static int section(struct reader *r, char *s)
{
	char *open = strchr(s, '"'), *close = strrchr(s, '"');

	if (strncmp(s, "[submodule", 10) != 0 || !open || close == open || s[strlen(s) - 1] != ']')
		return refuse(r, "not a submodule section", s);
	*close = '\0';
	if (r->n == r->max)
		return refuse(r, "too many submodules", open + 1);
	memset(&r->out[r->n], 0, sizeof(r->out[0]));
	r->n++;
	/* the name becomes a folder in git's own way of cloning; never in ours, and still */
	if (!references_lock_path_ok(open + 1))
		return refuse(r, "submodule name leaves its folder", open + 1);
	return copy(r, r->out[r->n - 1].name, sizeof(r->out[0].name), open + 1);
}

static int url_ok(const struct reader *r, const char *url)
{
	struct err ignored;

	if (url[0] == '-')
		return refuse(r, "submodule URL is an option", url);
	if (strstr(url, "::"))
		return refuse(r, "submodule URL runs a helper program", url);
	if (strncmp(url, "./", 2) == 0 || strncmp(url, "../", 3) == 0)
		return 0;	/* compared with the lockfile as it stands */
	if (clone_url_check(url, &ignored) < 0)
		return refuse(r, "submodule URL is neither https nor a local path", url);
	return 0;
}

static int entry(struct reader *r, char *key, char *value)
{
	struct clone_module *m = r->n ? &r->out[r->n - 1] : NULL;
	size_t len = strlen(value);
	int status;

	if (!m)
		return refuse(r, "a value before any section", key);
	if (len >= 2 && value[0] == '"' && value[len - 1] == '"') {
		value[len - 1] = '\0';
		value++;
	}
	if (strcasecmp(key, "path") == 0) {
		if (!references_lock_path_ok(value))
			return refuse(r, "submodule path leaves the tree", value);
		return copy(r, m->path, sizeof(m->path), value);
	}
	if (strcasecmp(key, "url") == 0) {
		status = url_ok(r, value);
		return status < 0 ? status : copy(r, m->url, sizeof(m->url), value);
	}
	if (strcasecmp(key, "update") == 0 && value[0] == '!')
		return refuse(r, "submodule update runs a command", value);
	return 0;
}

int clone_modules_parse(const char *text, struct clone_module *out, int max, int *n, struct err *e)
{
	struct reader r = {.out = out, .max = max, .e = e};
	char line[2048];
	int status = 0;

	for (const char *p = text; *p && status == 0;) {
		size_t len = strcspn(p, "\n");
		char *s, *eq;

		r.line++;
		if (len >= sizeof(line))
			return refuse(&r, "line is too long", "…");
		memcpy(line, p, len);
		line[len] = '\0';
		p += len + (p[len] == '\n');
		s = trim(line);
		if (!*s || *s == '#' || *s == ';')
			continue;
		if (*s == '[') {
			status = section(&r, s);
			continue;
		}
		eq = strchr(s, '=');
		if (!eq)
			continue;	/* a bare key is a boolean */
		*eq = '\0';
		status = entry(&r, trim(s), trim(eq + 1));
	}
	for (int i = 0; status == 0 && i < r.n; i++)
		if (!out[i].path[0] || !out[i].url[0])
			status = err_set(e, EXIT_HASH_MISMATCH,
					 ".gitmodules: submodule \"%s\" has no path or no URL",
					 out[i].name);
	if (status == 0)
		*n = r.n;
	return status;
}
