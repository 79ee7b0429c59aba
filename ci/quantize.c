/*
 * llama.cpp's own quantiser on a file, with its own choice of types: what llama-quantize calls.
 * quantize IN.gguf OUT.gguf FTYPE (enum llama_ftype); ci/bits.sh links it with the built reference.
 */
#include "llama.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
	if (argc != 4)
		return 64;
	struct llama_model_quantize_params p = llama_model_quantize_default_params();
	p.ftype = (enum llama_ftype)atoi(argv[3]);
	p.nthread = 1;
	return llama_model_quantize(argv[1], argv[2], &p) != 0;
}
