/* Directories for Python. */
#ifndef LAYERSTORE_DIRECTORIES_PY_H
#define LAYERSTORE_DIRECTORIES_PY_H

#include "kernels.h"
#include "directories.h"

/* Return the time that a directory will get: seconds, and nanoseconds after them. */
PyObject *times_object(const struct ls_directory *directory);

/* Raise the error (an errno) that the setting of a directory's times has met; return NULL. */
PyObject *raise_times_error(const struct ls_directory *directory, int error);

#endif
