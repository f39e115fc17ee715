/* Assembly of a part of a tar: segments are copied, and files are read to their places. */
#ifndef LAYERSTORE_FILL_H
#define LAYERSTORE_FILL_H

#include <stddef.h>
#include <stdint.h>

#include "decode.h"

/* Where a file's content is in the memory, and which file it was when it was read. All is 0 where no file was read. */
struct ls_source {
    int64_t position;
    int64_t device;
    int64_t inode;
    int64_t changed; /* the time of its last change, in nanoseconds */
};

/* Write the bytes of the pieces from `first` to before `last` to `memory`.
 *
 * Files are opened below the directory `root`. No link is followed, and only regular files are opened. Nothing is
 * read of a file that is not the registered one by its size, and its checksum is compared.
 *
 * `sources`, unless it is NULL, has room for as many pieces: it gets the source of each that was not declined.
 *
 * Return the first piece that was declined, or `last`; `filled` gets the number of bytes of all pieces before it. A
 * piece is declined if its name is not plain, if there is no such file, if it is not the registered one, or does not
 * fit. What is then in `memory` after `filled` is undefined. */
size_t ls_fill(const struct ls_pieces *pieces, size_t first, size_t last, int root, uint8_t *memory, size_t length,
               struct ls_source *sources, size_t *filled);

#endif
