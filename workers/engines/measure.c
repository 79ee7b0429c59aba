#include "engines/measure.h"

#include "roofline.h"

int measure_answer(struct channel *c, const struct wire_frame *f, struct err *e)
{
	struct cpu_flags cpu = cpu_flags_detect();
	struct roofline l = {0};
	char file[4096];
	bool given = wire_get(f, "file", 0, file, sizeof(file));
	int r = roofline_measure(&cpu, (int)wire_get_int(f, "threads", 1), given ? file : NULL, &l,
				 e);

	if (r < 0)
		return r;
	wire_begin(&c->out, WIRE_DONE);
	wire_put(&c->out, "threads", "%d", l.n_threads);
	wire_put(&c->out, "read_gb_s", "%.6g", l.read_gb_s);
	wire_put(&c->out, "read_sustained_gb_s", "%.6g", l.read_sustained_gb_s);
	wire_put(&c->out, "int8_gmac_s", "%.6g", l.int8_gmac_s);
	wire_put(&c->out, "huge_pages", "%d", l.huge_pages);
	return channel_send(c, e);
}
