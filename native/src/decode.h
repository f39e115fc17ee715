/* tar-split lines (github.com/vbatts/tar-split, tar/storage, `Entry`, as JSON of Go's encoder) to packed records. */
#ifndef LAYERSTORE_DECODE_H
#define LAYERSTORE_DECODE_H

#include <stddef.h>
#include <stdint.h>

/* No size of a payload is larger than this, and no block is larger than that of the next line: sums do not overflow. */
#define LS_MAX_PAYLOAD (UINT64_C(1) << 40)
#define LS_MAX_BLOCK ((size_t)1 << 28)

/* A segment and the file entry that follows it. Either may be missing: then its length, or that of its name, is 0. */
struct ls_piece {
    uint64_t size; /* of the payload */
    uint64_t crc;
    uint32_t segment; /* offset in the arena */
    uint32_t segment_length;
    uint32_t name; /* offset in the arena */
    uint32_t name_length;
};

/* Consecutive pieces. */
struct ls_pieces {
    struct ls_piece *piece;
    size_t count, room;
    uint8_t *arena;
    size_t used;
    size_t end; /* offset of the first line that was not decoded */
    size_t next; /* offset of the line after that one; the length of the text if there is none */
    size_t lines; /* how many were decoded */
    uint64_t size; /* of the bytes of the tar */
};

/* Decode the usual lines from `position` on, up to the first that is not usual, or not whole.
 *
 * Return 0, or an error number. In any case, `ls_free_pieces` has to be called afterwards. */
int ls_decode(const uint8_t *text, size_t length, size_t position, struct ls_pieces *pieces);

void ls_free_pieces(struct ls_pieces *pieces);

/* Return the first piece after those, from `first` on, that fit into `room` bytes together; store their size. */
size_t ls_plan(const struct ls_pieces *pieces, size_t first, size_t room, size_t *size);

#endif
