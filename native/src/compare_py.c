#include "compare.h"
#include "walk_py.h"

static PyObject *compare_directory(PyObject *module, PyObject *arguments)
{
    int upper, lower;
    unsigned long long budget;
    Py_buffer stop;
    PyObject *result = NULL;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "iiKy*:compare_directory", &upper, &lower, &budget, &stop))
        return NULL;
    if (ls_stop_of(&stop)) {
        struct ls_walk walk;
        bool begun;
        Py_BEGIN_ALLOW_THREADS
        begun = ls_walk_begin(&walk, budget, stop.buf);
        if (begun)
            ls_compare_directory(&walk, upper, lower);
        Py_END_ALLOW_THREADS
        result = begun ? ls_result_of(&walk) : PyErr_NoMemory();
        ls_walk_end(&walk);
    }
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
