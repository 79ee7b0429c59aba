#include "hub.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *env(const char *name)
{
	const char *s = getenv(name);

	return s && *s ? s : NULL;
}

static bool is_on(const char *name)
{
	const char *s = env(name);

	return s && (strcmp(s, "1") == 0 || strcasecmp(s, "true") == 0 ||
		     strcasecmp(s, "on") == 0 || strcasecmp(s, "yes") == 0);
}

static void read_token(struct hub *h)
{
	const char *token = env("HF_TOKEN"), *path = env("HF_TOKEN_PATH");
	const char *hf = env("HF_HOME"), *home = env("HOME");
	char file[1024];
	FILE *f;

	if (token) {
		snprintf(h->token, sizeof(h->token), "%s", token);
	} else {
		if (path)
			snprintf(file, sizeof(file), "%s", path);
		else if (hf)
			snprintf(file, sizeof(file), "%s/token", hf);
		else
			snprintf(file, sizeof(file), "%s/.cache/huggingface/token",
				 home ? home : "");
		f = fopen(file, "re");
		if (f && !fgets(h->token, sizeof(h->token), f))
			h->token[0] = '\0';
		if (f)
			fclose(f);
	}
	h->token[strcspn(h->token, "\r\n")] = '\0';
}

int hub_read_environment(struct hub *h, struct err *e)
{
	const char *endpoint = env("HF_ENDPOINT");
	char origin[300];
	size_t n;

	memset(h, 0, sizeof(*h));
	snprintf(h->endpoint, sizeof(h->endpoint), "%s",
		 endpoint ? endpoint : "https://huggingface.co");
	for (n = strlen(h->endpoint); n > 0 && h->endpoint[n - 1] == '/'; n--)
		h->endpoint[n - 1] = '\0';
	if (!hub_origin(h->endpoint, origin, sizeof(origin)))
		return err_set(e, EXIT_USAGE, "HF_ENDPOINT: expected https://HOST, got \"%s\"",
			       h->endpoint);
	h->offline = is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE");
	read_token(h);
	for (const char *p = h->token; *p; p++)
		if (!isgraph((unsigned char)*p))
			return err_set(e, EXIT_USAGE,
				       "the hub's token contains a space or control character");
	return 0;
}

static void encode(char *out, size_t bytes, const char *s)
{
	size_t n = strlen(out);

	for (; *s && n + 4 < bytes; s++) {
		if (isalnum((unsigned char)*s) || strchr("-._~/@+,=", *s))
			out[n++] = *s;
		else
			n += (size_t)snprintf(out + n, bytes - n, "%%%02X", (unsigned char)*s);
		out[n] = '\0';
	}
}

int hub_url(const struct hub *h, const char *repository, const char *revision, const char *file,
	    char url[HUB_URL_MAX], struct err *e)
{
	int n = snprintf(url, HUB_URL_MAX, "%s/%s/resolve/%s/", h->endpoint, repository,
			 revision ? revision : "main");

	if (n < 0 || (size_t)n + 3 * strlen(file) + 1 >= HUB_URL_MAX)
		return err_set(e, EXIT_USAGE, "the URL of %s/%s is too long", repository, file);
	encode(url, HUB_URL_MAX, file);
	return 0;
}

int hub_expand(const struct hub *h, const char *hf_url, char url[HUB_URL_MAX], struct err *e)
{
	char copy[2048], *name, *file, *at;

	snprintf(copy, sizeof(copy), "%s", hf_url + strlen("hf://"));
	name = strchr(copy, '/');
	file = name ? strchr(name + 1, '/') : NULL;
	if (!file)
		return err_set(e, EXIT_USAGE, "expected hf://owner/name/file, got \"%s\"", hf_url);
	*file++ = '\0';
	at = strchr(name, '@');
	if (at)
		*at++ = '\0';
	return hub_url(h, copy, at, file, url, e);
}

bool hub_origin(const char *url, char *out, size_t bytes)
{
	bool tls = strncasecmp(url, "https://", 8) == 0;
	const char *host = url + (tls ? 8 : 7), *port;
	size_t n;
	int w;

	if (!tls && strncasecmp(url, "http://", 7) != 0)
		return false;
	n = strcspn(host, "/?#");
	for (size_t i = 0; i < n; i++) /* what parsers disagree on is no host */
		if (!isalnum((unsigned char)host[i]) && !strchr("-._~:[]%", host[i]))
			return false;
	port = *host == '[' ? strchr(host, ']') : host;
	if (!port)
		return false;
	port = memchr(port, ':', n - (size_t)(port - host));
	w = snprintf(out, bytes, "%s://%.*s%s", tls ? "https" : "http", (int)n, host,
		     port  ? ""
		     : tls ? ":443"
			   : ":80");
	for (char *p = out; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return n > 0 && w > 0 && (size_t)w < bytes;
}

bool hub_is_origin(const struct hub *h, const char *url)
{
	char a[300], b[300];

	return hub_origin(url, a, sizeof(a)) && hub_origin(h->endpoint, b, sizeof(b)) &&
	       strcmp(a, b) == 0;
}

bool hub_is_loopback(const char *url)
{
	char origin[300], *host;

	if (!hub_origin(url, origin, sizeof(origin)))
		return false;
	host = strstr(origin, "://") + 3;
	if (strncmp(host, "[::1]:", 6) == 0 || strncmp(host, "localhost:", 10) == 0)
		return true;
	return strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == strcspn(host, ":");
}

bool hub_may_see_token(const struct hub *h, const char *url)
{
	return h->token[0] && hub_is_origin(h, url) &&
	       (strncasecmp(url, "https://", 8) == 0 || hub_is_loopback(url));
}

bool hub_proxy_is_far(void)
{
	static const char *const names[] = {"http_proxy", "all_proxy", "ALL_PROXY"};
	char url[600];

	for (int i = 0; i < 3; i++) {
		const char *proxy = env(names[i]), *at;

		if (!proxy)
			continue;
		if (strstr(proxy, "://"))
			proxy = strstr(proxy, "://") + 3;
		if ((at = strrchr(proxy, '@')))
			proxy = at + 1;
		snprintf(url, sizeof(url), "http://%s", proxy);
		return !hub_is_loopback(url);
	}
	return false;
}

void hub_public_url(const char *url, char *out, size_t bytes)
{
	const char *authority = strstr(url, "://"), *host, *at;
	size_t end = strcspn(url, "?#");

	authority = authority ? authority + 3 : url;
	host = authority;
	at = memchr(authority, '@', strcspn(authority, "/?#"));
	for (; at; at = memchr(host, '@', strcspn(host, "/?#")))
		host = at + 1;
	snprintf(out, bytes, "%.*s%.*s", (int)(authority - url), url,
		 (int)(url + end > host ? url + end - host : 0), host);
}
