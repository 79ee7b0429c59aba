#define BLOCK metrics_block_base
#define EXPS metrics_exp_base
#define MAXIMA metrics_max_base
#include "metrics_loops.inc"
