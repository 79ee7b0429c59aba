#include "cli.h"

#include <stddef.h>

const struct command *const commands[] = {
	NULL,
};
