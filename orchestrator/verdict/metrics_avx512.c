#define BLOCK metrics_block_avx512
#define EXPS metrics_exp_avx512
#define MAXIMA metrics_max_avx512
#include "metrics_loops.inc"
