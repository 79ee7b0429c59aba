#include "sha256.h"

#include <assert.h>
#include <openssl/evp.h>

struct sha256 *sha256_new(void)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();

	if (c && EVP_DigestInit_ex(c, EVP_sha256(), NULL) != 1) {
		EVP_MD_CTX_free(c);
		return NULL;
	}
	return (struct sha256 *)c;
}

void sha256_add(struct sha256 *s, const void *bytes, size_t n)
{
	int ok = EVP_DigestUpdate((EVP_MD_CTX *)s, bytes, n);

	assert(ok == 1);
}

void sha256_end(struct sha256 *s, char hex[65])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char d[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	int ok = EVP_DigestFinal_ex((EVP_MD_CTX *)s, d, &n);

	assert(ok == 1 && n == 32);
	for (unsigned i = 0; i < 32; i++) {
		hex[2 * i] = digits[d[i] >> 4];
		hex[2 * i + 1] = digits[d[i] & 15];
	}
	hex[64] = '\0';
	EVP_MD_CTX_free((EVP_MD_CTX *)s);
}
