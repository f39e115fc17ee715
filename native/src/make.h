/* Making of a run's directories, files and links, relative to descriptors of their directories.
 *
 * No link is followed, and nothing outside of those directories is touched. What fails or is not plain is undone, and
 * left to Python, which says what is wrong or does it in another way.
 */
#ifndef LAYERSTORE_MAKE_H
#define LAYERSTORE_MAKE_H

#include <stdbool.h>
#include <time.h>

#include "run.h"

enum {
    LS_SET_OWNER = 1,
    LS_SET_MODE = 2,    /* the umask or an access list would have changed it */
    LS_DROP_LISTS = 4,  /* the directory gives new files its access list, which the layer does not have */
    LS_NOT_PLAIN = 8,   /* Python makes what is of this kind */
    LS_REPLACE = 16,    /* a file that has the name is removed first */
};

/* How to make what is of one kind in directories that are alike. */
struct ls_how {
    uint32_t mode;
    uint32_t uid; /* UINT32_MAX: as it is */
    uint32_t gid;
    uint32_t flags;
};

struct ls_directory;

struct ls_operation {
    struct ls_directory *ends; /* not NULL: it gets its times, and is closed; nothing else counts then */
    uint32_t entry;        /* an index in the run */
    int directory;         /* a descriptor */
    int source;            /* of a hard link: a descriptor of the directory that has the file */
    struct ls_text source_base; /* and the file's name there */
    struct ls_how how;
};

/* Return whether a text is a name that a directory can have: one component that leads nowhere else. */
bool ls_is_base(const struct ls_run *run, struct ls_text text);

/* Return the time to set for an entry. */
struct timespec ls_time_of(const struct ls_entry *entry);

/* Return whether an entry may be made here: without attributes that Python judges. */
bool ls_is_makable(const struct ls_run *run, const struct ls_entry *entry);

/* Make the directory that an operation is about, with all but its times, and open it; return an errno, or 0.
 *
 * After an error nothing of it is left.
 */
int ls_make_directory(const struct ls_run *run, const struct ls_entry *entry, const struct ls_operation *operation,
                      int *opened);

/* Do operations in order, up to the first that is left to Python; return how many were done.
 *
 * `error` is what that one has met (an errno; 0 if all were done). Nothing of it is left, but that a file which had its
 * name may be gone. A directory that does not get its times is closed all the same.
 */
size_t ls_make(const struct ls_run *run, const struct ls_operation *operations, size_t count, int *error);

#endif
