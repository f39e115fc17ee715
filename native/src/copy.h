/* Copies of the directories of a tree, exact: content, owners, modes, attributes, times.
 *
 * Copied are directories, regular files and symbolic links with one name. Everything else, and everything that fails,
 * is noted, and nothing of it is left in the copy.
 */
#ifndef LAYERSTORE_COPY_H
#define LAYERSTORE_COPY_H

#include "walk.h"

/* What is noted. */
#define LS_COPY_LEFT 'l'         /* a directory: it exists in the copy; what is in it, and its metadata, is to do */
#define LS_COPY_OTHER 'o'        /* something that is not in the copy yet */
#define LS_COPY_OPEN 'm'         /* a directory: only its metadata is to do, once what was noted of it is done */
#define LS_COPY_INACCESSIBLE 'i' /* a directory: only its metadata is to do, once everything in it is done */

/* How the file system can copy content, as far as is known. */
#define LS_COPY_REFLINK 1u
#define LS_COPY_KERNEL 2u

struct ls_copy {
    struct ls_walk walk;
    mode_t masked; /* the bits of a mode that a new file does not get when it is made */
    uid_t uid;     /* the owner of new files */
    gid_t gid;
    unsigned ways;
};

/* Copy what is in an open directory into another, which is empty. */
void ls_copy_directory(struct ls_copy *copy, int source, int target);

#endif
