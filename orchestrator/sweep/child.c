#include "child.h"

#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

extern char **environ;

enum { READ_BYTES = 256 << 10, N_OUTPUTS = 2, ENV_MAX = 4096 };

enum stage { RUNNING, SAID_BYE, SENT_TERM, SENT_KILL, DRAINING };

struct child {
	struct child_options o;
	uv_process_t process;
	uv_pipe_t wire, output[N_OUTPUTS];
	uv_timer_t deadline, ladder;
	int n_open;		/* handles whose close callback has not come */
	int n_eof;		/* of the three pipes */
	bool started, exited, closing, paused, muted, delivering, wire_eof;
	enum stage stage;
	struct child_end end;
	struct wire_decoder decoder;
	char *read_buf;		/* [READ_BYTES] */
	char tail[CHILD_TAIL_BYTES + 1];
	size_t n_tail;
	int log_fd;
};

struct write {
	uv_write_t req;
	char *bytes;
};

static void deliver(struct child *c);

static void log_frame(const struct child *c, char direction, int type, size_t bytes)
{
	char line[128];
	int n;

	if (c->log_fd < 0)
		return;
	n = snprintf(line, sizeof(line), "%d %c %s %zu\n", child_pid(c), direction,
		     wire_type_name((enum wire_type)type), bytes);
	if (write(c->log_fd, line, (size_t)n) != n)
		return;
}

static void on_closed(uv_handle_t *h)
{
	struct child *c = h->data;

	if (--c->n_open > 0)
		return;
	c->tail[c->n_tail] = '\0';
	c->end.tail = c->tail;
	c->o.on_end(c->o.ctx, &c->end);
}

static void close_all(struct child *c)
{
	if (c->closing)
		return;
	c->closing = true;
	uv_close((uv_handle_t *)&c->process, on_closed);
	uv_close((uv_handle_t *)&c->wire, on_closed);
	for (int i = 0; i < N_OUTPUTS; i++)
		uv_close((uv_handle_t *)&c->output[i], on_closed);
	uv_close((uv_handle_t *)&c->deadline, on_closed);
	uv_close((uv_handle_t *)&c->ladder, on_closed);
}

static void kill_group(const struct child *c, int signal_number)
{
	if (c->started)
		kill(-c->process.pid, signal_number);
}

static void climb(struct child *c, enum stage to);

static void on_ladder(uv_timer_t *t)
{
	struct child *c = t->data;

	if (c->stage == DRAINING) {
		kill_group(c, SIGKILL);
		close_all(c);
	} else if (c->exited)
		climb(c, DRAINING);
	else
		climb(c, c->stage < SENT_TERM ? SENT_TERM : SENT_KILL);
}

static void climb(struct child *c, enum stage to)
{
	static const int wait_ms[] = {CHILD_BYE_MS, CHILD_BYE_MS, CHILD_TERM_MS, CHILD_TERM_MS,
				      CHILD_DRAIN_MS};

	if (c->closing || to < c->stage || (to == c->stage && to != SENT_KILL))
		return;
	c->stage = to;
	if (to == SENT_TERM)
		kill_group(c, SIGTERM);
	else if (to == SENT_KILL)
		kill_group(c, SIGKILL);
	uv_timer_start(&c->ladder, on_ladder, (uint64_t)wait_ms[to], 0);
}

static void maybe_end(struct child *c)
{
	if (!c->exited || c->closing)
		return;
	if (c->n_eof + (c->paused && !c->wire_eof) == 1 + N_OUTPUTS)
		close_all(c);
	else if (c->stage != DRAINING)
		climb(c, DRAINING);
}

static void on_exit_status(uv_process_t *p, int64_t status, int signal_number)
{
	struct child *c = p->data;

	c->exited = true;
	c->end.fate = signal_number ? CHILD_SIGNALLED : CHILD_EXITED;
	c->end.status = signal_number ? signal_number : (int)status;
	/* what is left of the group must not keep the pipes open */
	kill_group(c, c->stage >= SENT_TERM ? SIGKILL : SIGTERM);
	maybe_end(c);
}

static void on_deadline(uv_timer_t *t)
{
	struct child *c = t->data;

	if (c->exited || c->stage != RUNNING)
		return;
	c->end.timed_out = true;
	c->muted = true;
	climb(c, SENT_TERM);
}

static void stream_broken(struct child *c, const struct err *why)
{
	if (!c->end.broken.code)
		c->end.broken = *why;
	c->muted = true;
	climb(c, SENT_TERM);
}

static void deliver(struct child *c)
{
	struct wire_frame f;
	struct err e = ERR_NONE;
	int r;

	if (c->delivering)
		return;
	c->delivering = true;
	while (!c->paused && !c->muted) {
		r = wire_next(&c->decoder, &f, &e);
		if (r < 0)
			stream_broken(c, &e);
		if (r <= 0)
			break;
		log_frame(c, '<', (int)f.type, f.body_bytes);
		c->o.on_frame(c->o.ctx, &f);
	}
	c->delivering = false;
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
	struct child *c = h->data;

	(void)suggested;
	*buf = uv_buf_init(c->read_buf, READ_BYTES);
}

static void on_wire(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct child *c = s->data;
	struct err e = ERR_NONE;

	if (n > 0 && !c->muted) {
		if (wire_feed(&c->decoder, buf->base, (size_t)n, &e) < 0)
			stream_broken(c, &e);
		else
			deliver(c);
	}
	if (n >= 0)
		return;
	uv_read_stop(s);
	c->wire_eof = true;
	c->n_eof++;
	c->end.hung_up = !c->exited && c->stage == RUNNING;
	if (c->end.hung_up)	/* give it a moment to exit */
		uv_timer_start(&c->ladder, on_ladder, CHILD_BYE_MS, 0);
	maybe_end(c);
}

static void on_output(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct child *c = s->data;

	if (n < 0) {
		uv_read_stop(s);
		c->n_eof++;
		maybe_end(c);
		return;
	}
	size_t bytes = (size_t)n;
	const char *from = buf->base;

	if (bytes > CHILD_TAIL_BYTES) {
		from += bytes - CHILD_TAIL_BYTES;
		bytes = CHILD_TAIL_BYTES;
	}
	if (c->n_tail + bytes > CHILD_TAIL_BYTES) {
		size_t keep = CHILD_TAIL_BYTES - bytes;

		memmove(c->tail, c->tail + c->n_tail - keep, keep);
		c->n_tail = keep;
	}
	memcpy(c->tail + c->n_tail, from, bytes);
	c->n_tail += bytes;
}

static char **child_environment(void)
{
	static char wire[] = "ASSAY_WIRE_FD=3";
	char **env;
	int n = 0, k = 0;

	while (environ[n])
		n++;
	env = calloc((size_t)n + 2, sizeof(*env));
	assert(env);
	for (int i = 0; i < n; i++)
		if (strncmp(environ[i], wire, strlen("ASSAY_WIRE_FD=")) != 0)
			env[k++] = environ[i];
	env[k] = wire;
	return env;
}

static int spawn(struct child *c, uv_loop_t *loop)
{
	uv_stdio_container_t stdio[4] = {{.flags = UV_IGNORE}};
	uv_process_options_t po = {0};
	char **env = child_environment();
	int r;

	for (int i = 0; i < N_OUTPUTS; i++) {
		stdio[1 + i].flags = (uv_stdio_flags)(UV_CREATE_PIPE | UV_WRITABLE_PIPE);
		stdio[1 + i].data.stream = (uv_stream_t *)&c->output[i];
	}
	stdio[CHILD_WIRE_FD].flags =
		(uv_stdio_flags)(UV_CREATE_PIPE | UV_READABLE_PIPE | UV_WRITABLE_PIPE);
	stdio[CHILD_WIRE_FD].data.stream = (uv_stream_t *)&c->wire;
	po.file = c->o.argv[0];
	po.args = c->o.argv;
	po.env = env;
	po.stdio = stdio;
	po.stdio_count = 4;
	po.flags = UV_PROCESS_DETACHED;
	po.exit_cb = on_exit_status;
	r = uv_spawn(loop, &c->process, &po);
	free(env);
	return r;
}

int child_start(struct child **out, uv_loop_t *loop, const struct child_options *o, struct err *e)
{
	struct child *c = calloc(1, sizeof(*c));
	const char *log = getenv("ASSAY_WIRE_LOG");
	int r;

	if (!c || !(c->read_buf = malloc(READ_BYTES))) {
		free(c);
		return err_set(e, EXIT_INTERNAL, "no memory for a worker");
	}
	c->o = *o;
	c->log_fd = log && *log ? open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
	uv_pipe_init(loop, &c->wire, 0);
	for (int i = 0; i < N_OUTPUTS; i++) {
		uv_pipe_init(loop, &c->output[i], 0);
		c->output[i].data = c;
	}
	uv_timer_init(loop, &c->deadline);
	uv_timer_init(loop, &c->ladder);
	c->wire.data = c->deadline.data = c->ladder.data = c->process.data = c;
	c->n_open = 4 + N_OUTPUTS;
	r = spawn(c, loop);
	c->process.data = c;
	memset(c->o.argv, 0, sizeof(c->o.argv));
	*out = c;
	if (r < 0) {
		c->exited = true;
		c->end.fate = CHILD_NOT_STARTED;
		c->end.status = -r;
		close_all(c);
		return 0;
	}
	c->started = true;
	uv_read_start((uv_stream_t *)&c->wire, on_alloc, on_wire);
	for (int i = 0; i < N_OUTPUTS; i++)
		uv_read_start((uv_stream_t *)&c->output[i], on_alloc, on_output);
	return 0;
}

static void on_written(uv_write_t *req, int status)
{
	struct write *w = (struct write *)req;

	(void)status;	/* a broken pipe is told by the exit */
	free(w->bytes);
	free(w);
}

void child_send(struct child *c, const struct wire_builder *b)
{
	struct write *w;
	uv_buf_t buf;

	if (c->closing || c->stage > SAID_BYE || !c->started)
		return;
	w = calloc(1, sizeof(*w));
	assert(w);
	w->bytes = malloc(b->n);
	assert(w->bytes);
	memcpy(w->bytes, b->buf, b->n);
	buf = uv_buf_init(w->bytes, (unsigned)b->n);
	log_frame(c, '>', b->buf[6], b->n - WIRE_HEAD_BYTES - b->header_bytes);
	if (uv_write(&w->req, (uv_stream_t *)&c->wire, &buf, 1, on_written) < 0)
		on_written(&w->req, 0);
}

void child_deadline(struct child *c, int ms)
{
	if (c->closing)
		return;
	c->end.deadline_ms = ms > 0 ? ms : c->end.deadline_ms;
	if (ms > 0)
		uv_timer_start(&c->deadline, on_deadline, (uint64_t)ms, 0);
	else
		uv_timer_stop(&c->deadline);
}

void child_pause(struct child *c)
{
	if (c->paused || c->closing || c->exited)
		return;
	c->paused = true;
	uv_read_stop((uv_stream_t *)&c->wire);
}

void child_resume(struct child *c)
{
	if (!c->paused || c->closing)
		return;
	c->paused = false;
	deliver(c);
	if (!c->paused && !c->closing && !c->wire_eof)
		uv_read_start((uv_stream_t *)&c->wire, on_alloc, on_wire);
}

bool child_paused(const struct child *c)
{
	return c->paused;
}

void child_bye(struct child *c)
{
	struct wire_builder b = {0};
	struct err e = ERR_NONE;

	if (c->closing || c->stage != RUNNING)
		return;
	c->end.asked = true;
	wire_begin(&b, WIRE_BYE);
	if (wire_finish(&b, &e) == 0)
		child_send(c, &b);
	wire_builder_free(&b);
	c->muted = true;
	child_resume(c);
	climb(c, SAID_BYE);
}

void child_kill(struct child *c)
{
	if (c->closing || c->stage >= SENT_TERM)
		return;
	c->end.asked = true;
	c->muted = true;
	child_resume(c);
	climb(c, SENT_TERM);
}

int child_pid(const struct child *c)
{
	return c->started ? c->process.pid : 0;
}

static int64_t peak_of(const char *pid)
{
	char path[64], line[256];
	long long kib = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.20s/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmHWM: %lld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib < 0 ? -1 : (int64_t)kib * 1024;
}

/* The group of a process; its name, in parentheses, may hold anything. */
static int group_of(const char *pid)
{
	char path[64], line[512];
	int group = -1;
	const char *end;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	f = fopen(path, "re");
	if (f && fgets(line, sizeof(line), f) && (end = strrchr(line, ')')) &&
	    sscanf(end + 1, " %*c %*d %d", &group) != 1)
		group = -1;
	if (f)
		fclose(f);
	return group;
}

int64_t child_peak_rss(const struct child *c)
{
	char pid[24];
	const struct dirent *entry;
	int64_t sum = 0, one;
	DIR *all;

	if (!c->started || c->exited)
		return -1;
	snprintf(pid, sizeof(pid), "%d", child_pid(c));
	if (!c->o.is_shell || !(all = opendir("/proc")))
		return peak_of(pid);
	while ((entry = readdir(all)))
		if (isdigit((unsigned char)entry->d_name[0]) &&
		    group_of(entry->d_name) == child_pid(c)) {
			one = peak_of(entry->d_name);
			sum += one > 0 ? one : 0;
		}
	closedir(all);
	return sum > 0 ? sum : -1;
}

/* Where a line says why a program ends itself, its end: a backtrace may follow. Else the tail's. */
static size_t last_words_end(const char *tail)
{
	static const char *const why[] = {"GGML_ASSERT(", "what():", "Assertion `"};

	for (size_t i = 0; i < sizeof(why) / sizeof(*why); i++) {
		const char *at = strstr(tail, why[i]);

		if (at)
			return (size_t)(at - tail) + strcspn(at, "\n");
	}
	return strlen(tail);
}

static const char *last_line(const char *tail, char *out, size_t size)
{
	size_t end = last_words_end(tail), start;

	while (end > 0 && (tail[end - 1] == '\n' || tail[end - 1] == ' '))
		end--;
	for (start = end; start > 0 && tail[start - 1] != '\n';)
		start--;
	snprintf(out, size, "%.*s", (int)(end - start > 300 ? 300 : end - start), tail + start);
	return out;
}

void child_explain(const struct child_end *end, char *out, size_t size)
{
	char line[320], what[ERR_MSG_MAX];

	if (end->fate == CHILD_NOT_STARTED)
		snprintf(what, sizeof(what), "could not be started: %s", strerror(end->status));
	else if (end->timed_out)
		snprintf(what, sizeof(what), "passed its deadline of %g s and was killed",
			 end->deadline_ms / 1e3);
	else if (end->broken.code)
		snprintf(what, sizeof(what), "broke the protocol (%.1500s)", end->broken.msg);
	else if (end->hung_up && end->fate == CHILD_SIGNALLED &&
		 (end->status == SIGTERM || end->status == SIGKILL))
		snprintf(what, sizeof(what), "closed the wire (ASSAY_WIRE_FD) in the middle of its work, "
			 "did not exit and was killed");
	else if (end->fate == CHILD_SIGNALLED)
		snprintf(what, sizeof(what), "was killed by signal %d (%s)", end->status,
			 strsignal(end->status));
	else
		snprintf(what, sizeof(what), "exited with status %d in the middle of its work",
			 end->status);
	if (end->tail && *last_line(end->tail, line, sizeof(line)))
		snprintf(out, size, "%s; its last words: %s", what, line);
	else
		snprintf(out, size, "%s", what);
}

void child_free(struct child *c)
{
	if (!c)
		return;
	assert(c->n_open == 0);
	wire_decoder_free(&c->decoder);
	if (c->log_fd >= 0)
		close(c->log_fd);
	free(c->read_buf);
	free(c);
}
