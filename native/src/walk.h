/* What copies and comparisons of trees share: directories are read name by name, and what is found is noted.
 *
 * A walk begins in one directory and goes down into the directories in it, up to a depth and until it has seen as many
 * names as its budget allows. What is left is noted, for another walk.
 */
#ifndef LAYERSTORE_WALK_H
#define LAYERSTORE_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* A sequence of bytes that grows. */
struct ls_bytes {
    uint8_t *data;
    size_t used;
    size_t room;
};

/* How deep a walk goes: each level has a descriptor open in each tree. */
#define LS_MAX_DEPTH 24

/* The largest list of names of attributes, and the largest value, from linux/limits.h. */
#define LS_MAX_XATTR 65536

struct ls_walk {
    struct ls_bytes names; /* of directories to enter: a flag, the name, a NUL */
    struct ls_bytes path;  /* of the current directory, relative to the first, with a slash at its end unless empty */
    struct ls_bytes notes; /* what was found: see ls_note */
    uint8_t *listing;      /* for what the kernel says of a directory */
    char *attributes;      /* for names of attributes: LS_MAX_XATTR bytes */
    char *values;          /* for values of attributes: twice as many */
    uint64_t budget;       /* how many more names may be seen before no further directory is entered */
    const uint8_t *stop;   /* set by another thread: end soon, the result is of no use */
    int error;             /* the number of an error that ended the walk; 0: none */
};

/* What a visitor of names gets: the name in the current directory, and its type (DT_REG, ..., or DT_UNKNOWN). */
typedef void ls_visit(void *context, const char *name, unsigned char type);

/* Append bytes; note in the walk if there is no memory for them. */
bool ls_append(struct ls_walk *walk, struct ls_bytes *bytes, const void *data, size_t length);

/* Prepare a walk; return whether there was memory. `ls_walk_end` in any case. */
bool ls_walk_begin(struct ls_walk *walk, uint64_t budget, const uint8_t *stop);
void ls_walk_end(struct ls_walk *walk);

/* Call `visit` for each name in a directory but "." and ".."; an error is kept in the walk. */
void ls_each_name(struct ls_walk *walk, int directory, ls_visit *visit, void *context);

/* The head of a note. The path and then `more` bytes follow it. */
struct ls_head {
    uint32_t kind;
    uint32_t path;
    uint32_t more;
};

/* Note something about a name in the current directory. An empty name is the directory itself. */
void ls_note(struct ls_walk *walk, char kind, const char *name, const void *more, size_t length);

/* Keep the name of a directory, to enter it later, and a flag, which is the byte before the name. */
void ls_keep(struct ls_walk *walk, const char *name, uint8_t flag);

/* Return the kept name at `*at`, and move on to the next one. It is valid until another name is kept. */
const char *ls_kept_name(const struct ls_walk *walk, size_t *at);

/* Go down into a directory, and back up; only the path of the walk changes. */
bool ls_path_down(struct ls_walk *walk, const char *name);
void ls_path_up(struct ls_walk *walk, size_t length);

/* Whether the walk is to end: there was an error, or another thread says so. */
bool ls_walk_ended(const struct ls_walk *walk);

/* Open a directory or a file, without following a link, and, if this is allowed, without changing its time of access.
 * Return -1 with errno set if it cannot be opened. */
int ls_open_directory(int parent, const char *name);
int ls_open_file(int parent, const char *name);

/* A file whose attributes are read: an open one, or one by its name, for what cannot be opened. */
struct ls_attributed {
    int fd;
    const char *name; /* the file's in the directory `fd`; a link is not followed. NULL: the open file itself */
};

/* Read the names of a file's attributes, each with a NUL at its end, into LS_MAX_XATTR bytes. Return their length; 0 if
 * the file system has none; -1 on an error. */
ptrdiff_t ls_list_xattrs(struct ls_attributed file, char *names);
ptrdiff_t ls_get_xattr(struct ls_attributed file, const char *name, char *value);

/* Return how many names in a list are those of attributes that belong to a layer: not those of overlayfs, nor the label
 * that the host's security policy gives each file. */
size_t ls_count_xattrs(const char *names, ptrdiff_t length);
bool ls_is_hosts_own(const char *name);

#endif
