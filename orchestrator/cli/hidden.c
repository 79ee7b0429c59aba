#include "hidden.h"

#include "provision/clone.h"
#include "provision/sandbox.h"
#include "sweep/recorded.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int become(char **argv)
{
	struct err e = ERR_NONE;

	if (sandbox_die_with_parent(&e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return e.code;
	}
	execvp(argv[0], argv);
	fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
	return 127;
}

int hidden_main(int argc, char **argv)
{
	signal(SIGXFSZ, SIG_IGN);
	/* without what sanitizers do at exit: they trace, which the sandbox refuses */
	if (argc > 1 && strcmp(argv[1], "__clone") == 0)
		_exit(clone_child_main());
	if (argc > 4 && strcmp(argv[1], "__git") == 0)
		return clone_git_main(argv + 2);
	if (argc > 2 && strcmp(argv[1], "__exec") == 0)
		return become(argv + 2);
	if (argc > 2 && strcmp(argv[1], "__recorded") == 0)
		return recorded_main(argv[2]);
	return -1;
}
