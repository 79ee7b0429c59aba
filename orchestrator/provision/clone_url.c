#include "clone.h"

#include "paths.h"

#include <errno.h>
#include <git2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool on_loopback(const char *host)
{
	static const char *const names[] = {"127.0.0.1", "localhost", "[::1]"};

	for (int i = 0; i < 3; i++) {
		size_t n = strlen(names[i]);

		if (strncmp(host, names[i], n) == 0 && (host[n] == ':' || host[n] == '/'))
			return true;
	}
	return false;
}

int clone_url_check(const char *url, struct err *e)
{
	for (const char *p = url; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 127)
			return err_set(e, EXIT_USAGE,
				       "the repository URL holds a control character");
	if (strncmp(url, "https://", 8) == 0 && url[8] && url[8] != '-' && url[8] != '/')
		return 0;
	if (strncmp(url, "http://", 7) == 0 && on_loopback(url + 7))
		return 0;
	if (url[0] == '/' || strncmp(url, "file:///", 8) == 0)
		return 0;
	return err_set(e, EXIT_USAGE,
		       "repository %s: only https:// URLs and absolute local paths are cloned",
		       url);
}

static bool below(const char *dir, const char *name, struct stat *st)
{
	char path[PATH_MAX];

	return snprintf(path, sizeof(path), "%s/%s", dir, name) < (int)sizeof(path) &&
	       stat(path, st) == 0;
}

int clone_url_there(const char *url, struct err *e)
{
	const char *path = strncmp(url, "file://", 7) == 0 ? url + 7 : url;
	struct stat st, git;

	if (path[0] != '/' || (path != url && strchr(path, '%')))
		return 0;
	if (stat(path, &st) != 0)
		return err_set(e, EXIT_NO_REFERENCE,
			       "the repository %s cannot be reached: %s; expected a git repository of the "
			       "reference, bare or not (git clone --bare URL DIR makes one where there is "
			       "a network)",
			       url, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(e, EXIT_NO_REFERENCE,
			       "%s is a file, expected the folder of a git repository: of a bundle make "
			       "one with git clone --bare FILE DIR, a tarball is taken by --archive",
			       url);
	if (access(path, R_OK | X_OK) != 0)
		return err_set(e, EXIT_NO_REFERENCE,
			       "the repository %s cannot be read: %s; it belongs to user %ld, this is "
			       "user %ld",
			       url, strerror(errno), (long)st.st_uid, (long)geteuid());
	if (below(path, ".git", &git) && !S_ISDIR(git.st_mode))
		return err_set(e, EXIT_NO_REFERENCE,
			       "%s is a worktree or a submodule: its repository lies elsewhere (the file "
			       ".git names it); name that one",
			       url);
	if (!below(path, ".git", &git) && (!below(path, "HEAD", &git) || !below(path, "objects", &git)))
		return err_set(e, EXIT_NO_REFERENCE,
			       "%s is no git repository: expected HEAD and objects, or .git, in it",
			       url);
	return 0;
}

struct best {
	const char *url;
	size_t matched;
	char base[PATH_MAX];
};

static int on_rule(const git_config_entry *entry, void *payload)
{
	struct best *b = payload;
	size_t n, name = strlen(entry->name);
	static const size_t head = sizeof("url.") - 1, tail = sizeof(".insteadof") - 1;

	if (!entry->value || name <= head + tail || strncmp(entry->name, "url.", head) != 0 ||
	    strcmp(entry->name + name - tail, ".insteadof") != 0)
		return 0;
	n = strlen(entry->value);
	if (n <= b->matched || strncmp(b->url, entry->value, n) != 0)
		return 0;
	b->matched = n;
	snprintf(b->base, sizeof(b->base), "%.*s", (int)(name - head - tail), entry->name + head);
	return 0;
}

int clone_url_resolve(const char *url, char *out, size_t size, struct err *e)
{
	struct best b = {.url = url};
	git_config *config = NULL;
	struct err ignored;
	char real[PATH_MAX];
	int r;

	git_libgit2_init();
	if (git_config_open_default(&config) == 0)
		git_config_foreach(config, on_rule, &b);	/* its regular expressions leak */
	git_config_free(config);
	git_libgit2_shutdown();
	if (b.matched)
		r = paths_format(out, size, e, "%s%s", b.base, url + b.matched);
	else if (clone_url_check(url, &ignored) < 0 && !strstr(url, "://") && realpath(url, real))
		r = paths_format(out, size, e, "%s", real);	/* a relative path that exists */
	else
		r = paths_format(out, size, e, "%s", url);
	return r < 0 ? r : clone_url_check(out, e);
}
