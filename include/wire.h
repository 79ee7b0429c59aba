/*
 * Everything orchestrator and worker say to each other. This header is the specification.
 *
 * Frames travel on a descriptor of their own (number in the environment variable ASSAY_WIRE_FD,
 * usually 3; a stream socket, read and written), so that nothing an engine prints can corrupt
 * them. A frame is
 *
 *	offset  size  field
 *	0       4     payload bytes, little-endian, at most WIRE_PAYLOAD_MAX
 *	4       2     header bytes, little-endian: the first part of the payload
 *	6       1     type (enum wire_type)
 *	7       1     0
 *	8       …     header: lines "key=value\n", UTF-8, no NUL, keys [A-Za-z0-9_.-], keys may
 *			repeat; a key that is not known is passed over
 *	…       …     body: the rest of the payload; its form depends on the type
 *
 * Numbers in headers are decimal; in bodies little-endian int32, uint32 or IEEE float32.
 *
 * The conversation (o = orchestrator, w = worker; one request in flight, exactly one terminal
 * answer each, marked *):
 *
 *	w  HELLO      protocol=1 engine= build= isa= features=tokenize,evaluate,trace,replay,…
 *	o  OPEN       model= [tokenizer= threads=0 (all) ctx= ubatch= profile= isa= kv=f16|f32
 *	              override=KEY=TYPE:VALUE … vocab_only=0|1 reproduce_defects=0|1
 *	              pin=0|1]
 *	w *OPENED     arch= n_vocab= n_layer= n_embd= n_ff= n_head= n_kv_head= head_dim= n_ctx= bos= eos=
 *	              eot= add_bos= profile= isa= weights= note= open_us= peak_kib=
 *	o  TOKENIZE   add_bos=0|1 parse_special=0|1; body: UTF-8 text
 *	w *TOKENS     body: int32 ids
 *	o  DETOKENIZE body: int32 ids
 *	w *PIECES     body: for each id uint32 length, then that many bytes
 *	o  TEMPLATE   name= [system=N]; body: N bytes of system prompt, then the user's
 *	w *TEMPLATED  name= why= add_bos= parse_special= stop=TEXT … (line ends as \n, \ as \\);
 *	              body: the formatted prompt
 *	o  EVALUATE   single=0|1 batch=N logits=all|last|none greedy=N stop=ID …
 *	              trace=none|all|STAGE,… values=0|1 splice_layer=K temperature=
 *	              top_k= top_p= seed= timed=0|1; body: int32 ids of the prompt [n=tokens], then for a splice float32
 *	              [n_tokens, n_embd]; `tokens` tells how many ids there are
 *	w  TRACE      a record of trace.h: name= stage= layer= seq= dtype= shape=a,b,c,d (slowest first)
 *	              blake3= rms= n= offset= (of this part in values); body: float32 values or empty
 *	w  LOGITS     pos= step= (0 prefill, 1… decode) [token=ID chosen after this position]
 *	              [margin=top1 − top2] [nonfinite=how many logits are NaN or infinite];
 *	              body: float32 [n_vocab] (empty with logits=none)
 *	w *DONE       n_pos= eval_us= [prefill_us= until the prompt's last answer] peak_kib=
 *	              [pace_ns=] kernel.NAME=calls in this request …
 *	o  REPLAY     layer= stage= pos0= n_tokens= inputs=STAGE:ELEMENTS,… [variant=]; body: float32
 *	              inputs, one after the other in the order named; no inputs: int32 ids [n_tokens]
 *	w  TRACE …  w *DONE
 *	o  WEIGHTS    [name=TENSOR values=0|1]
 *	w  WEIGHT     name= type= shape= sha256= (of the dequantised little-endian float32) n= offset=
 *	w *DONE
 *	w  NOTE       body: one line for people; also a sign of life during long work
 *	w *FAIL       code= (exit code of err.h); body: the sentence
 *	o  MEASURE    threads=N [file=PATH: how fast it is read]: what this machine can give (assay's own worker only)
 *	w *DONE       threads= read_gb_s= read_sustained_gb_s= int8_gmac_s= huge_pages=
 *	o  BYE        the worker ends; so does end of file
 *
 * timed=1: somebody measures. LOGITS without a body may wait until DONE, so that no reader runs within
 * what is measured, and pace_ns tells how long a fixed piece of work took beside it, the mean of before and after.
 *
 * An answer to a type that a worker does not know is FAIL with code=64; the session goes on.
 * A frame that breaks a limit ends the session on either side.
 */
#ifndef ASSAY_WIRE_H
#define ASSAY_WIRE_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	WIRE_PROTOCOL = 1,
	WIRE_HEAD_BYTES = 8,
	WIRE_HEADER_MAX = 65535,
	WIRE_PAYLOAD_MAX = 64 << 20,	/* a longer tensor is sent in parts (offset=) */
	WIRE_PART_MAX = 4 << 20,	/* what our own workers put into one part, bytes */
};

enum wire_type {
	WIRE_HELLO = 1,
	WIRE_OPEN,
	WIRE_OPENED,
	WIRE_TOKENIZE,
	WIRE_TOKENS,
	WIRE_DETOKENIZE,
	WIRE_PIECES,
	WIRE_TEMPLATE,
	WIRE_TEMPLATED,
	WIRE_EVALUATE,
	WIRE_TRACE,
	WIRE_LOGITS,
	WIRE_DONE,
	WIRE_REPLAY,
	WIRE_WEIGHTS,
	WIRE_WEIGHT,
	WIRE_NOTE,
	WIRE_FAIL,
	WIRE_BYE,
	WIRE_MEASURE,
	WIRE_TYPE_END,
};

/* One decoded frame. Borrows the decoder's buffer until the next wire_next or wire_feed. */
struct wire_frame {
	enum wire_type type;
	const char *header;	/* header_bytes of "key=value\n" lines, checked */
	size_t header_bytes;
	const uint8_t *body;	/* body_bytes; 8-byte aligned when there are any */
	size_t body_bytes;
};

/* Bytes in, frames out; does no I/O. Zero-initialise; wire_decoder_free accepts empty. */
struct wire_decoder {
	uint8_t *buf;
	size_t start, end, cap;
	uint8_t *body;		/* aligned copy of the current frame's body where needed */
	size_t body_cap;
	struct err failed;	/* sticky: a broken stream stays broken */
};

/* Appends n bytes as received. Call wire_next until it returns 0 before feeding more. */
int wire_feed(struct wire_decoder *d, const void *bytes, size_t n, struct err *e);

/*
 * 1 and *f when a whole frame is there, 0 when more bytes are needed, negative when broken
 * (EXIT_WORKER with the sentence; a size over its limit is refused as soon as the head is there).
 * A type from WIRE_TYPE_END up is passed on: the receiver answers or refuses it.
 */
int wire_next(struct wire_decoder *d, struct wire_frame *f, struct err *e);

/* Bytes held of a frame that is not complete: not 0 at end of file means that it was cut off. */
size_t wire_pending(const struct wire_decoder *d);

void wire_decoder_free(struct wire_decoder *d);

/* Builds one frame. Zero-initialise; errors are sticky and reported by wire_finish. */
struct wire_builder {
	uint8_t *buf;		/* the frame so far, head included */
	size_t n, cap;
	size_t header_bytes;
	bool in_body, failed;
};

void wire_begin(struct wire_builder *b, enum wire_type type);
void wire_put(struct wire_builder *b, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));		/* newlines in values become spaces */
void wire_body(struct wire_builder *b, const void *bytes, size_t n); /* appends; ends the header */
/* Fills in the head. The frame is b->buf[0..b->n), valid until the next wire_begin. */
int wire_finish(struct wire_builder *b, struct err *e);
void wire_builder_free(struct wire_builder *b);

/* Header access: the value of key's nth occurrence into out (cut to size); false when absent. */
bool wire_get(const struct wire_frame *f, const char *key, int nth, char *out, size_t size);
/* `absent` also where the value is not a number. */
int64_t wire_get_int(const struct wire_frame *f, const char *key, int64_t absent);
double wire_get_real(const struct wire_frame *f, const char *key, double absent);
/* Whether a list with commas (features, logits, trace) names it; a missing key is an empty list. */
bool wire_lists(const struct wire_frame *f, const char *key, const char *name);
/* Iterates all lines: *at starts 0; false at the end. Key and value borrow the frame. */
bool wire_each(const struct wire_frame *f, size_t *at, const char **key, size_t *key_bytes,
	       const char **value, size_t *value_bytes);

const char *wire_type_name(enum wire_type type);	/* "HELLO", …; "unknown" */
bool wire_terminal(enum wire_type type);	/* one of the answers marked * above */

#endif
