#include "provision/build_log.h"
#include "test.h"

/* A line as compilers, linkers and CMake print it, for every row of the table. */
static const struct {
	const char *id, *log;
} cases[] = {
	{"disk-full", "/usr/bin/ld: final link failed: No space left on device\n"},
	{"disk-full", "x.cpp:1: fatal error: error writing to /tmp/ccX.s: File too large\n"},
	{"compiler-killed", "g++: fatal error: Killed signal terminated program cc1plus\n"},
	{"compiler-killed", "virtual memory exhausted: Cannot allocate memory\n"},
	{"no-clang", "sh: 1: clang: not found\n"},
	{"no-clang",
	 "CMake Error at CMakeLists.txt:3 (project):\n  The CMAKE_C_COMPILER:\n\n    clang\n\n"
	 "  is not a full path and was not found in the PATH.\n"},
	{"missing-const",
	 "src/ggml-bitnet-mad.cpp:811:18: error: cannot initialize a variable of type 'int8_t *' (aka "
	 "'signed char *') with an rvalue of type 'const int8_t *' (aka 'const signed char *')\n"},
	{"missing-const",
	 "/x/src/ggml-bitnet-mad.cpp:811:33: error: invalid conversion from "
	 "‘const int8_t*’ {aka ‘const signed char*’} to ‘int8_t*’ [-fpermissive]\n"},
	{"missing-chrono", "common/log.cpp:28:17: error: 'chrono' is not a member of 'std'\n"},
	{"missing-chrono", "common/log.cpp:28:22: error: ‘std::chrono’ has not been declared\n"},
	{"missing-chrono",
	 "common/log.cpp:28:17: error: no member named 'chrono' in namespace 'std'\n"},
	{"missing-lut-header",
	 "ggml/include/../../ggml.c:44:10: fatal error: 'bitnet-lut-kernels.h' file not found\n"},
	{"missing-lut-header",
	 "include/ggml-bitnet.h:9:10: fatal error: bitnet-lut-kernels.h: No such "
	 "file or directory\n"},
	{"missing-submodule",
	 "CMake Error at CMakeLists.txt:60 (add_subdirectory):\n  The source directory\n\n"
	 "    /x/3rdparty/llama.cpp\n\n  does not contain a CMakeLists.txt file.\n"},
	{"no-cmake",
	 "CMake Error at CMakeLists.txt:1 (cmake_minimum_required):\n  CMake 3.28 or higher is "
	 "required.  You are running version 3.25.1\n"},
	{"no-builder", "CMake Error: CMake was unable to find a build program corresponding to "
		       "\"Unix Makefiles\".  CMAKE_MAKE_PROGRAM is not set.\n"},
	{"no-cxx-library", "src/a.cpp:1:10: fatal error: 'cstdint' file not found\n"},
	{"no-cxx-library", "/usr/bin/ld: cannot find -lstdc++: No such file or directory\n"},
	{"mixed-submodule",
	 "3rdparty/llama.cpp/ggml/src/ggml-aarch64.c:20:10: fatal error: 'gemm-config.h' file not found\n"},
	{"mixed-submodule", "ggml-cpu.c:9:10: fatal error: gemm-config.h: No such file or directory\n"},
	{"undefined-reference", "llama.c:(.text+0x1): undefined reference to `llama_model_free'\n"},
	{"old-instruction-set",
	 "x.cpp:3:9: error: inlining failed in call to 'always_inline' '_mm256_add_epi8': target specific "
	 "option mismatch\n"},
	{"old-instruction-set", "gcc: error: unrecognized command-line option '-mavxvnni'\n"},
};

static void check_signatures(void)
{
	struct build_digest d;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		build_log_digest(&d, cases[i].log, "");
		CHECK_STR(d.signature ? d.signature->id : "none", cases[i].id, "recognised: %.60s",
			  cases[i].id);
	}
	for (const struct build_signature *s = build_signatures; s->id; s++) {
		int n = 0;

		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
			n += strcmp(cases[i].id, s->id) == 0;
		CHECK(n > 0, "signature %s has a case here", s->id);
	}
}

static void check_digest(void)
{
	static const char log[] =
		"[1/9] Building CXX object a.o\n"
		"-- Looking for error.h - not found\n"
		"FAILED: b.o \n"
		"/usr/bin/c++ -O3 -c /root/dir/b.cpp\n"
		"/root/dir/b.cpp:3:1: error: expected ';' after x\n"
		"/root/dir/b.cpp:9:1: error: expected ';' after x\n"
		"\033[1m/root/dir/c.cpp:4:2: \033[31merror: \033[mbad\n"
		"warning: error in a warning: none\n"
		"ninja: build stopped: subcommand failed.\n";
	struct build_digest d;
	char text[2000];

	build_log_digest(&d, log, "/root/dir");
	CHECK(d.n_errors == 2, "two distinct errors, got %d", d.n_errors);
	CHECK_STR(d.errors[0], "b.cpp:3:1: error: expected ';' after x", "the root is left out");
	CHECK_STR(d.errors[1], "c.cpp:4:2: error: bad", "so are colours");
	CHECK_STR(d.command, "/usr/bin/c++ -O3 -c b.cpp", "the failing command");
	CHECK(!d.signature, "no known failure");
	build_log_print(&d, text, sizeof(text));
	CHECK(strstr(text, "failing command: /usr/bin/c++"), "printed for people");
	build_log_digest(&d, "", "");
	CHECK(d.n_errors == 0 && !d.command[0], "an empty log has nothing");
}

int main(void)
{
	check_signatures();
	check_digest();
	return TEST_END();
}
