/* Stamps of files: digests of a path, and of what changes with every change of the file: `layerstore_core.diff.stamps`.
 */
#ifndef LAYERSTORE_STAMPS_H
#define LAYERSTORE_STAMPS_H

#include "walk.h"

#define LS_STAMP 16

#define LS_STAMPS_LEFT 'l' /* what is noted: a directory that is to be stamped, with all below it */

/* The stamps that are known, sorted. */
struct ls_stamps {
    const uint8_t *data;
    size_t count;
};

/* Sort stamps by their bytes. */
void ls_sort_stamps(uint8_t *data, size_t count);

/* Write the stamp of a file by its path, relative to the root of the tree; return false if the path is too long. */
bool ls_stamp(uint8_t *stamp, const char *path, size_t length, const struct stat *status);

struct ls_taking {
    struct ls_walk walk;
    struct ls_bytes stamps;
    long long before; /* files that were changed at this time, in nanoseconds, or later have no stamp */
};

/* Take the stamps of an open directory and of what is below it. */
void ls_take_stamps(struct ls_taking *taking, int directory);

bool ls_has_stamp(const struct ls_stamps *stamps, const uint8_t *stamp);

#endif
