/* One directory of an overlay's upper layer, compared with the lower directories that overlayfs merges it with.
 *
 * The rules of overlayfs are those of Linux, Documentation/filesystems/overlayfs.rst: the uppermost layer that has a name
 * decides, and a character device 0:0 is a whiteout.
 */
#ifndef LAYERSTORE_UPPER_H
#define LAYERSTORE_UPPER_H

#include "walk.h"

/* What is noted of a name; nothing is noted of one that has not changed. */
#define LS_UPPER_ADD 'A'
#define LS_UPPER_MODIFY 'C'
#define LS_UPPER_OTHER 'o' /* it was not compared: a directory, a whiteout, a hard link, a file of equal status, ... */

/* Compare what is in an open directory with what is in others, the uppermost first. */
void ls_compare_upper(struct ls_walk *walk, int upper, const int *lowers, size_t count);

#endif
