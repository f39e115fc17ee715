/* Small files, a few in each of many directories: the fields of records. */
#ifndef LAYERSTORE_FIELDS_H
#define LAYERSTORE_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is read: `count` files, each shorter than `limit` bytes, of which the first `needed` must be there. */
struct ls_fields {
    const char *const *names;
    size_t count;
    size_t needed;
    size_t limit;
};

/* Read the files in the directory `base` below an open one, without following a link.
 *
 * `out` gets their contents, each followed by a NUL: at most `count * limit` bytes. A file that is missing has none.
 * Return the length, or -1 if a file is needed and missing, is empty or too long, or cannot be read. */
ptrdiff_t ls_read_fields(int directory, const char *base, const struct ls_fields *fields, uint8_t *out);

#endif
