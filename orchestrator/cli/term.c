#include "term.h"

#include "err.h"
#include "utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 1024, PLAIN_INTERVAL_S = 5 };

static struct {
	bool tty, quiet, verbose, events, live;
	time_t last_plain;
} term;

void term_setup(bool no_color, bool quiet, bool verbose, bool events)
{
	term.tty = isatty(STDERR_FILENO) && !no_color && !events;
	term.quiet = quiet;
	term.verbose = verbose;
	term.events = events;
}

bool term_events(void)
{
	return term.events;
}

bool term_quiet(void)
{
	return term.quiet;
}

bool term_is_tty(void)
{
	return term.tty;
}

void term_clear(void)
{
	if (term.live)
		fputs("\r\033[K", stderr);
	term.live = false;
}

static time_t now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* A line that wraps could not be written over: what the terminal has no room for ends in "…". */
static void cut_to_width(char *line)
{
	struct winsize w;
	size_t n = strlen(line), last = 0;
	int columns = 0;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_col < 2)
		return;
	for (size_t i = 0; i < n; i += utf8_length(line + i, n - i)) {
		if (++columns < w.ws_col) {
			last = i;
		} else {
			snprintf(line + last, LINE_MAX_BYTES - last, "…");
			return;
		}
	}
}

void term_progress(const char *fmt, ...)
{
	char line[LINE_MAX_BYTES];
	va_list ap;

	if (term.quiet || term.events)
		return;
	if (!term.tty) {
		time_t now = now_s();

		if (term.last_plain && now - term.last_plain < PLAIN_INTERVAL_S)
			return;
		term.last_plain = now;
	}
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	utf8_plain(line);
	if (term.tty) {
		cut_to_width(line);
		fprintf(stderr, "\r\033[K%s", line);
		fflush(stderr);
		term.live = true;
	} else {
		fprintf(stderr, "%s\n", line);
	}
}

static void vline(const char *prefix, const char *fmt, va_list ap)
{
	char line[4 * LINE_MAX_BYTES];

	vsnprintf(line, sizeof(line), fmt, ap);
	utf8_plain(line);
	term_clear();
	fprintf(stderr, "%s%s\n", prefix, line);
}

void term_note(const char *fmt, ...)
{
	va_list ap;

	if (term.quiet || term.events)
		return;
	va_start(ap, fmt);
	vline("", fmt, ap);
	va_end(ap);
}

void term_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vline("warning: ", fmt, ap);
	va_end(ap);
}

void term_detail(const char *fmt, ...)
{
	va_list ap;

	if (!term.verbose || term.events)
		return;
	va_start(ap, fmt);
	vline("", fmt, ap);
	va_end(ap);
}

void term_event(const char *json)
{
	if (term.events)
		fprintf(stderr, "%s\n", json);
}
