#include "copy.h"
#include "walk_py.h"

static PyObject *copy_directory(PyObject *module, PyObject *arguments)
{
    int source, target;
    unsigned masked, uid, gid, ways;
    unsigned long long budget;
    Py_buffer stop;
    PyObject *result = NULL;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "iiIIIIKy*:copy_directory", &source, &target, &masked, &uid, &gid, &ways, &budget,
                          &stop))
        return NULL;
    if (ls_stop_of(&stop)) {
        struct ls_copy copy = {.masked = masked, .uid = uid, .gid = gid, .ways = ways};
        bool begun;
        Py_BEGIN_ALLOW_THREADS
        begun = ls_walk_begin(&copy.walk, budget, stop.buf);
        if (begun)
            ls_copy_directory(&copy, source, target);
        Py_END_ALLOW_THREADS
        PyObject *found = begun ? ls_result_of(&copy.walk) : PyErr_NoMemory();
        result = found ? Py_BuildValue("(NI)", found, copy.ways) : NULL;
        ls_walk_end(&copy.walk);
    }
    PyBuffer_Release(&stop);
    return result;
}

static PyMethodDef functions[] = {
    {"copy_directory", copy_directory, METH_VARARGS, "Copy what is in an open directory into another."},
    {NULL, NULL, 0, NULL},
};

int add_copy(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
