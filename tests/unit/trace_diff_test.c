/* Two traces met record by record: order, states, the first difference, the picture. */
#include "test.h"

#include "verdict/trace_diff.h"

#include <math.h>

enum { N = 6 };

static struct trace_record records[2][N];
static float values[2][N][4];
static struct trace_diff_tensor side[2][N];

/* embeddings, then ffn_act and layer_out of two layers, then logits. */
static void make(void)
{
	static const struct { enum trace_stage stage; int layer;
	} at[N] = {
		{STAGE_EMBEDDINGS, -1}, {STAGE_FFN_ACT, 0},   {STAGE_LAYER_OUT, 0},
		{STAGE_FFN_ACT, 1},     {STAGE_LAYER_OUT, 1}, {STAGE_LOGITS, -1},
	};

	for (int s = 0; s < 2; s++)
		for (int i = 0; i < N; i++) {
			for (int k = 0; k < 4; k++)
				values[s][i][k] = (float)(i + k + 1);
			trace_describe(&records[s][i], at[i].stage, at[i].layer, 0, "f32", 2,
				       (const int64_t[]){2, 2}, values[s][i]);
			side[s][i] = (struct trace_diff_tensor){&records[s][i], values[s][i]};
		}
}

static void change(int i, float by)
{
	values[1][i][3] += by;
	trace_describe(&records[1][i], records[1][i].stage, records[1][i].layer, 0, "f32", 2,
		       (const int64_t[]){2, 2}, values[1][i]);
}

int main(void)
{
	struct trace_diff d;
	char *picture;

	make();
	trace_diff_run(&d, side[0], N, side[1], N, 0);
	CHECK(d.n == N && d.n_equal == N && d.first_different < 0 && d.first_beyond < 0,
	      "equal traces");
	trace_diff_free(&d);

	change(2, 0.5f);
	change(4, 1e-4f);
	trace_diff_run(&d, side[0], N, side[1], N, 1e-3);
	CHECK(d.n_equal == 4 && d.n_within == 1 && d.n_beyond == 1, "equal, within, beyond");
	CHECK(d.first_different == 2 && d.first_beyond == 2 && d.rows[2].stage == STAGE_LAYER_OUT,
	      "the first in execution order");
	double b2 = 9 + 16 + 25 + 6.5 * 6.5;	/* Σb² of 3, 4, 5, 6.5 */
	CHECK(fabs(d.rows[2].diff.nmse - 0.25 / b2) < 1e-12, "NMSE as Σ(a−b)²/Σb²");
	CHECK(d.rows[2].diff.worst == 3 && d.rows[2].diff.worst_a == 6 &&
		      d.rows[2].diff.worst_b == 6.5f,
	      "worst value and both sides'");
	picture = trace_diff_picture(&d);
	CHECK(strstr(picture, "\n  -1  =     = \n   0    = 1   \n   1    = .   \n"), "the picture");
	if (!strstr(picture, "\n  -1  =     = \n   0    = 1   \n   1    = .   \n"))
		printf("# %s\n", picture);
	free(picture);
	trace_diff_free(&d);

	trace_diff_run(&d, side[0], N - 1, side[1] + 1, N - 1, 1);
	CHECK(d.n == N && d.n_unmatched == 2 && d.rows[0].state == TRACE_ONLY_A &&
		      d.rows[N - 1].state == TRACE_ONLY_B && d.first_beyond == 0,
	      "no counterpart on either side");
	trace_diff_free(&d);

	for (int i = 0; i < N; i++)
		side[1][i].values = NULL;
	trace_diff_run(&d, side[0], N, side[1], N, 1);
	CHECK(d.n_equal == 4 && d.n_beyond == 2 && !d.rows[2].measured,
	      "without values other hashes are beyond any tolerance");
	trace_diff_free(&d);

	records[1][1].shape[0] = 4;
	records[1][1].shape[1] = 1;
	trace_diff_run(&d, side[0], N, side[1], N, 1);
	CHECK(d.rows[1].state == TRACE_SHAPES && d.first_beyond == 1,
	      "other shapes are a difference");
	trace_diff_free(&d);
	return TEST_END();
}
