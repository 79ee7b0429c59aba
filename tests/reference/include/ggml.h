/* The parts of a ggml.h that a worker names. Declarations only, ours. */
#ifndef TINY_GGML_H
#define TINY_GGML_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
typedef uint16_t ggml_fp16_t;
enum ggml_type { GGML_TYPE_F32 = 0, GGML_TYPE_F16 = 1 };
enum ggml_op { GGML_OP_NONE, GGML_OP_MUL_MAT, GGML_OP_RESHAPE, GGML_OP_VIEW, GGML_OP_PERMUTE,
	       GGML_OP_TRANSPOSE };
enum ggml_log_level { GGML_LOG_LEVEL_NONE, GGML_LOG_LEVEL_INFO, GGML_LOG_LEVEL_WARN,
		      GGML_LOG_LEVEL_ERROR, GGML_LOG_LEVEL_DEBUG, GGML_LOG_LEVEL_CONT };
struct ggml_tensor {
	enum ggml_type type;
	int64_t ne[4];
	size_t nb[4];
	enum ggml_op op;
	struct ggml_tensor *src[10];
	void *data;
	char name[64];
};
typedef void (*ggml_log_callback)(enum ggml_log_level level, const char *text, void *user_data);
typedef bool (*ggml_backend_sched_eval_callback)(struct ggml_tensor *t, bool ask, void *user_data);
float ggml_fp16_to_fp32(ggml_fp16_t x);
const char *ggml_op_desc(const struct ggml_tensor *t);
const char *ggml_op_name(enum ggml_op op);
const char *ggml_type_name(enum ggml_type type);
#ifdef __cplusplus
}
#endif
#endif
