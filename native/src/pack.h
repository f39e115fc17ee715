/* Tar entries of plain files: the header that `layerstore_core.tar.encode` makes, and the content.
 *
 * Plain are directories, symbolic links and small regular files with one name, with an ASCII path, and without
 * attributes. A PAX header holds a long path, or a part of a second.
 */
#ifndef LAYERSTORE_PACK_H
#define LAYERSTORE_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Larger files are not plain. */
#define LS_PACK_FILE (1 << 17)

/* More than an entry ever needs: two headers, a PAX record of a path, the content. */
#define LS_PACK_ROOM (LS_PACK_FILE + (1 << 14))

/* Append the entry of a name in an open directory to a tar.
 *
 * `above` is the directory's path in the tar, with a slash at its end unless empty; `room` has LS_PACK_ROOM bytes, and
 * `names` has LS_MAX_XATTR of them. Return the length of the entry; 0 if the file is not plain, or anything fails. */
size_t ls_pack(int directory, const char *above, const char *name, uint8_t *room, char *names);

#endif
