/* Comparisons of the directories of two trees, also with stamps of the upper one.
 *
 * Two files are equal if type, mode, owner, device, size, time, link target, attributes and content are equal; for
 * directories, size and time do not count. The rules are those of `layerstore_core.diff.compare`.
 */
#ifndef LAYERSTORE_COMPARE_H
#define LAYERSTORE_COMPARE_H

#include "stamps.h"
#include "walk.h"

/* What is noted of a name. */
#define LS_COMPARE_ADD 'A'
#define LS_COMPARE_MODIFY 'C'
#define LS_COMPARE_DELETE 'D'
#define LS_COMPARE_NAME 'n'   /* of a file with several names in a tree; more: struct ls_inodes */
#define LS_COMPARE_OTHER 'o'  /* it could not be compared; nothing else was noted of it */
#define LS_COMPARE_NEW 'u'    /* a directory that is only in the upper tree; what is in it is to do */
#define LS_COMPARE_SAME 's'   /* a directory of both trees, which is one inode; what is in it is to do */
#define LS_COMPARE_LEFT 'l'   /* a directory of both trees; its attributes, and what is in it, are to do */

#define LS_COMPARE_UNTOUCHED 't' /* a directory of both trees, whose stamp is known; what is in it is to do */

/* Device and inode of a file in the two trees; `in_lower` is 0 if the lower tree has none. */
struct ls_inodes {
    uint64_t upper[2];
    uint64_t lower[2];
    uint64_t in_lower;
};

struct ls_comparison {
    struct ls_walk walk;     /* its path begins with that of the directory that is compared, if there are stamps */
    struct ls_stamps stamps; /* of the upper tree, from when it was equal to the lower one */
    uint64_t device;         /* stamps count only on this one */
};

/* Compare what is in an open directory of the upper tree with what is in one of the lower tree.
 *
 * `untouched`: its stamp is known, so that no name in it was added or removed. */
void ls_compare_directory(struct ls_comparison *comparison, int upper, int lower, bool untouched);

#endif
