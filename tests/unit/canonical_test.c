/* Canonical JSON: numbers, texts, the seal. */
#include "test.h"

#include "receipt.h"
#include "report/canonical.h"

#include <math.h>

static void check_text(const char *in, const char *want)
{
	json_t *v = canonical_text(in);

	CHECK_STR(json_string_value(v), want, "text \"%s\"", want);
	json_decref(v);
}

int main(void)
{
	json_t *o = json_object();
	char *text, *forged, *at;
	struct err e = ERR_NONE;

	canonical_set(o, "schema_version", json_string(RECEIPT_SCHEMA_VERSION));
	canonical_set(o, "b", canonical_real(0.1));
	canonical_set(o, "a", canonical_real(NAN));
	canonical_set(o, "c", canonical_real(-INFINITY));
	canonical_set(o, "d",
		      canonical_lines("n=12\nname=x=y\nlong=12345678901234567890\nr=1.5\n"));
	text = canonical_compact(o);
	CHECK_STR(text,
		  "{\"a\":\"NaN\",\"b\":0.10000000000000001,\"c\":\"-Infinity\",\"d\":{\"long\":"
		  "\"12345678901234567890\",\"n\":12,\"name\":\"x=y\",\"r\":\"1.5\"},"
		  "\"schema_version\":\"1.0.0\"}",
		  "sorted keys, 17 digits, non-finite numbers as strings");
	free(text);

	canonical_seal(o);
	text = canonical_indented(o);
	CHECK(receipt_check(text, strlen(text), "r.json", &e) == 0, "a sealed receipt stands %s",
	      e.msg);
	forged = strdup(text);
	at = strstr(forged, "12");
	*at = '9';
	CHECK(receipt_check(forged, strlen(forged), "r.json", &e) == -EXIT_RECEIPT_INVALID,
	      "one digit changed");
	CHECK_STR(e.msg,
		  "r.json: content_sha256 does not fit the content: the receipt was changed",
		  "is told");
	CHECK(receipt_check(text, strlen(text) / 2, "r.json", NULL) == -EXIT_RECEIPT_INVALID,
	      "half a receipt");
	CHECK(receipt_check("{}", 2, "r.json", &e) == -EXIT_RECEIPT_INVALID, "an empty one");
	free(forged);
	free(text);
	json_decref(o);

	check_text("plain", "plain");
	check_text("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x99\x82", "café € 🙂");
	check_text("caf\xc3\xa9 \xff \xc3", "café ? ?");
	check_text("\xc0\x80 \xed\xa0\x80 \xf4\x90\x80\x80", "?? ??? ????");
	return TEST_END();
}
