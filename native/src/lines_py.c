#include "kernels.h"
#include "lines.h"

static PyObject *lines(PyObject *module, PyObject *arguments)
{
    PyObject *run_type = ((struct state *)PyModule_GetState(module))->run_type, *object, *found;
    const struct ls_run *run;
    unsigned long long position;
    size_t room, length;

    if (!PyArg_ParseTuple(arguments, "O!K:lines", run_type, &object, &position))
        return NULL;
    run = run_of(object);
    room = ls_lines_room(run);
    if (room > PY_SSIZE_T_MAX || (!room && run->count))
        return PyErr_NoMemory();
    found = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)room);
    if (!found)
        return NULL;
    char *to = PyByteArray_AsString(found);
    Py_BEGIN_ALLOW_THREADS
    length = ls_lines(run, position, to);
    Py_END_ALLOW_THREADS
    if (PyByteArray_Resize(found, (Py_ssize_t)length) < 0)
        Py_CLEAR(found);
    return found;
}

static PyMethodDef functions[] = {
    {"lines", lines, METH_VARARGS, "Return the tar-split lines of a run."},
    {NULL, NULL, 0, NULL},
};

int add_lines(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
