#include "stamps.h"
#include "walk_py.h"

#include <stdlib.h>
#include <string.h>

static PyObject *take(struct ls_taking *taking, int directory, const Py_buffer *path)
{
    if (!ls_begin_at(&taking->walk, path))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    ls_take_stamps(taking, directory);
    Py_END_ALLOW_THREADS
    PyObject *found = ls_result_of(&taking->walk);
    return found ? Py_BuildValue("(Ny#)", found, (const char *)taking->stamps.data, (Py_ssize_t)taking->stamps.used)
                 : NULL;
}

static PyObject *take_stamps(PyObject *module, PyObject *arguments)
{
    int directory;
    unsigned long long budget;
    long long before;
    Py_buffer stop, path;
    PyObject *result = NULL;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "iKy*y*L:take_stamps", &directory, &budget, &stop, &path, &before))
        return NULL;
    if (ls_stop_of(&stop)) {
        struct ls_taking taking = {.before = before};
        result = ls_walk_begin(&taking.walk, budget, stop.buf) ? take(&taking, directory, &path) : PyErr_NoMemory();
        ls_walk_end(&taking.walk);
        free(taking.stamps.data);
    }
    PyBuffer_Release(&path);
    PyBuffer_Release(&stop);
    return result;
}

static PyObject *sort_stamps(PyObject *module, PyObject *stamps)
{
    char *data;
    Py_ssize_t length;

    (void)module;
    if (PyBytes_AsStringAndSize(stamps, &data, &length) < 0)
        return NULL;
    length -= length % LS_STAMP;
    PyObject *sorted = PyBytes_FromStringAndSize(data, length);
    if (!sorted)
        return NULL;
    /* No other code has the new object yet. */
    ls_sort_stamps((uint8_t *)PyBytes_AsString(sorted), (size_t)length / LS_STAMP);
    return sorted;
}

static PyMethodDef functions[] = {
    {"take_stamps", take_stamps, METH_VARARGS, "Take the stamps of an open directory and of what is below it."},
    {"sort_stamps", sort_stamps, METH_O, "Return stamps sorted, as comparisons need them."},
    {NULL, NULL, 0, NULL},
};

int add_stamps(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
