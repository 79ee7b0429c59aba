#define BLOCK metrics_block_avx512
#define EXPS metrics_exp_avx512
#include "metrics_loops.inc"
