/* Any text is a lockfile whose paths stay in their tree, or is refused with a sentence. */
#include "provision/references_lock.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct references_lock *l = calloc(1, sizeof(*l));
	struct err e = ERR_NONE;

	assert(l);
	if (references_lock_parse(l, (const char *)data, size, "t", &e) == 0) {
		for (int i = 0; i < l->n; i++) {
			const struct lock_entry *x = &l->entries[i];

			assert(references_lock_commit_ok(x->commit) && x->url && x->target);
			assert(references_lock_entry(l, x->name) == x && !strchr(x->name, '/'));
			for (int k = 0; k < x->n_submodules; k++)
				assert(references_lock_path_ok(x->submodules[k].path));
			for (int k = 0; k < x->n_files; k++)
				assert(references_lock_path_ok(x->files[k].path));
		}
	} else {
		assert(e.code == EXIT_USAGE && e.msg[0] && l->n == 0);
	}
	references_lock_free(l);
	free(l);
	return 0;
}
