/* What a reference's worker is linked with. */
#include "serve/serve.h"

extern const struct engine_ops engine_llama;

const struct engine_ops *const engine_table[] = {&engine_llama, NULL};

/* bitnet.cpp keeps rows × columns floats per thread on the stack: 14 MB at a micro-batch of 512. */
const struct worker_traits worker_traits = {.stack_bytes = (size_t)256 << 20};
