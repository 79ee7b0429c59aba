#include "cli/cli.h"
#include "cli/hidden.h"

#include <fcntl.h>
#include <unistd.h>

/* Who starts us may have closed some of 0, 1, 2: a file or a pipe must not become one of them.
 * Opened the wrong way round, so that reading and writing fail as on a closed one. */
static void fill_descriptors(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
			_exit(EXIT_INTERNAL);
}

int main(int argc, char **argv)
{
	int hidden;

	fill_descriptors();
	hidden = hidden_main(argc, argv);

	return hidden >= 0 ? hidden : cli_main(argc, argv);
}
