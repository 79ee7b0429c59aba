/* Programs run to their end: what cannot be started is named, and the folder that was missing. */
#include "provision/process.h"

#include "test.h"

#include <string.h>
#include <unistd.h>

static int run(const char *program, const char *cwd, struct process_result *done, struct err *e)
{
	const char *argv[] = {program, NULL};
	struct process_options o = {.argv = argv, .cwd = cwd};

	return process_run(&o, done, e);
}

int main(void)
{
	char dir[] = "/tmp/assay-process-XXXXXX", want[200];
	struct process_result done;
	struct err e = ERR_NONE;

	CHECK(mkdtemp(dir) != NULL, "a folder");
	CHECK(run("true", dir, &done, &e) == 0 && done.status == 0, "a program runs in it");
	CHECK(run("/no/such/program", dir, &done, &e) == -EXIT_INTERNAL, "one that is not there");
	CHECK_STR(e.msg, "starting /no/such/program: no such file or directory", "is named");
	rmdir(dir);
	CHECK(run("true", dir, &done, &e) == -EXIT_INTERNAL, "a folder that is gone");
	snprintf(want, sizeof(want), "starting true: its working folder %s is gone", dir);
	CHECK_STR(e.msg, want, "is named, not the program");
	return TEST_END();
}
