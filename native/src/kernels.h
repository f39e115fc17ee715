/* What the parts of the extension module share.
 *
 * A file NAME.c has the kernel itself, and does not know Python: it works on buffers with explicit lengths, so that a
 * fuzzer can call it. NAME_py.c makes it a function or type of Python.
 */
#ifndef LAYERSTORE_KERNELS_H
#define LAYERSTORE_KERNELS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* The module's types, for the functions and types that use them: `PyModule_GetState`, `PyType_GetModuleState`. */
struct state {
    PyObject *directories_type;
    PyObject *run_type;
    PyObject *names_type;
    PyObject *pieces_type;
};

struct ls_directories;
struct ls_names;
struct ls_pieces;
struct ls_run;

/* Each adds its functions and types to the module, and returns -1 with an exception if it cannot. */
int add_checksum(PyObject *module);
int add_compare(PyObject *module);
int add_copy(PyObject *module);
int add_directories(PyObject *module);
int add_fields(PyObject *module);
int add_headers(PyObject *module);
int add_lines(PyObject *module);
int add_make(PyObject *module);
int add_memory(PyObject *module);
int add_names(PyObject *module);
int add_pack(PyObject *module);
int add_pieces(PyObject *module);
int add_scan(PyObject *module);
int add_stamps(PyObject *module);
int add_upper(PyObject *module);

/* Return the directories in an object of the type `Directories`, for a kernel that uses them without the interpreter's
 * lock; NULL with an exception if another one does. They have to be returned. */
struct ls_directories *take_directories(PyObject *object);
void return_directories(PyObject *object);

/* Likewise the set in an object of the type `Names`. */
struct ls_names *take_names(PyObject *object);
void return_names(PyObject *object);

/* Return the pieces in an object of the type `Pieces`. They live as long as the object. */
const struct ls_pieces *pieces_of(PyObject *object);

/* Return the run in an object of the type `Run`. It lives as long as the object. */
const struct ls_run *run_of(PyObject *object);

#endif
