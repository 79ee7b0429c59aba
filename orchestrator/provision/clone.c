#include "clone.h"

#include "paths.h"
#include "process.h"
#include "references_lock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST_BYTES = 32 << 10, IDLE_LIMIT_MS = 3600 * 1000 };

struct run {
	struct clone_request *q;
	struct clone_result *out;
	struct clone_progress progress;
	struct err failed;
	bool done;
	struct err link_err;
};

static void on_link(struct run *r, const char *commit, const char *path)
{
	struct clone_link *l = &r->out->links[r->out->n_links];

	if (r->out->n_links == CLONE_LINKS_MAX || !references_lock_path_ok(path) ||
	    strlen(path) >= sizeof(l->path) || strlen(commit) != 40 ||
	    !references_lock_commit_ok(commit)) {
		err_set(&r->link_err, EXIT_HASH_MISMATCH, "%s: submodule \"%s\" %s", r->q->what,
			path,
			r->out->n_links == CLONE_LINKS_MAX ? "is one too many"
							   : "has a path that leaves the tree");
		return;
	}
	memcpy(l->path, path, strlen(path) + 1);
	memcpy(l->commit, commit, 41);
	r->out->n_links++;
}

static void on_range(struct run *r, int i, const char *answer)
{
	if (i >= 0 && i < r->q->n_ranges)
		r->q->ranges[i].answer = strcmp(answer, "yes") == 0  ? CLONE_YES
					 : strcmp(answer, "no") == 0 ? CLONE_NO
								     : CLONE_UNKNOWN;
}

static void on_line(void *ctx, const char *line, bool from_stderr)
{
	struct run *r = ctx;
	struct clone_progress *p = &r->progress;
	char word[64], path[1024];
	unsigned long long v[6];
	int at = 0;

	if (from_stderr) {
		if (r->q->note)
			r->q->note(r->q->ctx, line);
	} else if (sscanf(line, "objects %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3],
			  &v[4], &v[5]) == 6) {
		p->objects = v[0];
		p->objects_total = v[1];
		p->indexed = v[2];
		p->bytes = r->out->bytes = v[3];
		p->deltas = v[4];
		p->deltas_total = v[5];
		r->out->objects = v[0];
		if (r->q->progress)
			r->q->progress(r->q->ctx, p);
	} else if (sscanf(line, "files %llu %llu", &v[0], &v[1]) == 2) {
		p->files = v[0];
		p->files_total = v[1];
		if (r->q->progress)
			r->q->progress(r->q->ctx, p);
	} else if (sscanf(line, "link %63s %1023[^\n]", word, path) == 2) {
		on_link(r, word, path);
	} else if (sscanf(line, "range %d %63s", &at, word) == 2) {
		on_range(r, at, word);
	} else if (strncmp(line, "layers ", 7) == 0) {
		snprintf(r->out->layers, sizeof(r->out->layers), "%s", line + 7);
	} else if (sscanf(line, "done %40s %40s", r->out->commit, r->out->tree) == 2) {
		r->done = true;
	} else if (sscanf(line, "fail %d %n", &at, &(int){0}) == 1) {
		const char *text = strchr(line + 5, ' ');

		r->failed.code = at;
		snprintf(r->failed.msg, sizeof(r->failed.msg), "%s", text ? text + 1 : "");
	}
}

static int put(char *text, size_t *n, struct err *e, const char *key, const char *value)
{
	int w;

	if (!value)
		value = "";
	if (strchr(value, '\n'))
		return err_set(e, EXIT_USAGE, "%s holds a newline", key);
	w = snprintf(text + *n, REQUEST_BYTES - *n, "%s=%s\n", key, value);
	if (w < 0 || (size_t)w >= REQUEST_BYTES - *n)
		return err_set(e, EXIT_USAGE, "the clone request is too long");
	*n += (size_t)w;
	return 0;
}

static int write_request(const struct clone_request *q, const char *url, char *text, struct err *e)
{
	char depth[16];
	size_t n = 0;
	int r;

	snprintf(depth, sizeof(depth), "%d", q->depth);
	if ((r = put(text, &n, e, "depth", depth)) < 0 || (r = put(text, &n, e, "url", url)) < 0 ||
	    (r = put(text, &n, e, "ref", q->ref)) < 0 ||
	    (r = put(text, &n, e, "commit", q->commit)) < 0 ||
	    (r = put(text, &n, e, "tree", q->tree)) < 0 ||
	    (r = put(text, &n, e, "work", q->work)) < 0 ||
	    (r = put(text, &n, e, "dest", q->dest)) < 0 ||
	    (r = put(text, &n, e, "any_commit", q->any_commit ? "1" : "0")) < 0 ||
	    (r = put(text, &n, e, "fetched", q->with_git ? "1" : "0")) < 0)
		return r;
	for (int i = 0; i < q->n_ranges; i++)
		if ((r = put(text, &n, e, "from", q->ranges[i].from)) < 0 ||
		    (r = put(text, &n, e, "until", q->ranges[i].until)) < 0)
			return r;
	return 0;
}

/* What a child of ours gets to see of the environment. */
static void child_env(const char **env, char (*buf)[1024])
{
	static const char *const names[] = {"https_proxy", "HTTPS_PROXY", "http_proxy", "no_proxy",
					    "SSL_CERT_FILE", "SSL_CERT_DIR", "PATH"};
	int n = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *v = getenv(names[i]);

		if (v && snprintf(buf[n], 1024, "%s=%s", names[i], v) < 1024) {
			env[n] = buf[n];
			n++;
		}
	}
	env[n++] = "HOME=/nonexistent";
	env[n++] = "GIT_CONFIG_NOSYSTEM=1";
	env[n++] = "GIT_CONFIG_GLOBAL=/dev/null";
	env[n++] = "GIT_TERMINAL_PROMPT=0";
	/* for git in the source repository, whose own configuration may name programs */
	env[n++] = "GIT_NO_LAZY_FETCH=1";
	env[n++] = "GIT_ALLOW_PROTOCOL=file:https:http";
	env[n++] = "LC_ALL=C";
	env[n] = NULL;
}

/* verb: of git, for people; args: what follows "git", NULL at the end. */
static int git_step(const struct run *r, const char *verb, const char *const *args,
		    const char *const *env, struct err *e)
{
	char self[PATH_MAX], folder[PATH_MAX];
	const char *argv[32] = {self, "__git", r->out->url, folder, "git"};
	struct process_options o = {.argv = argv, .env = env, .deadline_ms = IDLE_LIMIT_MS,
				    .keep_fd = r->q->keep_fd, .cwd = folder, .line = on_line,
				    .ctx = (void *)r};
	struct process_result done;
	struct stat st;
	int status = process_self(self, sizeof(self), e);

	for (int n = 5; *args; args++)
		argv[n++] = *args;
	if (status == 0)
		status = paths_format(folder, sizeof(folder), e, "%.*s",
				      (int)(strrchr(r->q->work, '/') - r->q->work), r->q->work);
	if (status == 0)
		status = process_run(&o, &done, e);
	if (status < 0)
		return status;
	if (done.status != 0 && stat(r->out->url, &st) == 0 && st.st_uid != geteuid())
		return err_set(e, EXIT_REFERENCE_BUILD,
			       "git %s ended with status %d: %s belongs to user %ld, and git runs only in "
			       "repositories of one's own (this is user %ld; no safe.directory of yours is "
			       "read here). Without --git cli it is only read, and that works",
			       verb, done.status, r->out->url, (long)st.st_uid, (long)geteuid());
	if (done.status != 0)
		return err_set(e, r->out->url[0] == '/' ? EXIT_REFERENCE_BUILD : EXIT_NETWORK,
			       "git %s of %s ended with status %d", verb, r->q->what, done.status);
	return 0;
}

/* Command-line git in the same sandbox, one commit deep, nothing of the user's and no hook. */
static int fetch_with_git(struct run *r, const char *url, const char *const *env, struct err *e)
{
	const char *want = r->q->ref && !r->q->any_commit ? r->q->ref : r->q->commit;
	char dir[PATH_MAX + 16], spec[700];
	const char *init[] = {"init", "-q", "--bare", "--template=", r->q->work, NULL};
	const char *fetch[] = {dir, "-c", "core.hooksPath=/dev/null", "-c",
			       "protocol.allow=never", "-c", "protocol.https.allow=always", "-c",
			       "protocol.http.allow=always", "-c", "protocol.file.allow=always",
			       "fetch", "-q", "--depth=1", "--no-tags", "--no-recurse-submodules",
			       url, spec, NULL};
	int status = git_step(r, "init", init, env, e);

	if (status < 0)
		return status;
	snprintf(dir, sizeof(dir), "--git-dir=%s", r->q->work);
	snprintf(spec, sizeof(spec), "+%s:refs/heads/wanted", *want ? want : "HEAD");
	return git_step(r, "fetch", fetch, env, e);
}

static int try_once(struct run *r, struct err *e)
{
	char text[REQUEST_BYTES], self[PATH_MAX], env_text[8][1024];
	const char *argv[] = {self, "__clone", NULL}, *env[16];
	struct process_options o = {.argv = argv, .env = env, .input = text,
				    .deadline_ms = IDLE_LIMIT_MS, .keep_fd = r->q->keep_fd,
				    .line = on_line, .ctx = r};
	struct process_result done;
	int status;

	r->done = false;
	r->failed = r->link_err = ERR_NONE;
	r->out->n_links = 0;
	r->progress = (struct clone_progress){.what = r->q->what};
	child_env(env, env_text);
	if ((status = process_self(self, sizeof(self), e)) < 0 ||
	    (status = write_request(r->q, r->out->url, text, e)) < 0 ||
	    (status = paths_remove(r->q->work, e)) < 0 ||
	    (status = paths_remove(r->q->dest, e)) < 0)
		return status;
	if (r->q->with_git && (status = fetch_with_git(r, r->out->url, env, e)) < 0)
		return status;
	status = process_run(&o, &done, e);
	if (status < 0)
		return status;
	if (r->failed.code)
		return err_set(e, (enum exit_code)r->failed.code, "%s", r->failed.msg);
	if (r->link_err.code)
		return err_set(e, EXIT_HASH_MISMATCH, "%s", r->link_err.msg);
	if (!r->done || done.status != 0)
		return err_set(e, EXIT_NETWORK, "cloning %s: the child ended with %s %d",
			       r->q->what, done.signal ? "signal" : "status",
			       done.signal ? done.signal : done.status);
	return 0;
}

int clone_run(struct clone_request *q, struct clone_result *out, struct err *e)
{
	struct run r = {.q = q, .out = out};
	struct timespec a, b;
	int status;

	memset(out, 0, sizeof(*out));
	status = clone_url_resolve(q->url, out->url, sizeof(out->url), e);
	if (status == 0)
		status = clone_url_there(out->url, e);
	if (status < 0)
		return err_prefix(e, "%s", q->what);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (out->tries = 1;; out->tries++) {
		status = try_once(&r, e);
		if (status != -EXIT_NETWORK || out->tries == CLONE_TRIES)
			break;
		if (q->note)
			q->note(q->ctx, e->msg);
		sleep((unsigned)out->tries);
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	out->ms = (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000;
	return status < 0 ? err_prefix(e, "%s", q->what) : 0;
}
