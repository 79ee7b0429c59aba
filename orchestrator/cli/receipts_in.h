/* Receipts found in folders, for the commands that tell about them: merge and report. */
#ifndef ASSAY_RECEIPTS_IN_H
#define ASSAY_RECEIPTS_IN_H

#include "report/summary.h"

/* A run's directory, one comparison's directory, or a receipt. EXIT_NOTHING_RAN when none is there. */
int receipts_add(struct summary *s, const char *path, struct err *e);
/* Of a sorted summary: no two different receipts of one id. EXIT_RECEIPT_INVALID. */
int receipts_check_unique(const struct summary *s, struct err *e);
/* summary.json and summary.md into the folder, which is made. */
int receipts_write_summary(const struct summary *s, const char *folder, struct err *e);

#endif
