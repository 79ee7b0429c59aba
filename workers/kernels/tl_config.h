/*
 * The tilings of bitnet.cpp's table-lookup layouts: TL1 and TL2 order a matrix by tiles whose sizes
 * its kernels are generated for, one set per matrix shape; a file does not say which. Known are the
 * sets that bitnet.cpp ships: preset_kernels/MODEL/kernel_config_tl1.ini and _tl2.ini. A shape that is
 * not among them cannot be read.
 */
#ifndef ASSAY_TL_CONFIG_H
#define ASSAY_TL_CONFIG_H

#include <stdint.h>

struct tl_config {
	uint32_t type;		/* TYPE_TL1 or TYPE_TL2 */
	int64_t rows, n_in;	/* m and k of the file */
	int bm, bk;		/* a tile: bm rows, bk columns */
	int bmm; /* rows of a strip within a tile; 32 for TL2 whatever the file says */
	const char *preset;	/* the folder it comes from */
};

/* NULL when the shape has no configuration. */
const struct tl_config *tl_config_find(uint32_t type, int64_t n_in, int64_t rows);

extern const struct tl_config tl_configs[];	/* ends with preset NULL */

#endif
