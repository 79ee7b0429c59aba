#include "err.h"

#include "utf8.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	int code;
	const char *name;
} names[] = {
	{EXIT_AGREE, "OK"},
	{EXIT_DIVERGED, "DIVERGED"},
	{EXIT_TOKENS_DIFFER, "TOKENS_DIFFER"},
	{EXIT_NO_REFERENCE, "NO_REFERENCE"},
	{EXIT_TEMPLATE, "TEMPLATE"},
	{EXIT_REFERENCE_BUILD, "REFERENCE_BUILD"},
	{EXIT_WORKER, "WORKER"},
	{EXIT_NOTHING_RAN, "NOTHING_RAN"},
	{EXIT_MODEL_LOAD, "MODEL_LOAD"},
	{EXIT_AUTH, "AUTH"},
	{EXIT_RATE_LIMITED, "RATE_LIMITED"},
	{EXIT_HASH_MISMATCH, "HASH_MISMATCH"},
	{EXIT_NETWORK, "NETWORK"},
	{EXIT_MODEL_INVALID, "MODEL_INVALID"},
	{EXIT_INFERENCE, "INFERENCE"},
	{EXIT_REGRESSION, "REGRESSION"},
	{EXIT_NO_SPACE, "NO_SPACE"},
	{EXIT_RECEIPT_INVALID, "RECEIPT_INVALID"},
	{EXIT_USAGE, "USAGE"},
	{EXIT_INTERNAL, "INTERNAL"},
	{EXIT_INTERRUPTED, "INTERRUPTED"},
};

int err_set(struct err *e, enum exit_code code, const char *fmt, ...)
{
	assert(code != EXIT_AGREE);
	if (e) {
		va_list ap;

		e->code = (int)code;
		va_start(ap, fmt);
		vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
		va_end(ap);
		utf8_plain(e->msg);
	}
	return -(int)code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
	char prefix[ERR_MSG_MAX], all[2 * ERR_MSG_MAX + 2];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(prefix, sizeof(prefix), fmt, ap);
	va_end(ap);
	snprintf(all, sizeof(all), "%s: %s", prefix, e->msg);
	memcpy(e->msg, all, sizeof(e->msg) - 1);
	e->msg[sizeof(e->msg) - 1] = 0;
	utf8_plain(e->msg);
	return -e->code;
}

const char *err_code_name(int code)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].code == code)
			return names[i].name;
	return "UNKNOWN";
}
