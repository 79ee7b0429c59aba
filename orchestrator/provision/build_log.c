#include "build_log.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = 4096 };

/* All '\n'-separated parts of the needle in one line. */
static bool fits(const char *line, const char *needle)
{
	char part[256];

	for (const char *p = needle; *p;) {
		size_t n = strcspn(p, "\n");

		snprintf(part, sizeof(part), "%.*s", (int)n, p);
		if (!strstr(line, part))
			return false;
		p += n + (p[n] == '\n');
	}
	return true;
}

static const struct build_signature *signature_of(const char *line, bool is_error)
{
	for (const struct build_signature *s = build_signatures; s->id; s++)
		for (int i = 0; i < 5 && s->needles[i]; i++)
			if (fits(line, s->needles[i]) && (is_error || strstr(line, "Killed")))
				return s;
	return NULL;
}

static bool looks_like_error(const char *line)
{
	static const char *const marks[] = {
		": error:", ": fatal error:", "CMake Error", "undefined reference to", ": error ",
		"ld: ", "error: ", "Error: ", "ninja: error", "make: ***", "not found",
		"No space left on device", "File too large", "Killed signal", "out of memory",
		"is not a full path", "does not contain a CMakeLists", "virtual memory exhausted",
		"unable to find a build program", "No CMAKE_CXX_COMPILER", "is not set, ",
		"or higher is required", "given source"};

	if (strstr(line, "-- Looking for") || strstr(line, "-- Check") || strstr(line, "Warning") ||
	    strstr(line, "warning:") || strncmp(line, "-- ", 3) == 0)
		return false;
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		if (strstr(line, marks[i]))
			return true;
	return false;
}

/* The part that makes two errors the same: without file, line and colours. */
static void plain(char *out, size_t size, const char *line, const char *root)
{
	size_t n = 0, root_len = strlen(root);

	for (const char *p = line; *p && n + 1 < size; p++) {
		if (*p == '\033') {
			p += strcspn(p, "mK");
			if (!*p)
				break;
			continue;
		}
		if (root_len && strncmp(p, root, root_len) == 0) {
			if (p[root_len] != '/')
				out[n++] = '.';
			p += root_len - (p[root_len] == '/' ? 0 : 1);
			continue;
		}
		out[n++] = *p;
	}
	out[n] = '\0';
}

static bool known(const struct build_digest *d, const char *text)
{
	const char *mark = strstr(text, "error:");

	for (int i = 0; i < d->n_errors; i++) {
		const char *other = strstr(d->errors[i], "error:");

		if (strcmp(d->errors[i], text) == 0 || (mark && other && strcmp(mark, other) == 0))
			return true;
	}
	return false;
}

/* "CMake Error at X:3 (…):" says what is wrong in the lines that follow. */
static bool wants_more(const char *line)
{
	size_t n = strlen(line);

	return strncmp(line, "CMake Error", 11) == 0 && n && line[n - 1] == ':';
}

void build_log_digest(struct build_digest *d, const char *text, const char *root)
{
	const struct build_signature *found = NULL, *s;
	char line[LINE_BYTES], shown[BUILD_ERROR_BYTES];
	bool command_next = false;
	int more = 0;

	memset(d, 0, sizeof(*d));
	for (const char *p = text; *p;) {
		size_t n = strcspn(p, "\n");
		bool is_error;

		snprintf(line, sizeof(line), "%.*s", (int)n, p);
		p += n + (p[n] == '\n');
		if (command_next && !d->command[0])
			plain(d->command, sizeof(d->command), line, root);
		command_next = strncmp(line, "FAILED: ", 8) == 0;
		is_error = looks_like_error(line);
		if (more > 0 && strncmp(line, "-- ", 3) == 0)
			more = 0;
		if (more > 0 && line[strspn(line, " ")]) {
			size_t at = strlen(d->errors[d->n_errors - 1]);

			plain(shown, sizeof(shown), line + strspn(line, " "), root);
			snprintf(d->errors[d->n_errors - 1] + at, BUILD_ERROR_BYTES - at, " %s",
				 shown);
			more--;
			s = signature_of(d->errors[d->n_errors - 1], true);
			if (s && (!found || s < found))
				found = s;
			continue;
		}
		s = signature_of(line, is_error);
		if (s && (!found || s < found))
			found = s;
		if (!is_error || strncmp(line, "make", 4) == 0)
			continue;
		plain(shown, sizeof(shown), line, root);
		if (d->n_errors < BUILD_ERRORS_MAX && !known(d, shown)) {
			memcpy(d->errors[d->n_errors++], shown, sizeof(shown));
			more = wants_more(line) ? 4 : 0;
		}
	}
	d->signature = found;
}

void build_log_print(const struct build_digest *d, char *out, size_t size)
{
	size_t n = 0;

	out[0] = '\0';
	for (int i = 0; i < d->n_errors && n < size; i++)
		n += (size_t)snprintf(out + n, size - n, "%s  %s", i ? "\n" : "", d->errors[i]);
	if (d->command[0] && n < size)
		n += (size_t)snprintf(out + n, size - n, "%s  failing command: %.500s",
				      n ? "\n" : "", d->command);
	if (d->signature && n < size)
		snprintf(out + n, size - n, "%s  known failure \"%s\": %s. Cure: %s", n ? "\n" : "",
			 d->signature->id, d->signature->cause, d->signature->cure);
}
