/* What the files of the scan share: pieces of a buffer that become texts of a run. */
#ifndef LAYERSTORE_SCAN_H
#define LAYERSTORE_SCAN_H

#include "run.h"

#include <stdbool.h>
#include <string.h>

enum { LS_BLOCK = 512 };

/* What became of an attempt to read something. */
enum outcome { DONE, DECLINED, TOO_SHORT, NO_MEMORY };

struct piece {
    const uint8_t *data; /* NULL: there is none */
    size_t length;
};

/* A header of ustar or GNU. */
struct header {
    struct piece name, prefix, link;
    int64_t uid, gid, size, seconds;
    uint16_t mode;
    uint8_t flag;
};

/* Values of the records of a PAX header that change an entry. */
struct records {
    struct piece path, link, size, mtime, uid, gid;
};

/* Return a text field without its first NUL and what follows. */
static inline struct piece until_nul(const uint8_t *data, size_t length)
{
    const uint8_t *end = length ? memchr(data, 0, length) : NULL;

    return (struct piece){data, end ? (size_t)(end - data) : length};
}

/* Read a header; return false for those of v7 and star, and all that is malformed. */
bool ls_read_header(const uint8_t *block, struct header *header);

/* Read the records of a PAX header. Extended attributes are added to the run, in which `first` is the entry's first. */
enum outcome ls_read_records(struct ls_run *run, size_t first, struct piece data, struct records *records);

/* Read a number of a record, or a time in seconds with an optional fraction; return false if it is malformed. The text
 * has at least one byte. */
bool ls_read_decimal(struct piece text, int64_t *value);
bool ls_read_time(struct piece text, int64_t *seconds, uint32_t *nanoseconds);

/* Return room for `count` more elements of `size` bytes in an array; NULL if there is no memory. */
void *ls_make_room(void *array, size_t used, size_t *room, size_t count, size_t size);

/* Copy up to three pieces into the run's arena, one after another, with a NUL at the end. */
enum outcome ls_keep_text(struct ls_run *run, struct ls_text *text, struct piece first, struct piece second,
                          struct piece third);

#endif
