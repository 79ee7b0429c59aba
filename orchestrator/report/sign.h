/*
 * Signed receipts: an in-toto statement (in-toto attestation v1) whose subjects are the receipt
 * file and the model, whose predicate is the receipt itself, in a DSSE envelope (secure-systems-lab
 * DSSE v1) signed with Ed25519 (RFC 8032, OpenSSL).
 *
 * Keys are PEM files: private ones PKCS#8 with mode 0600 (anything wider is refused), public ones
 * SubjectPublicKeyInfo. A key id is the SHA-256 of the raw 32-byte public key, hex.
 */
#ifndef ASSAY_SIGN_H
#define ASSAY_SIGN_H

#include "err.h"

#include <stddef.h>

enum { SIGN_FILE_MAX = 64 << 20, SIGN_KEYID_HEX = 65 };

/* Writes path (0600) and path.pub; refuses to overwrite either. keyid: out, may be NULL. */
int sign_keygen(const char *path, char keyid[SIGN_KEYID_HEX], struct err *e);

/*
 * Signs the receipt file into an envelope, written atomically to out_path. model_sha256: 64 hex.
 */
int sign_receipt(const char *receipt_path, const char *model_sha256, const char *key_path,
		 const char *out_path, char keyid[SIGN_KEYID_HEX], struct err *e);

struct sign_checked {
	char keyid[SIGN_KEYID_HEX];
	char receipt_sha256[65];	/* subjects of the statement */
	char model_sha256[65];
	char *receipt;			/* the predicate as text, caller frees */
};

/*
 * Verifies signature, statement form, and, when receipt_path is not NULL, that the file's bytes
 * are the ones that were signed. EXIT_RECEIPT_INVALID names what is wrong.
 */
int sign_verify(const char *envelope_path, const char *public_key_path, const char *receipt_path,
		struct sign_checked *out, struct err *e);

#endif
