#include "compare.h"
#include "walk_py.h"

static PyObject *compare(struct ls_comparison *comparison, int upper, int lower, bool untouched, const Py_buffer *path)
{
    if (!ls_begin_at(&comparison->walk, path))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    ls_compare_directory(comparison, upper, lower, untouched);
    Py_END_ALLOW_THREADS
    return ls_result_of(&comparison->walk);
}

static PyObject *compare_directory(PyObject *module, PyObject *arguments)
{
    int upper, lower, untouched;
    unsigned long long budget, device;
    Py_buffer stop, path, stamps;
    PyObject *result = NULL;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "iiKy*y*y*Kp:compare_directory", &upper, &lower, &budget, &stop, &path, &stamps,
                          &device, &untouched))
        return NULL;
    if (ls_stop_of(&stop)) {
        struct ls_comparison comparison = {.stamps = {stamps.buf, (size_t)stamps.len / LS_STAMP}, .device = device};
        result = ls_walk_begin(&comparison.walk, budget, stop.buf)
                     ? compare(&comparison, upper, lower, untouched != 0, &path)
                     : PyErr_NoMemory();
        ls_walk_end(&comparison.walk);
    }
    PyBuffer_Release(&stamps);
    PyBuffer_Release(&path);
    PyBuffer_Release(&stop);
    return result;
}

static PyMethodDef functions[] = {
    {"compare_directory", compare_directory, METH_VARARGS, "Compare what is in two open directories."},
    {NULL, NULL, 0, NULL},
};

int add_compare(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
