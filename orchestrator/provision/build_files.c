#include "build_files.h"

#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

bool build_files_is_library(const char *name)
{
	const char *so = strstr(name, ".so");

	return strncmp(name, "lib", 3) == 0 && so && (so[3] == '\0' || so[3] == '.');
}

/* Of what a link points to: that is what is loaded. */
static json_t *look(const char *dir, const char *name, bool times)
{
	char path[PATH_MAX + NAME_MAX];
	struct stat st;
	json_t *o;

	snprintf(path, sizeof(path), "%.4000s/%.250s", dir, name);
	if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
		return NULL;
	o = json_pack("[I]", (json_int_t)st.st_size);
	if (o && times)
		json_array_append_new(o, json_integer((json_int_t)st.st_mtim.tv_sec * 1000000000 +
						      st.st_mtim.tv_nsec));
	return o;
}

json_t *build_files(const char *dir, bool times)
{
	json_t *files = json_object(), *one;
	DIR *list = opendir(dir);
	const struct dirent *d;

	while (list && (d = readdir(list)))
		if (build_files_is_library(d->d_name) && (one = look(dir, d->d_name, times)))
			json_object_set_new(files, d->d_name, one);
	if (list)
		closedir(list);
	return files;
}

bool build_files_changed(const json_t *files, const char *dir, char *what, size_t size)
{
	const char *name;
	json_t *then;

	json_object_foreach((json_t *)(uintptr_t)files, name, then)
	{
		json_t *now = look(dir, name, json_array_size(then) > 1);
		bool same = now && json_equal(now, then);

		if (!same)
			snprintf(what, size, "%.400s/%.100s %s", dir, name,
				 now ? "is not what it was" : "is gone");
		json_decref(now);
		if (!same)
			return true;
	}
	return false;
}
