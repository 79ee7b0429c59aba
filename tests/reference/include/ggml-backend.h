#ifndef TINY_GGML_BACKEND_H
#define TINY_GGML_BACKEND_H
#include "ggml.h"
#endif
