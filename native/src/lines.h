/* Lines of tar-split: the twin of `codec.encode_segment` and `encode_file`, for all entries of a run. */
#ifndef LAYERSTORE_LINES_H
#define LAYERSTORE_LINES_H

#include "run.h"

/* Return how many bytes the lines have at most; 0 if that is too many to count. */
size_t ls_lines_room(const struct ls_run *run);

/* Write two lines for each entry, of which the first has the given position; return how many bytes they have. */
size_t ls_lines(const struct ls_run *run, uint64_t position, char *to);

#endif
