/* Directories that are open while entries are made in them: those that the kernels have made, and lent ones.
 *
 * A directory gets its times when nothing more is made in it, and is closed then. Until then, whoever opens it too can
 * ask for the times (`ls_directories_find`).
 */
#ifndef LAYERSTORE_DIRECTORIES_H
#define LAYERSTORE_DIRECTORIES_H

#include "make.h"

#include <time.h>

enum {
    LS_MAX_MADE = 24, /* open directories that the kernels have made */
    LS_MAX_LENT = 32,
};

struct ls_directory {
    int fd; /* -1: closed */
    uint32_t length;
    char *path;           /* below the root, with links resolved; the root is the empty path */
    struct timespec time; /* of one that was made */
    struct ls_how *hows;  /* of a lent one: how the kinds of the run are made in it; NULL: it was made */
    size_t how_count;
    uint64_t used; /* when it was last used */
};

struct ls_directories {
    struct ls_directory *all[LS_MAX_MADE + LS_MAX_LENT];
    size_t count, made;
    struct ls_directory *last; /* the last that was found */
    uint64_t clock;
};

/* Return a directory of a path, not yet open; NULL if there is no memory. */
struct ls_directory *ls_directory_new(const char *path, size_t length);

/* Set the times of a directory that was made, and close it; return an errno, or 0. A second call does nothing. */
int ls_directory_end(struct ls_directory *directory);

/* Free a directory. If it was made and is open, it is closed, without its times. */
void ls_directory_free(struct ls_directory *directory);

/* Return the directory that has a path, and note its use; NULL if there is none. */
struct ls_directory *ls_directories_find(struct ls_directories *directories, const char *path, size_t length);

/* Add a directory, of which there is none yet. There must be room: fewer than LS_MAX_MADE, or LS_MAX_LENT. */
void ls_directories_add(struct ls_directories *directories, struct ls_directory *directory);

/* Take out the made directory that was not used for the longest time; NULL if there is room for another one. */
struct ls_directory *ls_directories_oldest(struct ls_directories *directories);

/* Free the lent ones. */
void ls_directories_end_loans(struct ls_directories *directories);

/* Take out one of the made ones; NULL if there is none. */
struct ls_directory *ls_directories_take(struct ls_directories *directories);

void ls_directories_free(struct ls_directories *directories);

#endif
