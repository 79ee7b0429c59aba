#include "cli.h"

#include "report/canonical.h"
#include "report/input.h"
#include "report/sign.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct opt opts[] = {
	{"key", OPT_STR, "FILE", "private key (PEM, mode 0600), for sign", NULL, NULL, NULL, 0},
	{"pub", OPT_STR, "FILE", "public key (PEM), for verify", NULL, NULL, NULL, 0},
	{"receipt", OPT_STR, "FILE", "verify: this file must be the one that was signed", NULL,
	 NULL, NULL, 0},
	{"out", OPT_STR, "FILE", "sign: the envelope, default RECEIPT.dsse.json", NULL, NULL, NULL,
	 0},
	{0},
};

/* The model's hash is the receipt's own word for it. */
static int model_sha256(const char *path, char out[65], struct err *e)
{
	json_error_t je;
	json_t *r = input_json(path, &je);
	const char *s = NULL;

	if (!r)
		return err_set(e, EXIT_RECEIPT_INVALID, "%s:%d: %s", path, je.line, je.text);
	s = json_string_value(json_object_get(json_object_get(r, "model"), "sha256"));
	if (s && strlen(s) == 64 && canonical_sealed(r))
		memcpy(out, s, 65);
	else if (s && strlen(s) == 64)
		err_set(e, EXIT_RECEIPT_INVALID, "%s: content_sha256 does not fit the content: the "
			"receipt was changed and is not signed", path);
	else
		err_set(e, EXIT_RECEIPT_INVALID, "%s: has no model.sha256 of 64 hex digits; only a "
			"receipt of assay can be signed", path);
	json_decref(r);
	return e->code ? -e->code : 0;
}

static int keygen(const char *path, struct cli *c, struct err *e)
{
	char id[SIGN_KEYID_HEX];
	int r = sign_keygen(path, id, e);

	if (r < 0)
		return r;
	if (cli_json(c))
		printf("{\"key\":\"%s\",\"pub\":\"%s.pub\",\"keyid\":\"%s\"}\n", path, path, id);
	else
		printf("key %s (keep it), public key %s.pub, key id %s\n", path, path, id);
	return 0;
}

static int sign(const char *path, struct cli *c, struct err *e)
{
	char model[65], id[SIGN_KEYID_HEX], def[4096];
	const char *out = cli_str(c, "out");
	int r;

	if (!cli_str(c, "key"))
		return err_set(e, EXIT_USAGE, "receipt sign: --key FILE is missing; make one with "
			       "`assay receipt keygen FILE`");
	snprintf(def, sizeof(def), "%s.dsse.json", path);
	if (!out)
		out = def;
	r = model_sha256(path, model, e);
	if (r == 0)
		r = sign_receipt(path, model, cli_str(c, "key"), out, id, e);
	if (r == 0 && cli_json(c))
		printf("{\"envelope\":\"%s\",\"keyid\":\"%s\"}\n", out, id);
	else if (r == 0)
		printf("signed %s into %s with key %s\n", path, out, id);
	return r;
}

static int verify(const char *path, struct cli *c, struct err *e)
{
	struct sign_checked s = {0};
	int r;

	if (!cli_str(c, "pub"))
		return err_set(e, EXIT_USAGE, "receipt verify: --pub FILE is missing");
	r = sign_verify(path, cli_str(c, "pub"), cli_str(c, "receipt"), &s, e);
	if (r < 0)
		return r;
	if (cli_json(c))
		printf("{\"signed\":true,\"keyid\":\"%s\",\"receipt_sha256\":\"%s\",\"model_sha256\":"
		       "\"%s\",\"receipt\":%s}\n",
		       s.keyid, s.receipt_sha256, s.model_sha256, s.receipt);
	else
		printf("good signature of key %s\nreceipt sha256 %s\nmodel   sha256 %s\n", s.keyid,
		       s.receipt_sha256, s.model_sha256);
	free(s.receipt);
	return 0;
}

static int run(struct cli *c, struct err *e)
{
	const char *const *args;

	if (cli_positional(c, &args) != 2)
		return err_set(e, EXIT_USAGE, "receipt needs two words: keygen|sign|verify FILE");
	if (strcmp(args[0], "keygen") == 0)
		return keygen(args[1], c, e);
	if (strcmp(args[0], "sign") == 0)
		return sign(args[1], c, e);
	if (strcmp(args[0], "verify") == 0)
		return verify(args[1], c, e);
	return err_set(e, EXIT_USAGE, "receipt: unknown word \"%s\"; one of keygen, sign, verify",
		       args[0]);
}

const struct command cmd_receipt = {
	.name = "receipt",
	.group = "Receipts",
	.summary = "sign receipts with Ed25519 and verify signatures",
	.positional = "keygen|sign|verify FILE",
	.examples =
		"assay receipt keygen ~/.config/assay/ci.key\n"
		"assay receipt sign out/run/scenario1/receipt.json --key ~/.config/assay/ci.key\n"
		"assay receipt verify receipt.json.dsse.json --pub ci.key.pub --receipt receipt.json\n",
	.opts = opts,
	.run = run,
	.details =
		"The signature is a DSSE envelope around an in-toto statement whose subjects are the\n"
		"receipt file and the model. Unsigned receipts stay usable everywhere.\n",
};
