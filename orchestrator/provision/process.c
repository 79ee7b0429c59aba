#include "process.h"

#include "paths.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

enum { LINE_BYTES_MAX = 8192, ARGS_MAX = 256, KILL_AFTER_MS = 3000, DRAIN_MS = 2000 };

struct lines {
	char buf[LINE_BYTES_MAX];
	size_t n;
	bool from_stderr;
};

struct run {
	const struct process_options *o;
	struct process_result *out;
	uv_loop_t loop;
	uv_process_t process;
	uv_pipe_t in, pipes[2];
	uv_timer_t deadline, kill_timer;
	uv_signal_t sigint, sigterm;
	uv_write_t write;
	struct lines lines[2];
	char chunk[16384];
	int open_ends;		/* exit and the two pipes */
	bool interrupted, ended;
	uint64_t start_ms;
};

static void emit(struct run *r, struct lines *l)
{
	l->buf[l->n] = '\0';
	if (l->n && l->buf[l->n - 1] == '\r')
		l->buf[l->n - 1] = '\0';
	if (r->o->line)
		r->o->line(r->o->ctx, l->buf, l->from_stderr);
	l->n = 0;
}

static void feed(struct run *r, struct lines *l, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\n') {
			emit(r, l);
			continue;
		}
		l->buf[l->n++] = p[i] ? p[i] : ' ';
		if (l->n == LINE_BYTES_MAX - 1)
			emit(r, l);
	}
}

static void write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w <= 0 && errno != EINTR)
			return;	/* a full disk shows where it matters; the run goes on */
		if (w > 0) {
			p += w;
			n -= (size_t)w;
		}
	}
}

static void close_if_open(uv_handle_t *h)
{
	if (!uv_is_closing(h))
		uv_close(h, NULL);
}

static void end_of_one(struct run *r)
{
	if (--r->open_ends > 0)
		return;
	r->ended = true;
	close_if_open((uv_handle_t *)&r->deadline);
	close_if_open((uv_handle_t *)&r->kill_timer);
	close_if_open((uv_handle_t *)&r->sigint);
	close_if_open((uv_handle_t *)&r->sigterm);
	close_if_open((uv_handle_t *)&r->in);
}

static void on_alloc(uv_handle_t *h, size_t want, uv_buf_t *buf)
{
	struct run *r = h->data;

	(void)want;
	*buf = uv_buf_init(r->chunk, sizeof(r->chunk));
}

static void close_pipe(struct run *r, int i)
{
	if (uv_is_closing((uv_handle_t *)&r->pipes[i]))
		return;
	if (r->lines[i].n)
		emit(r, &r->lines[i]);
	uv_close((uv_handle_t *)&r->pipes[i], NULL);
	end_of_one(r);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct run *r = s->data;
	int i = s == (uv_stream_t *)&r->pipes[1];

	if (n > 0) {
		if (r->o->log_fd > 0)
			write_all(r->o->log_fd, buf->base, (size_t)n);
		feed(r, &r->lines[i], buf->base, (size_t)n);
	} else if (n < 0) {
		close_pipe(r, i);
	}
}

static void kill_group(struct run *r, int signum)
{
	if (r->process.pid > 0 && kill(-r->process.pid, signum) != 0)
		kill(r->process.pid, signum);
}

static void on_kill(uv_timer_t *t)
{
	struct run *r = t->data;

	kill_group(r, SIGKILL);
	if (r->open_ends < 3) {	/* it is dead and something else holds its pipes */
		close_pipe(r, 0);
		close_pipe(r, 1);
	}
}

static void end_group(struct run *r)
{
	kill_group(r, SIGTERM);
	if (!uv_is_closing((uv_handle_t *)&r->kill_timer))
		uv_timer_start(&r->kill_timer, on_kill, KILL_AFTER_MS, KILL_AFTER_MS);
}

static void on_deadline(uv_timer_t *t)
{
	struct run *r = t->data;

	r->out->timed_out = true;
	end_group(r);
}

static void on_signal(uv_signal_t *s, int signum)
{
	struct run *r = s->data;

	(void)signum;
	r->interrupted = true;
	end_group(r);
}

static void on_exit_process(uv_process_t *p, int64_t status, int signum)
{
	struct run *r = p->data;

	r->out->status = signum ? -1 : (int)status;
	r->out->signal = signum;
	uv_close((uv_handle_t *)p, NULL);
	/* whoever is left of the group goes too; a pipe they held is not waited for long */
	kill(-p->pid, r->interrupted || r->out->timed_out ? SIGKILL : SIGTERM);
	if (!uv_is_closing((uv_handle_t *)&r->kill_timer))
		uv_timer_start(&r->kill_timer, on_kill, DRAIN_MS, DRAIN_MS);
	end_of_one(r);
}

static void on_written(uv_write_t *w, int status)
{
	struct run *r = w->data;

	(void)status;
	close_if_open((uv_handle_t *)&r->in);
}

static void init_handles(struct run *r)
{
	uv_loop_init(&r->loop);
	uv_pipe_init(&r->loop, &r->in, 0);
	for (int i = 0; i < 2; i++) {
		uv_pipe_init(&r->loop, &r->pipes[i], 0);
		r->pipes[i].data = r;
		r->lines[i].from_stderr = i == 1;
	}
	uv_timer_init(&r->loop, &r->deadline);
	uv_timer_init(&r->loop, &r->kill_timer);
	uv_signal_init(&r->loop, &r->sigint);
	uv_signal_init(&r->loop, &r->sigterm);
	r->in.data = r->deadline.data = r->kill_timer.data = r;
	r->sigint.data = r->sigterm.data = r->process.data = r->write.data = r;
	uv_unref((uv_handle_t *)&r->sigint);
	uv_unref((uv_handle_t *)&r->sigterm);
}

static int spawn(struct run *r, struct err *e)
{
	const struct process_options *o = r->o;
	const char *args[ARGS_MAX + 3];
	uv_stdio_container_t io[4] = {{0}};
	uv_process_options_t p = {0};
	char self[4096];
	int n = 0, status;

	if (o->die_with_us) {
		status = process_self(self, sizeof(self), e);
		if (status < 0)
			return status;
		args[n++] = self;
		args[n++] = "__exec";
	}
	for (int i = 0; o->argv[i]; i++) {
		assert(n < ARGS_MAX);
		args[n++] = o->argv[i];
	}
	args[n] = NULL;
	io[0].flags = o->input ? UV_CREATE_PIPE | UV_READABLE_PIPE : UV_IGNORE;
	io[0].data.stream = (uv_stream_t *)&r->in;
	for (int i = 0; i < 2; i++) {
		io[i + 1].flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE;
		io[i + 1].data.stream = (uv_stream_t *)&r->pipes[i];
	}
	io[3].flags = UV_INHERIT_FD;
	io[3].data.fd = o->keep_fd;
	p.exit_cb = on_exit_process;
	p.file = args[0];
	p.args = (char **)args;
	p.env = (char **)o->env;
	p.cwd = o->cwd;
	p.flags = UV_PROCESS_DETACHED;
	p.stdio_count = o->keep_fd > 0 ? 4 : 3;
	p.stdio = io;
	status = uv_spawn(&r->loop, &r->process, &p);
	if (status == UV_ENOENT && o->cwd && access(o->cwd, X_OK) != 0)
		return err_set(e, EXIT_INTERNAL, "starting %s: its working folder %s is gone",
			       o->argv[0], o->cwd);
	if (status != 0)
		return err_set(e, EXIT_INTERNAL, "starting %s: %s", o->argv[0],
			       uv_strerror(status));
	return 0;
}

static void start_io(struct run *r)
{
	for (int i = 0; i < 2; i++)
		uv_read_start((uv_stream_t *)&r->pipes[i], on_alloc, on_read);
	uv_signal_start(&r->sigint, on_signal, SIGINT);
	uv_signal_start(&r->sigterm, on_signal, SIGTERM);
	if (r->o->deadline_ms > 0)
		uv_timer_start(&r->deadline, on_deadline, (uint64_t)r->o->deadline_ms, 0);
	if (r->o->input) {
		uv_buf_t b = uv_buf_init((char *)r->o->input, (unsigned)strlen(r->o->input));

		if (uv_write(&r->write, (uv_stream_t *)&r->in, &b, 1, on_written) != 0)
			close_if_open((uv_handle_t *)&r->in);
	}
}

int process_run(const struct process_options *o, struct process_result *out, struct err *e)
{
	struct run *r = calloc(1, sizeof(*r));
	int status;

	assert(r);
	*out = (struct process_result){0};
	r->o = o;
	r->out = out;
	init_handles(r);
	r->start_ms = uv_now(&r->loop);
	r->open_ends = 3;
	status = spawn(r, e);
	if (status < 0) {
		r->open_ends = 1;
		for (int i = 0; i < 2; i++)
			close_if_open((uv_handle_t *)&r->pipes[i]);
		close_if_open((uv_handle_t *)&r->process);
		end_of_one(r);
	} else {
		start_io(r);
	}
	uv_run(&r->loop, UV_RUN_DEFAULT);
	out->run_ms = (long)(uv_now(&r->loop) - r->start_ms);
	if (status == 0 && r->interrupted)
		status = err_set(e, EXIT_INTERRUPTED, "interrupted while %s ran", o->argv[0]);
	status = uv_loop_close(&r->loop) == 0 ? status
					      : err_set(e, EXIT_INTERNAL, "a handle stayed open");
	free(r);
	return status;
}

struct capture {
	char *text;
	size_t n;
};

static void on_capture(void *ctx, const char *line, bool from_stderr)
{
	struct capture *c = ctx;
	size_t n = strlen(line);
	char *grown;

	(void)from_stderr;
	if (c->n + n > 4 << 20)
		return;
	grown = realloc(c->text, c->n + n + 2);
	assert(grown);
	c->text = grown;
	memcpy(c->text + c->n, line, n);
	c->n += n;
	c->text[c->n++] = '\n';
	c->text[c->n] = '\0';
}

int process_capture(const char *const *argv, char **text, struct process_result *out, struct err *e)
{
	struct capture c = {0};
	struct process_options o = {
		.argv = argv, .deadline_ms = 60000, .line = on_capture, .ctx = &c};
	int r = process_run(&o, out, e);

	if (r < 0) {
		free(c.text);
		return r;
	}
	*text = c.text ? c.text : strdup("");
	return 0;
}

bool process_which(const char *name, char *out, size_t size)
{
	const char *path = getenv("PATH");
	struct stat st;

	if (strchr(name, '/'))
		return access(name, X_OK) == 0 && snprintf(out, size, "%s", name) < (int)size;
	for (const char *p = path ? path : "/usr/local/bin:/usr/bin:/bin";;) {
		size_t n = strcspn(p, ":");

		if (n > 0 && snprintf(out, size, "%.*s/%s", (int)n, p, name) < (int)size &&
		    access(out, X_OK) == 0 && stat(out, &st) == 0 && S_ISREG(st.st_mode))
			return true;
		if (!p[n])
			return false;
		p += n + 1;
	}
}

int process_self(char *out, size_t size, struct err *e)
{
	ssize_t n = readlink("/proc/self/exe", out, size - 1);

	if (n <= 0 || (size_t)n >= size - 1)
		return paths_errno(e, "finding", "this program");
	out[n] = '\0';
	return 0;
}
