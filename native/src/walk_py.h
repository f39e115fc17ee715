/* Walks for Python: their notes become a list of tuples. */
#ifndef LAYERSTORE_WALK_PY_H
#define LAYERSTORE_WALK_PY_H

#include "kernels.h"
#include "walk.h"

/* Check the buffer by which another thread ends a walk. */
const uint8_t *ls_stop_of(const Py_buffer *stop);

/* Let the path of a walk begin with that of a directory; return false with an exception if there is no memory. */
bool ls_begin_at(struct ls_walk *walk, const Py_buffer *path);

/* Return a walk's notes, as tuples of kind, path and more, and the rest of its budget; or raise its error. */
PyObject *ls_result_of(const struct ls_walk *walk);

/* Return pointers to the names in a tuple of bytes, which keeps them; NULL with an exception if it has others, or more
 * than `most`. The caller frees the array. */
const char **ls_bytes_of(PyObject *tuple, Py_ssize_t most);

#endif
