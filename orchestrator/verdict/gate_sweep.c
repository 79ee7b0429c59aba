#include "gate_sweep.h"

#include "compare.h"
#include "err.h"
#include "gate_internal.h"

#include <stdio.h>
#include <string.h>

/* What the summary says as a whole, from its rows alone. */
static void check_totals(struct gating *g)
{
	const json_t *rows = json_object_get(g->r, "scenarios"), *row;
	int64_t n = (int64_t)json_array_size(rows), code = gate_int(g->r, "exit_code");
	bool interrupted = json_is_true(json_object_get(g->r, "interrupted"));
	int worst = n ? EXIT_AGREE : EXIT_NOTHING_RAN;
	size_t i;

	json_array_foreach(rows, i, row)
		worst = verdict_worse(worst, (int)gate_int(row, "exit_code"));
	if (gate_int(g->r, "n_done") != n || gate_int(g->r, "n_planned") < n ||
	    (!interrupted && gate_int(g->r, "n_planned") != n))
		gate_fail(g, "%lld scenarios, %lld done of %lld planned", (long long)n,
			  (long long)gate_int(g->r, "n_done"),
			  (long long)gate_int(g->r, "n_planned"));
	if (strcmp(gate_text(g->r, "exit_name"), err_code_name((int)code)) != 0)
		gate_fail(g, "exit_name is %s, exit code %lld is %s", gate_text(g->r, "exit_name"),
			  (long long)code, err_code_name((int)code));
	if (interrupted != (code == EXIT_INTERRUPTED))
		gate_fail(g, "interrupted and exit code %lld do not belong together",
			  (long long)code);
	/* two references may differ from each other (a matrix): that is no failure of ours */
	if (!interrupted && !json_object_get(g->r, "matrix") && code != worst)
		gate_fail(g, "exit_code is %lld, the worst scenario has %d", (long long)code, worst);
}

static void check_row(struct gating *g, const json_t *said, const json_t *is)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)said, key, v)
		if (!json_equal(v, json_object_get(is, key)))
			gate_fail(g, "scenario %s: %s is not what its receipt says",
				  gate_text(said, "id"), key);
	if (json_object_size(said) != json_object_size(is))
		gate_fail(g, "scenario %s: not all is told that its receipt says",
			  gate_text(said, "id"));
}

/* Against the summary that the receipts beside it give. */
static void check_rebuilt(struct gating *g, const json_t *rebuilt)
{
	static const char *const parts[] = {"model", "matrix", "steady", "exit_code"};
	const json_t *said = json_object_get(g->r, "scenarios"),
		     *is = json_object_get(rebuilt, "scenarios"), *row;
	size_t i;

	json_array_foreach(said, i, row)
		check_row(g, row, json_array_get(is, i));
	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		const json_t *x = json_object_get(g->r, parts[i]);
		const json_t *y = json_object_get(rebuilt, parts[i]);

		if (x != y && !(x && y && json_equal(x, y)))
			gate_fail(g, "%s is not what the receipts give", parts[i]);
	}
}

static const enum gate_id not_claimed[] = {GATE_COMPUTE_PATH, GATE_KERNELS,	GATE_WEIGHTS,
					   GATE_TOKENS,	      GATE_DETERMINISM, GATE_REFERENCE,
					   GATE_PERFORMANCE};

void gate_sweep_run(const json_t *summary, const struct gate_context *ctx, const json_t *rebuilt,
		    bool some, const char *why_not, struct gate_report *out)
{
	struct gating g = {.r = summary, .ctx = ctx, .out = out};

	memset(out, 0, sizeof(*out));
	g.id = GATE_SCHEMA;
	gate_schema_form(&g);
	g.id = GATE_MODEL;
	gate_model(&g);
	g.id = GATE_METRICS;
	check_totals(&g);
	if (rebuilt)
		check_rebuilt(&g, rebuilt);
	else if (some)
		gate_fail(&g, "%s", why_not);
	else
		gate_unchecked(&g, "its receipts are not at hand: %s", why_not);
	if (ctx->left_out)
		gate_fail(&g, "scenario %s was done in this run (journal.jsonl), the summary leaves it out",
			  ctx->left_out);
	if (ctx->stray)
		gate_unchecked(&g, "%s/receipt.json is here, the summary does not tell it", ctx->stray);
	for (size_t i = 0; i < sizeof(not_claimed) / sizeof(not_claimed[0]); i++) {
		struct gate_result *r = &out->gates[not_claimed[i]];

		r->absent = true;
		snprintf(r->messages[r->n_messages++], GATE_MESSAGE_MAX,
			 "a summary claims nothing of the kind, its receipts do");
	}
	out->passed = true;
	for (int i = 0; i < GATE_COUNT; i++)
		out->passed = out->passed && !out->gates[i].failed;
}
