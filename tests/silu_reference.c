/*
 * A reference that is wrong in the way that happened in July 2026: native with SiLU where
 * bitnet-b1.58 needs squared ReLU, whatever the file says. A real engine, one operation off.
 */
#include "engine.h"

#include <stdbool.h>

#include "../workers/main.c"

extern const struct engine_ops engine_native;
static struct engine_ops silu;
const struct engine_ops *const engine_table[] = {&silu, NULL};
const struct worker_traits worker_traits = {.stack_bytes = 0};

static int open_with_silu(struct engine **out, const struct engine_options *o, struct err *e)
{
	struct engine_options changed = *o;

	changed.overrides[changed.n_overrides++] = "bitnet-b1.58.hidden_activation=str:silu";
	return engine_native.open(out, &changed, e);
}

__attribute__((constructor)) static void fill_in(void)
{
	silu = engine_native;
	silu.open = open_with_silu;
}
