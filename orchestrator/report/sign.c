#include "sign.h"

#include "input.h"

#include "output.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAYLOAD_TYPE "application/vnd.in-toto+json"
#define STATEMENT_TYPE "https://in-toto.io/Statement/v1"
#define PREDICATE_TYPE "https://assay.invalid/receipt/1.0.0"

enum { KEY_BYTES = 32, SIG_BYTES = 64, PATH_BYTES = 4096 };

struct bytes {
	unsigned char *p;
	size_t n;
};

static int read_file(const char *path, struct bytes *out, struct err *e)
{
	struct stat st;
	FILE *f = input_open(path);

	if (!f)
		return err_set(e, EXIT_RECEIPT_INVALID, "%s: %s", path, strerror(errno));
	if (fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > SIGN_FILE_MAX) {
		fclose(f);
		return err_set(e, EXIT_RECEIPT_INVALID, "%s: not a regular file of at most %d MiB",
			       path, SIGN_FILE_MAX >> 20);
	}
	out->p = malloc((size_t)st.st_size + 1);
	assert(out->p);
	out->n = fread(out->p, 1, (size_t)st.st_size, f);
	out->p[out->n] = '\0';
	fclose(f);
	if (out->n != (size_t)st.st_size)
		return err_set(e, EXIT_RECEIPT_INVALID, "%s: read %zu of %lld bytes", path, out->n,
			       (long long)st.st_size);
	return 0;
}

static void hex(const unsigned char *p, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++)
		sprintf(out + 2 * i, "%02x", p[i]);
}

static void sha256_hex(const void *p, size_t n, char out[65])
{
	unsigned char digest[32];

	if (EVP_Digest(p, n, digest, NULL, EVP_sha256(), NULL) != 1)
		abort();
	hex(digest, sizeof(digest), out);
}

static int key_id(EVP_PKEY *key, const char *path, char out[SIGN_KEYID_HEX], struct err *e)
{
	unsigned char raw[KEY_BYTES];
	size_t n = sizeof(raw);

	if (EVP_PKEY_base_id(key) != EVP_PKEY_ED25519 ||
	    EVP_PKEY_get_raw_public_key(key, raw, &n) != 1)
		return err_set(e, EXIT_RECEIPT_INVALID, "%s: not an Ed25519 key; make one with "
			       "`assay receipt keygen FILE`", path);
	sha256_hex(raw, n, out);
	return 0;
}

/* A key that wants a passphrase is refused: without this OpenSSL would ask for it on the terminal. */
static int no_passphrase(char *buf, int size, int writing, void *ctx)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)ctx;
	return -1;
}

static int load_private(const char *path, EVP_PKEY **out, struct err *e)
{
	struct stat st;
	FILE *f = input_open(path);

	if (!f)
		return err_set(e, EXIT_USAGE, "key file %s: %s", path, strerror(errno));
	if (fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode)) {
		fclose(f);
		return err_set(e, EXIT_USAGE, "key file %s: not a regular file", path);
	}
	if (st.st_mode & 077) {
		fclose(f);
		return err_set(e, EXIT_USAGE, "key file %s has mode %03o: others can read it; "
			       "run `chmod 600 %s`", path, (unsigned)(st.st_mode & 0777), path);
	}
	*out = PEM_read_PrivateKey(f, NULL, no_passphrase, NULL);
	fclose(f);
	if (!*out)
		return err_set(e, EXIT_USAGE, "key file %s: not an unencrypted PEM private key",
			       path);
	return 0;
}

static int load_public(const char *path, EVP_PKEY **out, struct err *e)
{
	FILE *f = input_open(path);

	if (!f)
		return err_set(e, EXIT_USAGE, "public key %s: %s", path, strerror(errno));
	*out = PEM_read_PUBKEY(f, NULL, NULL, NULL);
	fclose(f);
	if (!*out)
		return err_set(e, EXIT_USAGE, "public key %s: not a PEM public key", path);
	return 0;
}

static FILE *create_new(const char *path, mode_t mode, struct err *e)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

	if (fd < 0) {
		err_set(e, EXIT_USAGE, "%s: %s", path,
			errno == EEXIST ? "exists and is kept; name another file"
					: strerror(errno));
		return NULL;
	}
	return fdopen(fd, "w");
}

int sign_keygen(const char *path, char keyid[SIGN_KEYID_HEX], struct err *e)
{
	char pub[PATH_BYTES], id[SIGN_KEYID_HEX];
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	FILE *f = NULL, *p = NULL;
	int r;

	assert(key);
	snprintf(pub, sizeof(pub), "%s.pub", path);
	r = key_id(key, path, id, e);
	if (r == 0 && !(p = create_new(pub, 0644, e)))
		r = -e->code;
	if (r == 0 && !(f = create_new(path, 0600, e))) {
		unlink(pub);
		r = -e->code;
	}
	if (r == 0 && (PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) != 1 ||
		       PEM_write_PUBKEY(p, key) != 1 || fflush(f) || fflush(p)))
		r = err_set(e, EXIT_NO_SPACE, "%s: writing the key failed: %s", path,
			    strerror(errno));
	if (f && fclose(f) != 0 && r == 0)
		r = err_set(e, EXIT_NO_SPACE, "%s: writing the key failed: %s", path, strerror(errno));
	if (p && fclose(p) != 0 && r == 0)
		r = err_set(e, EXIT_NO_SPACE, "%s: writing the key failed: %s", pub, strerror(errno));
	if (r < 0 && f) {	/* half a key would be in the way of the next try */
		unlink(path);
		unlink(pub);
	}
	EVP_PKEY_free(key);
	if (r == 0 && keyid)
		memcpy(keyid, id, sizeof(id));
	return r;
}

/* DSSE v1 pre-authentication encoding; caller frees. */
static struct bytes pae(const char *type, const void *body, size_t n)
{
	struct bytes b;
	int head;

	b.p = malloc(n + strlen(type) + 64);
	assert(b.p);
	head = sprintf((char *)b.p, "DSSEv1 %zu %s %zu ", strlen(type), type, n);
	memcpy(b.p + head, body, n);
	b.n = (size_t)head + n;
	return b;
}

static char *base64(const unsigned char *p, size_t n)
{
	char *out = malloc(4 * ((n + 2) / 3) + 1);

	assert(out && n < SIGN_FILE_MAX * 2u);
	EVP_EncodeBlock((unsigned char *)out, p, (int)n);
	return out;
}

/* Canonical base64 only: another spelling of the same bytes is a changed envelope. */
static int unbase64(const char *text, struct bytes *out)
{
	size_t n = strlen(text);
	char *again;
	int got, same;

	if (n % 4 || n > 4u * SIGN_FILE_MAX)
		return -1;
	out->p = malloc(n / 4 * 3 + 1);
	assert(out->p);
	got = EVP_DecodeBlock(out->p, (const unsigned char *)text, (int)n);
	if (got < 0)
		return -1;
	for (size_t i = n; i && text[i - 1] == '='; i--)
		got--;
	out->n = (size_t)got;
	out->p[out->n] = '\0';
	again = base64(out->p, out->n);
	same = strcmp(again, text) == 0;
	free(again);
	return same ? 0 : -1;
}

static char *statement_text(const struct bytes *receipt, const char *receipt_name,
			    const char *model_sha256, struct err *e)
{
	char digest[65];
	json_error_t je;
	json_t *predicate = json_loadb((const char *)receipt->p, receipt->n,
				       JSON_REJECT_DUPLICATES, &je);
	json_t *s;
	char *text;

	if (!predicate) {
		err_set(e, EXIT_RECEIPT_INVALID, "%s:%d: not JSON: %s", receipt_name, je.line,
			je.text);
		return NULL;
	}
	sha256_hex(receipt->p, receipt->n, digest);
	s = json_pack("{s:s, s:[{s:s, s:{s:s}}, {s:s, s:{s:s}}], s:s, s:o}", "_type",
		      STATEMENT_TYPE, "subject", "name", "receipt", "digest", "sha256", digest,
		      "name", "model", "digest", "sha256", model_sha256, "predicateType",
		      PREDICATE_TYPE, "predicate", predicate);
	assert(s);
	text = json_dumps(s, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
	json_decref(s);
	return text;
}

static int write_atomic(const char *path, const char *text, struct err *e)
{
	char tmp[PATH_BYTES];
	FILE *f;
	bool done;
	int r = output_check(path, e);

	if (r < 0)
		return r;
	snprintf(tmp, sizeof(tmp), "%s.%ld.tmp", path, (long)getpid());
	f = fopen(tmp, "we");
	if (!f)
		return err_set(e, EXIT_NO_SPACE, "%s: %s", tmp, strerror(errno));
	done = fputs(text, f) >= 0 && fputc('\n', f) != EOF && fflush(f) == 0 &&
	       fsync(fileno(f)) == 0;
	if (fclose(f) != 0 || !done || rename(tmp, path) != 0) {
		int saved = errno;

		unlink(tmp);
		return err_set(e, EXIT_NO_SPACE, "%s: writing failed: %s", path, strerror(saved));
	}
	return 0;
}

static int sign_bytes(EVP_PKEY *key, const struct bytes *message, unsigned char sig[SIG_BYTES])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t n = SIG_BYTES;
	int ok = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
		 EVP_DigestSign(ctx, sig, &n, message->p, message->n) == 1 && n == SIG_BYTES;

	EVP_MD_CTX_free(ctx);
	return ok ? 0 : -1;
}

int sign_receipt(const char *receipt_path, const char *model_sha256, const char *key_path,
		 const char *out_path, char keyid[SIGN_KEYID_HEX], struct err *e)
{
	struct bytes receipt = {0}, message = {0};
	unsigned char sig[SIG_BYTES];
	char id[SIGN_KEYID_HEX];
	char *statement = NULL, *payload = NULL, *sig64 = NULL, *text = NULL;
	EVP_PKEY *key = NULL;
	json_t *envelope;
	int r;

	r = load_private(key_path, &key, e);
	if (r == 0)
		r = key_id(key, key_path, id, e);
	if (r == 0)
		r = read_file(receipt_path, &receipt, e);
	if (r == 0 && !(statement = statement_text(&receipt, receipt_path, model_sha256, e)))
		r = -e->code;
	if (r < 0)
		goto out;
	message = pae(PAYLOAD_TYPE, statement, strlen(statement));
	if (sign_bytes(key, &message, sig) < 0) {
		r = err_set(e, EXIT_INTERNAL, "signing with %s failed", key_path);
		goto out;
	}
	payload = base64((unsigned char *)statement, strlen(statement));
	sig64 = base64(sig, sizeof(sig));
	envelope = json_pack("{s:s, s:s, s:[{s:s, s:s}]}", "payloadType", PAYLOAD_TYPE, "payload",
			     payload, "signatures", "keyid", id, "sig", sig64);
	assert(envelope);
	text = json_dumps(envelope, JSON_INDENT(1) | JSON_SORT_KEYS);
	json_decref(envelope);
	r = write_atomic(out_path, text, e);
	if (r == 0 && keyid)
		memcpy(keyid, id, sizeof(id));
out:
	EVP_PKEY_free(key);
	free(receipt.p);
	free(message.p);
	free(statement);
	free(payload);
	free(sig64);
	free(text);
	return r;
}

static int check_statement(const char *path, const struct bytes *payload, struct sign_checked *out,
			   struct err *e)
{
	const char *type, *predicate_type, *n0, *n1, *d0, *d1;
	json_t *predicate, *s;
	json_error_t je;
	int r = 0;

	s = json_loadb((const char *)payload->p, payload->n, JSON_REJECT_DUPLICATES, &je);
	if (!s || json_unpack_ex(s, &je, JSON_STRICT,
				 "{s:s, s:[{s:s, s:{s:s!}!}, {s:s, s:{s:s!}!}!], "
				 "s:s, s:o!}",
				 "_type", &type, "subject", "name", &n0, "digest", "sha256", &d0,
				 "name", &n1, "digest", "sha256", &d1, "predicateType",
				 &predicate_type, "predicate", &predicate) != 0) {
		r = err_set(e, EXIT_RECEIPT_INVALID, "%s: the signed statement is malformed: %s",
			    path, je.text);
	} else if (strcmp(type, STATEMENT_TYPE) || strcmp(predicate_type, PREDICATE_TYPE) ||
		   strcmp(n0, "receipt") || strcmp(n1, "model") || strlen(d0) != 64 ||
		   strlen(d1) != 64) {
		r = err_set(e, EXIT_RECEIPT_INVALID,
			    "%s: signed, but not a statement about a receipt "
			    "and its model (type %s, predicate %s)",
			    path, type, predicate_type);
	} else {
		memcpy(out->receipt_sha256, d0, 65);
		memcpy(out->model_sha256, d1, 65);
		out->receipt = json_dumps(predicate, JSON_INDENT(1) | JSON_SORT_KEYS |
							     JSON_REAL_PRECISION(17));
	}
	json_decref(s);
	return r;
}

static int check_signature(const char *path, json_t *envelope, EVP_PKEY *key, const char *id,
			   struct bytes *payload, struct err *e)
{
	const char *type, *payload64, *keyid, *sig64;
	struct bytes sig = {0}, message = {0};
	EVP_MD_CTX *ctx = NULL;
	json_error_t je;
	int r = 0;

	if (json_unpack_ex(envelope, &je, JSON_STRICT, "{s:s, s:s, s:[{s:s, s:s!}!]!}",
			   "payloadType", &type, "payload", &payload64, "signatures", "keyid",
			   &keyid, "sig", &sig64) != 0)
		return err_set(e, EXIT_RECEIPT_INVALID,
			       "%s: not a DSSE envelope with one signature: %s", path, je.text);
	if (strcmp(type, PAYLOAD_TYPE) != 0)
		return err_set(e, EXIT_RECEIPT_INVALID, "%s: payload type \"%s\", expected \"%s\"",
			       path, type, PAYLOAD_TYPE);
	if (strcmp(keyid, id) != 0)
		return err_set(e, EXIT_RECEIPT_INVALID,
			       "%s: signed by key %.16s…, verified with %.16s…", path, keyid, id);
	if (unbase64(payload64, payload) < 0 || unbase64(sig64, &sig) < 0 || sig.n != SIG_BYTES) {
		r = err_set(e, EXIT_RECEIPT_INVALID, "%s: payload or signature is not base64",
			    path);
		goto out;
	}
	message = pae(type, payload->p, payload->n);
	ctx = EVP_MD_CTX_new();
	if (!ctx || EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) != 1 ||
	    EVP_DigestVerify(ctx, sig.p, sig.n, message.p, message.n) != 1)
		r = err_set(e, EXIT_RECEIPT_INVALID, "%s: the signature does not fit the content: "
			    "it was changed after signing", path);
out:
	EVP_MD_CTX_free(ctx);
	free(sig.p);
	free(message.p);
	return r;
}

static int check_receipt_file(const char *path, const char *signed_sha256, struct err *e)
{
	struct bytes b = {0};
	char digest[65];
	int r = read_file(path, &b, e);

	if (r == 0) {
		sha256_hex(b.p, b.n, digest);
		if (strcmp(digest, signed_sha256) != 0)
			r = err_set(e, EXIT_RECEIPT_INVALID,
				    "%s is not the receipt that was signed: "
				    "SHA-256 expected %s, got %s",
				    path, signed_sha256, digest);
	}
	free(b.p);
	return r;
}

int sign_verify(const char *envelope_path, const char *public_key_path, const char *receipt_path,
		struct sign_checked *out, struct err *e)
{
	struct sign_checked checked = {0};
	struct bytes file = {0}, payload = {0};
	json_t *envelope = NULL;
	EVP_PKEY *key = NULL;
	json_error_t je;
	int r;

	r = load_public(public_key_path, &key, e);
	if (r == 0)
		r = key_id(key, public_key_path, checked.keyid, e);
	if (r == 0)
		r = read_file(envelope_path, &file, e);
	if (r == 0) {
		envelope = json_loadb((char *)file.p, file.n, JSON_REJECT_DUPLICATES, &je);
		if (!envelope)
			r = err_set(e, EXIT_RECEIPT_INVALID, "%s:%d: not JSON: %s", envelope_path,
				    je.line, je.text);
	}
	if (r == 0)
		r = check_signature(envelope_path, envelope, key, checked.keyid, &payload, e);
	if (r == 0)
		r = check_statement(envelope_path, &payload, &checked, e);
	if (r == 0 && receipt_path)
		r = check_receipt_file(receipt_path, checked.receipt_sha256, e);
	json_decref(envelope);
	EVP_PKEY_free(key);
	free(file.p);
	free(payload.p);
	if (r == 0)
		*out = checked;
	else
		free(checked.receipt);
	return r;
}
