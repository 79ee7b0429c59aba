/*
 * Which compilers, CMake and builder there are. Every candidate is tried by compiling and running
 * a small program, and what was tried is told: "clang" alone in a build script is what breaks on
 * machines that only have clang-18.
 */
#ifndef ASSAY_TOOLCHAIN_H
#define ASSAY_TOOLCHAIN_H

#include "err.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

struct toolchain {
	char cc[PATH_MAX], cxx[PATH_MAX];	/* absolute */
	char family[16];		/* "clang" or "gcc" */
	char version[256];		/* first line of --version */
	char machine[64];		/* -dumpmachine */
	char cmake[PATH_MAX], cmake_version[64];
	char ninja[PATH_MAX];		/* "" when absent: make is used */
	char make[PATH_MAX];
	char ccache[PATH_MAX];		/* "" when absent or ASSAY_CCACHE=0 */
	char tried[4096];		/* one line per candidate: "clang-15: …" */
};

/*
 * order: families, "clang gcc". $CC with $CXX comes first when set. Within a family the plain name,
 * then name-N, newest first. EXIT_REFERENCE_BUILD when none works or CMake is missing: the
 * sentence has every candidate and why it was refused.
 */
int toolchain_probe(struct toolchain *t, const char *order, struct err *e);

/* Blank-separated CPU features that builds can depend on and this CPU has. */
void toolchain_cpu_features(char *out, size_t size);
/* The first feature of the list that this CPU lacks, or NULL. Borrows out. */
const char *toolchain_cpu_lacks(const char *features, char *out, size_t size);

/* Compile jobs at once: cores of this process, and 1.5 GiB of available memory for each. */
int toolchain_jobs(void);

#endif
