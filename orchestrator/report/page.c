#include "page.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 420, HEIGHT = 190, LEFT = 64, RIGHT = 12, TOP = 12, BOTTOM = 28 };
enum { TICKS_MAX = 12, DOTS_MAX = 200 };

static const char style[] =
	":root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#59636e;--line:#d8dee4;--card:#f6f8fa;"
	"--ink:#0b62c4;--band:#0b62c422;--good:#116329;--goodbg:#dafbe1;--bad:#a40e26;--badbg:#ffebe9;"
	"--warn:#7d4e00;--warnbg:#fff8c5}\n"
	"@media(prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;--soft:#9198a1;--line:#30363d;"
	"--card:#151b23;--ink:#58a6ff;--band:#58a6ff33;--good:#56d364;--goodbg:#12261e;--bad:#ff7b72;"
	"--badbg:#3c1618;--warn:#e3b341;--warnbg:#2e2111}}\n"
	"*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);"
	"font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Liberation Sans',sans-serif}\n"
	"main{max-width:1180px;margin:0 auto;padding:24px 20px 60px}h1{font-size:26px;margin:0 0 4px}\n"
	"h2{font-size:19px;margin:36px 0 4px;border-bottom:1px solid var(--line);padding-bottom:6px}\n"
	"h3{font-size:15px;margin:20px 0 8px}.lead{color:var(--soft);margin:0 0 18px}\n"
	".wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\n"
	"th{font-weight:600;text-align:left;color:var(--soft);font-size:13px}\n"
	"th,td{padding:7px 12px 7px 0;border-bottom:1px solid var(--line);vertical-align:top}\n"
	"td.n,th.n{text-align:right}.n+:not(.n){padding-left:18px}th{white-space:nowrap}\n"
	".who{min-width:12em;overflow-wrap:anywhere}td.n,td strong{white-space:nowrap}\n"
	".told td{border-bottom:0;padding-bottom:1px}.why td{color:var(--soft);padding-top:1px}\n"
	"code{font:13px ui-monospace,Menlo,Consolas,'Liberation Mono',monospace}\n"
	"a{color:var(--ink)}.badge{display:inline-block;padding:1px 9px;border-radius:99px;font-size:13px;"
	"background:var(--card);white-space:nowrap}\n"
	".good{color:var(--good);background:var(--goodbg)}.bad{color:var(--bad);background:var(--badbg)}\n"
	".warn{color:var(--warn);background:var(--warnbg)}\n"
	".charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(340px,1fr));gap:16px}\n"
	"figure{margin:0;padding:12px 12px 6px;background:var(--card);border:1px solid var(--line);"
	"border-radius:8px}figcaption{font-size:14px;font-weight:600;display:flex;"
	"justify-content:space-between;gap:8px;overflow-wrap:anywhere}"
	"figcaption span{color:var(--soft);font-weight:400;white-space:nowrap}\n"
	"svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font-size:11px}\n"
	".grid{stroke:var(--line)}.axis{stroke:var(--soft)}.trace{fill:none;stroke:var(--ink);"
	"stroke-width:2;stroke-linejoin:round}.band{fill:var(--band);stroke:none}.dot{fill:var(--ink)}"
	".dot.miss{fill:var(--bad);stroke:var(--bad)}\n"
	"footer{margin-top:40px;color:var(--soft);font-size:13px}\n";

void page_text(FILE *f, const char *s)
{
	for (; s && *s; s++)
		switch (*s) {
		case '<': fputs("&lt;", f); break;
		case '>': fputs("&gt;", f); break;
		case '&': fputs("&amp;", f); break;
		case '"': fputs("&quot;", f); break;
		case '\'': fputs("&#39;", f); break;
		default: fputc(*s, f);
		}
}

void page_begin(FILE *f, const char *title)
{
	fprintf(f, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
		   "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
		   "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
		   "style-src 'unsafe-inline'\">\n<title>");
	page_text(f, title);
	fprintf(f, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n<h1>", style);
	page_text(f, title);
	fprintf(f, "</h1>\n");
}

void page_end(FILE *f, const json_t *data)
{
	char *text = json_dumps(data, JSON_COMPACT | JSON_SORT_KEYS);

	assert(text);
	fprintf(f, "<footer>Made by assay from receipts. The numbers are in this page as JSON "
		   "(element <code>data</code>).</footer>\n</main>\n"
		   "<script type=\"application/json\" id=\"data\">");
	for (const char *p = text; *p; p++)
		if (*p == '<')
			fputs("\\u003c", f);
		else
			fputc(*p, f);
	fprintf(f, "</script>\n</body>\n</html>\n");
	free(text);
}

void page_badge(FILE *f, const char *kind, const char *text)
{
	fprintf(f, "<span class=\"badge %s\">", kind);
	page_text(f, text);
	fprintf(f, "</span>");
}

/* ---- charts ------------------------------------------------------------------------------- */

struct scale {
	double low, high, floor;	/* floor: where 0 lies on a log scale */
	double ticks[TICKS_MAX];
	int n_ticks;
	bool log;
};

static double nice_step(double range)
{
	double raw = range / 3, base = pow(10, floor(log10(raw))), m = raw / base;

	return base * (m < 1.5 ? 1 : m < 3.5 ? 2 : m < 7.5 ? 5 : 10);
}

static void linear_scale(struct scale *s, const struct page_chart *c)
{
	double low = INFINITY, high = -INFINITY, step;

	for (int i = 0; i < c->n; i++) {
		low = fmin(low, c->points[i].low);
		high = fmax(high, c->points[i].high);
	}
	if (!(high > low)) {
		double pad = fabs(low) > 0 ? 0.1 * fabs(low) : 1;

		low -= pad;
		high += pad;
	}
	/* a change of a percent must not look like a cliff: at least a fifth of the value is shown */
	if (high - low < 0.2 * fabs(high)) {
		double more = (0.2 * fabs(high) - (high - low)) / 2;

		low -= more;
		high += more;
	}
	step = nice_step(high - low);
	s->low = floor(low / step) * step;
	s->high = ceil(high / step) * step;
	for (double t = s->low; t < s->high + step / 2 && s->n_ticks < TICKS_MAX; t += step)
		s->ticks[s->n_ticks++] = fabs(t) < step * 1e-9 ? 0 : t;
}

static void log_scale(struct scale *s, const struct page_chart *c)
{
	double low = INFINITY, high = -INFINITY;
	int step;

	for (int i = 0; i < c->n; i++)
		if (c->points[i].y > 0) {
			low = fmin(low, floor(log10(c->points[i].y)));
			high = fmax(high, ceil(log10(c->points[i].y)));
		}
	if (!(high >= low)) {
		low = -12;
		high = 0;
	}
	for (bool down = true; high - low < 3; down = !down) {
		low -= down;
		high += !down;
	}
	s->log = true;
	s->floor = low - 1;
	s->low = low - 1;
	s->high = high;
	step = (int)ceil((high - low) / 4);
	s->ticks[s->n_ticks++] = s->floor;
	for (double t = low; t <= high && s->n_ticks < TICKS_MAX; t += step)
		s->ticks[s->n_ticks++] = t;
}

static double place_y(const struct scale *s, double y)
{
	if (s->log)
		y = y > 0 ? log10(y) : s->floor;
	return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (y - s->low) / (s->high - s->low));
}

static double place_x(const struct page_chart *c, int i)
{
	double width = WIDTH - LEFT - RIGHT - 16;

	return LEFT + 8 + (c->n > 1 ? width * i / (c->n - 1) : width / 2);
}

static void tick_text(FILE *f, const struct scale *s, double t)
{
	if (s->log && t <= s->floor)
		fputs("0", f);
	else if (s->log)
		fprintf(f, "1e%g", t);
	else if (fabs(t) >= 1e6)
		fprintf(f, "%gM", t / 1e6);
	else if (fabs(t) >= 1e4)
		fprintf(f, "%gk", t / 1e3);
	else
		fprintf(f, "%.6g", t);
}

static void draw_axes(FILE *f, const struct page_chart *c, const struct scale *s)
{
	int shown[] = {0, c->n / 2, c->n - 1};

	for (int i = 0; i < s->n_ticks; i++) {
		double y = TOP + (HEIGHT - TOP - BOTTOM) *
					 (1 - (s->ticks[i] - s->low) / (s->high - s->low));

		fprintf(f,
			"<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
			"<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">",
			LEFT, WIDTH - RIGHT, y, y, LEFT - 6, y + 4);
		tick_text(f, s, s->ticks[i]);
		fprintf(f, "</text>\n");
	}
	fprintf(f, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>\n", LEFT,
		WIDTH - RIGHT, HEIGHT - BOTTOM, HEIGHT - BOTTOM);
	for (int k = 0; k < 3; k++) {
		int i = shown[k];

		if (k && (i == shown[k - 1] || (k == 1 && c->n < 5) ||
			  (k == 2 && strcmp(c->points[i].x, c->points[0].x) == 0)))
			continue;
		fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">", place_x(c, i),
			HEIGHT - 10,
			c->n == 1 || k == 1 ? "middle"
			: k == 0            ? "start"
					    : "end");
		page_text(f, c->points[i].x);
		fprintf(f, "</text>\n");
	}
}

static void draw_values(FILE *f, const struct page_chart *c, const struct scale *s)
{
	bool spread = false;

	for (int i = 0; i < c->n; i++)
		spread = spread || c->points[i].high > c->points[i].low;
	if (spread && !s->log && c->n > 1) {
		fprintf(f, "<polygon class=\"band\" points=\"");
		for (int i = 0; i < c->n; i++)
			fprintf(f, "%.1f,%.1f ", place_x(c, i), place_y(s, c->points[i].high));
		for (int i = c->n - 1; i >= 0; i--)
			fprintf(f, "%.1f,%.1f ", place_x(c, i), place_y(s, c->points[i].low));
		fprintf(f, "\"/>\n");
	}
	fprintf(f, "<polyline class=\"trace\" points=\"");
	for (int i = 0; i < c->n; i++)
		fprintf(f, "%.1f,%.1f ", place_x(c, i), place_y(s, c->points[i].y));
	fprintf(f, "\"/>\n");
	for (int i = 0; i < c->n; i++) {
		const struct page_point *p = &c->points[i];

		if (c->n > DOTS_MAX && !p->bad)
			continue;
		fprintf(f, "<circle class=\"dot%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%g\"><title>",
			p->bad ? " miss" : "", place_x(c, i), place_y(s, p->y),
			p->bad ? 5. : c->n > DOTS_MAX / 4 ? 2.5 : 3.5);
		page_text(f, p->label);
		fprintf(f, ": %.6g ", p->y);
		page_text(f, c->unit);
		fprintf(f, "</title></circle>\n");
	}
}

void page_chart(FILE *f, const struct page_chart *c)
{
	struct scale s = {.low = 0};

	assert(c->n >= 1);
	if (c->log)
		log_scale(&s, c);
	else
		linear_scale(&s, c);
	fprintf(f, "<figure><figcaption>");
	page_text(f, c->title);
	fprintf(f, " <span>");
	page_text(f, c->unit);
	fprintf(f, "</span></figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"",
		WIDTH, HEIGHT);
	page_text(f, c->title);
	fprintf(f, "\">\n");
	draw_axes(f, c, &s);
	draw_values(f, c, &s);
	fprintf(f, "</svg></figure>\n");
}
