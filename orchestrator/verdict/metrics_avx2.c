#define BLOCK metrics_block_avx2
#define EXPS metrics_exp_avx2
#define MAXIMA metrics_max_avx2
#include "metrics_loops.inc"
