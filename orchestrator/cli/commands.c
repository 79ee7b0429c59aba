#include "cli.h"

#include <stddef.h>

extern const struct command cmd_completion;
extern const struct command cmd_receipt;

const struct command *const commands[] = {
	&cmd_completion,
	&cmd_receipt,
	NULL,
};
