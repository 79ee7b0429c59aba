/*
 * The Hugging Face hub's conventions: how an URL is made, who may see the token.
 *
 * HF_ENDPOINT names another hub. The token (HF_TOKEN, HF_TOKEN_PATH, HF_HOME/token) goes to the
 * hub's own origin only, and over plain http only to this machine.
 */
#ifndef ASSAY_HUB_H
#define ASSAY_HUB_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>

enum { HUB_URL_MAX = 2560, HUB_TOKEN_MAX = 512 };

struct hub {
	char endpoint[512];        /* no slash at the end */
	char token[HUB_TOKEN_MAX]; /* "" none */
	bool offline;              /* HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE */
};

int hub_read_environment(struct hub *h, struct err *e);

/* {endpoint}/{repository}/resolve/{revision or main}/{file}; parts are percent-encoded. */
int hub_url(const struct hub *h, const char *repository, const char *revision, const char *file,
	    char url[HUB_URL_MAX], struct err *e);
/* hf://owner/name[@revision]/file in the same form. */
int hub_expand(const struct hub *h, const char *hf_url, char url[HUB_URL_MAX], struct err *e);

/* Whether url belongs to the hub: same scheme, host and port. */
bool hub_is_origin(const struct hub *h, const char *url);
bool hub_may_see_token(const struct hub *h, const char *url);

/* scheme://host:port of an URL, lower case, the default port filled in; false when malformed. */
bool hub_origin(const char *url, char *out, size_t bytes);
bool hub_is_loopback(const char *url);

/* Whether the environment's proxy for plain http is another machine: it would read the token. */
bool hub_proxy_is_far(void);

/* The URL without query, fragment and password: they do not belong on a screen or into a log. */
void hub_public_url(const char *url, char *out, size_t bytes);

#endif
