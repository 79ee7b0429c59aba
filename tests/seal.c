/* Gives receipts a right content hash again, for tests that edit them: seal FILE… */
#include "report/canonical.h"

#include <stdio.h>

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		json_error_t why;
		json_t *o = json_load_file(argv[i], 0, &why);

		if (!o) {
			fprintf(stderr, "%s: %s\n", argv[i], why.text);
			return 1;
		}
		canonical_seal(o);
		if (json_dump_file(o, argv[i], JSON_INDENT(1) | JSON_SORT_KEYS |
						       JSON_REAL_PRECISION(17)) != 0)
			return 1;
		json_decref(o);
	}
	return 0;
}
