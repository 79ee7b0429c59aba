#include "sandbox.h"

#include "paths.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define AUDIT_ARCH_HERE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define AUDIT_ARCH_HERE AUDIT_ARCH_AARCH64
#endif

/* Rights of Landlock ABI 1; later ones are numbered on, by the kernel's landlock.h. */
enum {
	ACCESS_READ = 1 << 2 | 1 << 3,		/* read file, read folder */
	ACCESS_EXECUTE = 1 << 0,
	ACCESS_WRITE_ABI1 = 1 << 1 | 0x1ff0,	/* write file, remove and make anything */
	ACCESS_REFER = 1 << 13,			/* ABI 2 */
	ACCESS_TRUNCATE = 1 << 14,		/* ABI 3 */
	ACCESS_OF_FILES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14,
};

static int landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return abi < 0 ? 0 : (int)abi;
}

static void add_layer(char *layers, size_t size, const char *name)
{
	size_t n = strlen(layers);

	snprintf(layers + n, size - n, "%s%s", n ? " " : "", name);
}

void sandbox_layers(char *out, size_t size)
{
	int abi = landlock_abi();
	char name[32];

	out[0] = '\0';
	add_layer(out, size, "rlimits no-new-privs");
	if (abi > 0) {
		snprintf(name, sizeof(name), "landlock-%d", abi);
		add_layer(out, size, name);
	}
#ifdef AUDIT_ARCH_HERE
	if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0)
		add_layer(out, size, "seccomp");
#endif
}

static int allow(int ruleset, const char *path, uint64_t access, struct err *e)
{
	struct landlock_path_beneath_attr rule = {.allowed_access = access};
	struct stat st;
	int r = 0;

	rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return 0;	/* not there: nothing to allow */
	if (fstat(rule.parent_fd, &st) == 0 && !S_ISDIR(st.st_mode))
		rule.allowed_access &= ACCESS_OF_FILES;
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
		r = paths_errno(e, "Landlock refuses the rule for", path);
	close(rule.parent_fd);
	return r;
}

static int enter_landlock(const struct sandbox *s, int abi, struct err *e)
{
	static const char *const system[] = {"/usr", "/lib", "/lib64", "/bin", "/etc", "/proc",
					     "/dev", "/run/systemd/resolve", "/nix", "/opt"};
	uint64_t handled = ACCESS_READ | ACCESS_EXECUTE | ACCESS_WRITE_ABI1;
	uint64_t see = ACCESS_READ | (s->allow_exec ? ACCESS_EXECUTE : 0);
	struct landlock_ruleset_attr attr = {0};
	int fd, r = 0;

	if (abi >= 2)
		handled |= ACCESS_REFER;
	if (abi >= 3)
		handled |= ACCESS_TRUNCATE;
	attr.handled_access_fs = handled;
	fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (fd < 0)
		return paths_errno(e, "Landlock refuses", "its ruleset");
	for (size_t i = 0; r == 0 && i < sizeof(system) / sizeof(system[0]); i++)
		r = allow(fd, system[i], see, e);
	for (int i = 0; r == 0 && i < s->n_read; i++)
		r = allow(fd, s->read[i], see, e);
	if (r == 0)
		r = allow(fd, "/dev/null", ACCESS_READ | 1 << 1, e);
	if (r == 0)
		r = allow(fd, s->write_dir, handled & ~(uint64_t)ACCESS_EXECUTE, e);
	if (r == 0 && syscall(SYS_landlock_restrict_self, fd, 0) != 0)
		r = paths_errno(e, "Landlock refuses", "to restrict this process");
	close(fd);
	return r;
}

#ifdef AUDIT_ARCH_HERE
/* Calls that a clone never needs answer EPERM. */
static const int refused[] = {
	SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_mount, SYS_umount2,
	SYS_pivot_root, SYS_chroot, SYS_setns, SYS_unshare, SYS_bpf, SYS_perf_event_open,
	SYS_keyctl, SYS_add_key, SYS_request_key, SYS_kexec_load, SYS_init_module,
	SYS_finit_module, SYS_delete_module, SYS_userfaultfd, SYS_reboot, SYS_swapon,
	/* with programs allowed, the list ends here */
	SYS_execve, SYS_execveat,
};

static int enter_seccomp(bool allow_exec)
{
	enum { N = sizeof(refused) / sizeof(refused[0]) };
	struct sock_filter code[N + 6];
	struct sock_fprog program = {.filter = code};
	unsigned count = allow_exec ? N - 2 : N, at = 0;

	code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						  offsetof(struct seccomp_data, arch));
	code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_HERE, 1, 0);
	code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						  offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < count; i++)
		code[at++] = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, (unsigned)refused[i], (uint8_t)(count - i), 0);
	code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	program.len = (unsigned short)at;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}
#endif

int sandbox_enter(const struct sandbox *s, char *layers, size_t size, struct err *e)
{
	struct rlimit none = {0, 0}, file = {s->file_bytes_max, s->file_bytes_max}, now;
	int abi = landlock_abi(), r;
	char name[32];

	layers[0] = '\0';
	setrlimit(RLIMIT_CORE, &none);
	if (s->file_bytes_max && getrlimit(RLIMIT_FSIZE, &now) == 0 &&
	    now.rlim_max > file.rlim_max &&
	    (now.rlim_cur == RLIM_INFINITY || now.rlim_cur > file.rlim_cur))
		setrlimit(RLIMIT_FSIZE, &file);
	signal(SIGXFSZ, SIG_IGN);	/* a file over its limit is an error that can be told */
	add_layer(layers, size, "rlimits");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return paths_errno(e, "giving up", "new privileges");
	add_layer(layers, size, "no-new-privs");
	if (abi > 0) {
		r = enter_landlock(s, abi, e);
		if (r < 0)
			return r;
		snprintf(name, sizeof(name), "landlock-%d", abi);
		add_layer(layers, size, name);
	}
#ifdef AUDIT_ARCH_HERE
	if (enter_seccomp(s->allow_exec) == 0)
		add_layer(layers, size, "seccomp");
	else if (errno != EINVAL && errno != ENOSYS)
		return paths_errno(e, "entering", "the system call filter");
#endif
	return 0;
}

int sandbox_die_with_parent(struct err *e)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
		return paths_errno(e, "binding to", "the parent");
	if (getppid() == 1)
		return err_set(e, EXIT_INTERRUPTED, "the program that started this one is gone");
	return 0;
}
