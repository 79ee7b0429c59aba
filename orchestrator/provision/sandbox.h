/*
 * What a child of ours gives up before it touches what strangers wrote: new privileges, programs
 * (no exec), tracing, core files; writing anywhere but one folder and reading outside the system's
 * own folders (Landlock, where the kernel has it); and sizes. What could not be applied is named.
 */
#ifndef ASSAY_SANDBOX_H
#define ASSAY_SANDBOX_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SANDBOX_READ_MAX = 16 };

struct sandbox {
	const char *write_dir;			/* the one folder that may be written */
	const char *read[SANDBOX_READ_MAX];	/* besides /usr /lib /etc /proc /dev */
	int n_read;
	uint64_t file_bytes_max;		/* of one file; 0 = unlimited */
	bool allow_exec;			/* for running command-line git */
};

/*
 * Applies everything, for this process and its children, for ever. layers: what holds now, as text
 * ("rlimits no-new-privs landlock-3 seccomp"). EXIT_INTERNAL only when a layer that exists here
 * refused: a kernel without a layer is not an error.
 */
int sandbox_enter(const struct sandbox *s, char *layers, size_t size, struct err *e);

/* The layers this kernel offers, without applying them. */
void sandbox_layers(char *out, size_t size);

/* Dies with the parent; EXIT_INTERRUPTED when it is already gone. */
int sandbox_die_with_parent(struct err *e);

#endif
