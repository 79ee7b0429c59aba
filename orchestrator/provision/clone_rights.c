#include "clone.h"
#include "sandbox.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int clone_give_up_rights(const char *url, const char *write_dir, bool runs_git, char *layers,
			 size_t size, struct err *e)
{
	struct sandbox s = {.write_dir = write_dir, .file_bytes_max = CLONE_BYTES_MAX,
			    .allow_exec = runs_git};
	const char *certs[] = {getenv("SSL_CERT_FILE"), getenv("SSL_CERT_DIR")};
	int r = sandbox_die_with_parent(e);

	if (r < 0)
		return r;
	if (url[0] == '/')
		s.read[s.n_read++] = url;
	else if (strncmp(url, "file://", 7) == 0)
		s.read[s.n_read++] = url + 7;
	for (int i = 0; i < 2; i++)
		if (certs[i])
			s.read[s.n_read++] = certs[i];
	return sandbox_enter(&s, layers, size, e);
}

int clone_git_main(char **argv)
{
	struct err e = ERR_NONE;
	char layers[128];

	if (clone_give_up_rights(argv[0], argv[1], true, layers, sizeof(layers), &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return e.code;
	}
	execvp(argv[2], argv + 2);
	fprintf(stderr, "%s: %s\n", argv[2], strerror(errno));
	return 127;
}
