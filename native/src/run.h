/* A run: entries of a tar that follow each other, all of them plain, as packed records.
 *
 * The kernels share it. Nothing in it changes once it was scanned, so that threads may use one run at the same time.
 * Texts are in the run's arena, each with a NUL after it. Segments, payloads and values are in the tar's buffer.
 */
#ifndef LAYERSTORE_RUN_H
#define LAYERSTORE_RUN_H

#include <stddef.h>
#include <stdint.h>

enum ls_type { LS_FILE, LS_SYMLINK, LS_DIRECTORY, LS_HARDLINK };

enum {
    LS_MAX_KINDS = 256,   /* in a run; it ends before another one */
    LS_MAX_XATTRS = 64,   /* of an entry */
    LS_MAX_XATTR_NAME = 255,
    LS_MAX_NAME = 4095,   /* the kernel's limit for a path, without its NUL */
};

struct ls_text {
    uint32_t at; /* an index in the arena */
    uint32_t length;
};

/* What a few different kinds of entries are. */
struct ls_kind {
    int64_t uid;
    int64_t gid;
    uint32_t count; /* how many entries of the run are of it */
    uint16_t mode;  /* permission bits: at most 07777 */
    uint8_t type;   /* an ls_type */
};

struct ls_xattr {
    struct ls_text name;
    size_t value; /* an index in the buffer */
    size_t length;
};

struct ls_entry {
    uint64_t offset;      /* of its first header in the tar */
    size_t segment;       /* the buffer from here to the payload: padding of the last payload, and the headers */
    size_t payload;       /* an index in the buffer */
    size_t size;          /* of the payload; not 0 for files alone */
    int64_t seconds;      /* the time is seconds + nanoseconds / 1e9, for a time before 1970 too */
    uint32_t nanoseconds; /* below 1e9 */
    uint32_t kind;        /* an index in kinds */
    struct ls_text name;  /* as in the tar */
    struct ls_text path;  /* the cleaned name: relative, without ".", ".." and empty components; not empty */
    struct ls_text base;  /* the last component of the path */
    struct ls_text link;  /* the target of a link, as in the tar; not empty for links */
    uint32_t xattrs;      /* an index in xattrs */
    uint32_t xattr_count;
    uint8_t type; /* that of its kind */
};

struct ls_run {
    const uint8_t *buffer;
    size_t length;
    struct ls_entry *entries;
    size_t count, room;
    struct ls_xattr *xattrs;
    size_t xattr_count, xattr_room;
    char *arena;
    size_t arena_length, arena_room;
    struct ls_kind kinds[LS_MAX_KINDS];
    size_t kind_count;
    size_t position; /* the index in the buffer at which the last payload ends */
    size_t padding;  /* the bytes from there to the next header */
    size_t needed;   /* if the buffer is too short for the next entry: bytes from position that it needs, at least */
    uint64_t size;   /* the sum of the lengths of payloads and targets of symbolic links */
};

/* Scan the plain entries of a piece of a tar, up to the first that is not plain or not wholly in the buffer.
 *
 * `position`, `padding`: as in the run, for the entry before. `offset`: the place of the buffer in the tar. No entry
 * begins more than `max_bytes` after the first. The buffer must live as long as the run.
 * Returns 0, or -1 if there is no memory. The run must be freed in both cases.
 */
int ls_scan(struct ls_run *run, const uint8_t *buffer, size_t length, size_t position, size_t padding, uint64_t offset,
            size_t max_entries, size_t max_bytes);

/* Read the headers of one entry, without its payload: a segment that ends with them.
 *
 * `padding`: the bytes before the headers. `size`: what the headers must say of the payload. The run is empty, or has
 * the entry of an earlier call, which this one replaces. Returns 1, 0 if the entry is not plain, -1 if there is no
 * memory.
 */
int ls_scan_headers(struct ls_run *run, const uint8_t *segment, size_t length, size_t padding, uint64_t size);

void ls_run_free(struct ls_run *run);

/* Return the text, which has a NUL after it. */
static inline const char *ls_text(const struct ls_run *run, struct ls_text text)
{
    return run->arena + text.at;
}

/* Return how many bytes the headers of an entry have: whole blocks. Before them is less than a block of padding. */
static inline size_t ls_headers_length(const struct ls_entry *entry)
{
    return (entry->payload - entry->segment) / 512 * 512;
}

/* Return the path of the directory that an entry goes into: empty for the root. */
static inline struct ls_text ls_parent(const struct ls_entry *entry)
{
    uint32_t length = entry->base.at - entry->path.at;

    return (struct ls_text){entry->path.at, length ? length - 1 : 0};
}

#endif
