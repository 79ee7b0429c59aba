/* What the gate command finds beside a receipt: the model's file, the ids, a summary's receipts. */
#ifndef ASSAY_GATE_BESIDE_H
#define ASSAY_GATE_BESIDE_H

#include "err.h"
#include "verdict/gate.h"

/* The facts of a model's file that receipts repeat. 0, or EXIT_MODEL_INVALID. */
int gate_model_read(const char *path, struct gate_model_facts *out, struct err *e);

/*
 * tokens.json in the receipt's folder: how many sides it tells of, 0 where it is not there. The ids
 * borrow from *holder, which the caller frees by json_decref.
 */
int gate_ids_read(const char *receipt_path, struct gate_ids out[2], json_t **holder);

/* prompt.txt in the receipt's folder; NULL where it is not there. Caller frees. */
char *gate_prompt_read(const char *receipt_path, size_t *bytes);

/*
 * The summary that the receipts in the folders beside summary_path give, for the rows it names;
 * NULL and why (a sentence) where one is missing, *some whether another is there. Caller frees by json_decref.
 */
json_t *gate_summary_rebuild(const json_t *summary, const char *summary_path, bool *some,
			     char *why, size_t size);

/*
 * What a summary does not tell: a comparison that journal.jsonl beside it says was done (*left_out), and, where
 * there is no journal, a folder with a receipt (*stray). Texts of SUMMARY_ID_MAX bytes, "" where there is none.
 */
void gate_summary_untold(const json_t *summary, const char *summary_path, char *left_out,
			 char *stray);

#endif
