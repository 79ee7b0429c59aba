#include "version.h"

#include <archive.h>
#include <curl/curl.h>
#include <git2.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <uv.h>

#include "build_id.h"

const char *version_build_id(void)
{
	return ASSAY_BUILD_ID;
}

int version_print(bool json)
{
	char git2[32];
	int major, minor, patch;

	git_libgit2_version(&major, &minor, &patch);
	snprintf(git2, sizeof(git2), "%d.%d.%d", major, minor, patch);
	if (json)
		printf("{\"name\":\"assay\",\"version\":\"%s\",\"build\":\"%s\",\"libraries\":{"
		       "\"curl\":\"%s\",\"git2\":\"%s\",\"uv\":\"%s\",\"jansson\":\"%s\","
		       "\"openssl\":\"%s\",\"archive\":\"%s\"}}\n",
		       ASSAY_VERSION, ASSAY_BUILD_ID, curl_version_info(CURLVERSION_NOW)->version,
		       git2, uv_version_string(), jansson_version_str(),
		       OpenSSL_version(OPENSSL_VERSION_STRING), archive_version_string());
	else
		printf("assay %s (build %s)\n", ASSAY_VERSION, ASSAY_BUILD_ID);
	return 0;
}

const char *version_library(int i, char *version, size_t size)
{
	static const char *const names[VERSION_LIBRARIES] = {"libgit2", "libcurl", "libarchive",
							     "libuv", "jansson", "openssl"};
	int major, minor, patch, archive = archive_version_number();

	git_libgit2_version(&major, &minor, &patch);
	switch (i) {
	case 0:
		snprintf(version, size, "%d.%d.%d", major, minor, patch);
		break;
	case 1:
		snprintf(version, size, "%s", curl_version_info(CURLVERSION_NOW)->version);
		break;
	case 2:
		snprintf(version, size, "%d.%d.%d", archive / 1000000, archive / 1000 % 1000,
			 archive % 1000);
		break;
	case 3:
		snprintf(version, size, "%s", uv_version_string());
		break;
	case 4:
		snprintf(version, size, "%s", jansson_version_str());
		break;
	default:
		snprintf(version, size, "%s", OpenSSL_version(OPENSSL_VERSION_STRING));
		break;
	}
	return names[i];
}
