#include "cli.h"

#include <stddef.h>

extern const struct command cmd_completion;

const struct command *const commands[] = {
	&cmd_completion,
	NULL,
};
