#include "upper.h"
#include "walk_py.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* More layers than overlayfs merges. */
#define MAX_LOWERS 500

/* Open directories; return how many were opened before one could not be. */
static size_t open_all(const char **paths, size_t count, int *opened)
{
    size_t number = 0;

    while (number < count) {
        opened[number] = open(paths[number], O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (opened[number] < 0 && errno != EINTR)
            break;
        number += opened[number] >= 0;
    }
    return number;
}

static PyObject *compare(int upper, const char **paths, size_t count, int *lowers)
{
    struct ls_walk walk;
    bool begun;
    size_t opened;
    PyObject *result;

    Py_BEGIN_ALLOW_THREADS
    begun = ls_walk_begin(&walk, UINT64_MAX, NULL);
    opened = begun ? open_all(paths, count, lowers) : 0;
    if (begun && opened < count)
        walk.error = errno;
    else if (begun)
        ls_compare_upper(&walk, upper, lowers, count);
    while (opened)
        close(lowers[--opened]);
    Py_END_ALLOW_THREADS
    result = begun ? ls_result_of(&walk) : PyErr_NoMemory();
    ls_walk_end(&walk);
    return result;
}

static PyObject *compare_upper(PyObject *module, PyObject *arguments)
{
    int upper;
    PyObject *stack, *result = NULL;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "iO!:compare_upper", &upper, &PyTuple_Type, &stack))
        return NULL;
    const char **paths = ls_bytes_of(stack, MAX_LOWERS);
    int *lowers = paths ? calloc(MAX_LOWERS, sizeof *lowers) : NULL;
    if (paths && !lowers)
        PyErr_NoMemory();
    if (lowers)
        result = compare(upper, paths, (size_t)PyTuple_Size(stack), lowers);
    free(lowers);
    free(paths);
    return result;
}

static PyMethodDef functions[] = {
    {"compare_upper", compare_upper, METH_VARARGS, "Compare an upper directory with the lower ones."},
    {NULL, NULL, 0, NULL},
};

int add_upper(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
