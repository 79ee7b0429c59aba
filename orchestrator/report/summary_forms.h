/* A summary as JUnit XML and as one self-contained HTML page. */
#ifndef ASSAY_SUMMARY_FORMS_H
#define ASSAY_SUMMARY_FORMS_H

#include "summary.h"

/* One test case per comparison: failure for a difference, error for what could not be compared.
 * Caller frees, as below. */
char *summary_junit(const struct summary *s);
char *summary_html(const struct summary *s);

#endif
