/*
 * The cache of models on disk.
 *
 *	<root>/CACHEDIR.TAG
 *	<root>/models/<sha256>/model.gguf		verified; read-only; nothing else has this
 *name <root>/models/<sha256>/model.json		what it is, and its stamp (size, time,
 *inode) <root>/models/<sha256>/model.gguf.part		a transfer under way, with …
 *	<root>/models/<sha256>/model.gguf.part.journal	… what of it is on disk (partlog.h)
 *	<root>/models/<sha256>/lease			shared flock by everyone who uses the model
 *	<root>/locks/<sha256>				exclusive flock by who fetches, repairs,
 *deletes
 *
 * A file that is no GGUF keeps its own name (tokenizer.json). root is $ASSAY_CACHE, else
 * $XDG_CACHE_HOME/assay, else ~/.cache/assay.
 */
#ifndef ASSAY_STORE_H
#define ASSAY_STORE_H

#include "digest.h"
#include "err.h"

#include <stdbool.h>
#include <stdint.h>

enum { STORE_PATH_MAX = 1024 };

struct store {
	char root[STORE_PATH_MAX];
};

struct store_blob {
	char sha256_hex[DIGEST_HEX];
	char dir[STORE_PATH_MAX];
	char path[STORE_PATH_MAX]; /* the final name */
	char part[STORE_PATH_MAX];
	char journal[STORE_PATH_MAX];
	char meta[STORE_PATH_MAX];
	char lease[STORE_PATH_MAX];
	char lock[STORE_PATH_MAX];
};

struct store_meta {
	char id[80], tier[20], file[256], licence[208], source[2048];
	char origin[20]; /* "downloaded", "adopted", "generated" */
	char sha256_hex[DIGEST_HEX];
	int64_t size;
	int64_t mtime_ns; /* with size and inode: the stamp */
	int64_t inode;
	int64_t created_s; /* Unix time */
};

enum store_state {
	STORE_ABSENT,
	STORE_PARTIAL, /* only a .part */
	STORE_READY,   /* there, and the stamp says it is what was verified */
	STORE_UNSURE,  /* there, but the stamp differs or is missing: hash it */
};

/* printf into a path; an error when it does not fit. */
int store_path(char out[STORE_PATH_MAX], struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* "what path: why" from errno: no room is NO_SPACE, a cache that cannot be there USAGE. */
int store_failed(struct err *e, const char *what, const char *path);

/* Finds the root (root NULL: by the environment) and makes it with its tag. */
int store_open(struct store *s, const char *root, struct err *e);

/* Only names, touches nothing. file is the lockfile's `file`. */
int store_blob(const struct store *s, const char *sha256_hex, const char *file,
	       struct store_blob *b, struct err *e);
int store_make_dir(const struct store_blob *b, struct err *e);

enum store_state store_state(const struct store_blob *b);

/* Absent or unreadable metadata is an error. */
int store_meta_read(const char *path, struct store_meta *m, struct err *e);

/*
 * The verified file at `from` gets its final name: fsync, read-only, rename, fsync of the folder,
 * metadata with a fresh stamp; the journal goes. m's stamp is filled in.
 */
int store_commit(const struct store_blob *b, const char *from, struct store_meta *m, struct err *e);
/* A new stamp after a full hash of the final file agreed. */
int store_restamp(const struct store_blob *b, struct store_meta *m, struct err *e);

/*
 * Takes the lock of a blob. Returns a descriptor to close, or -1 with busy set when another process
 * has it, or a negative error code.
 */
int store_lock(const struct store_blob *b, bool *busy, struct err *e);
/* The same, but waits for it as long as it takes: the descriptor, or negative. */
int store_lock_wait(const struct store_blob *b, struct err *e);
/*
 * A shared lease on the blob whose file this is, by whatever path or link; closed with the process
 * or by close(). -1: the file is none of a cache's, or it is being deleted.
 */
int store_lease(const char *path);
/*
 * The exclusive counterpart, for who deletes: -1 while somebody holds a lease, else a descriptor.
 * Until it is closed nobody gets a lease. A blob that never had one gives a descriptor too.
 */
int store_claim(const struct store_blob *b);
/* Whether somebody holds a lease or the lock. */
bool store_in_use(const struct store_blob *b);

/*
 * The file of a lockfile entry if it is in the cache and its stamp holds. Otherwise MODEL_LOAD with
 * the call that fetches it. id is an entry of the built-in lockfile, or 64 hex digits.
 */
int store_find(const char *id, char path[STORE_PATH_MAX], struct err *e);

struct store_item {
	struct store_blob blob;
	struct store_meta meta; /* id "" when there is none */
	enum store_state state;
	int64_t bytes;      /* on disk, all files of it */
	int64_t part_bytes; /* allocated in a .part */
	int64_t used_s;     /* when last read or written */
	bool in_use;
};

typedef int store_item_fn(void *ctx, const struct store_item *item, struct err *e);

/* Every blob in the order of their hashes. Folders that are no blob of ours are left out. */
int store_each(const struct store *s, store_item_fn *fn, void *ctx, struct err *e);

/*
 * Deletes what this program made of a blob: the model, its metadata, parts, unpacked files. The
 * lock must be held; files of unknown names stay, and the folder with them. Bytes freed, or
 * negative.
 */
int64_t store_delete(const struct store_blob *b, bool only_partial, struct err *e);

/* Bytes on disk of a folder and all below it. */
int64_t store_tree_bytes(const char *path);

#endif
