#include "pack.h"
#include "walk_py.h"

#include <stdlib.h>

/* Pack names until one is not plain, or until there may be no room for another entry. */
static size_t pack_names(int directory, const char *above, const char **names, size_t count, uint8_t *room, size_t size,
                         size_t *used, char *attributes)
{
    size_t done = 0;

    while (done < count && size - *used >= LS_PACK_ROOM) {
        size_t length = ls_pack(directory, above, names[done], room + *used, attributes);
        if (!length)
            break;
        *used += length;
        done++;
    }
    return done;
}

static PyObject *pack(PyObject *module, PyObject *arguments)
{
    int directory;
    const char *above;
    PyObject *list, *result = NULL;
    Py_buffer room;
    Py_ssize_t used;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "iyO!w*n:pack", &directory, &above, &PyTuple_Type, &list, &room, &used))
        return NULL;
    Py_ssize_t count = PyTuple_Size(list);
    const char **names = ls_bytes_of(list, PY_SSIZE_T_MAX);
    char *attributes = names ? malloc(LS_MAX_XATTR) : NULL;
    if (names && !attributes)
        PyErr_NoMemory();
    if (attributes && (used < 0 || used > room.len))
        PyErr_SetString(PyExc_ValueError, "more bytes are used than there are");
    else if (attributes) {
        size_t done, length = (size_t)used;
        Py_BEGIN_ALLOW_THREADS
        done = pack_names(directory, above, names, (size_t)count, room.buf, (size_t)room.len, &length, attributes);
        Py_END_ALLOW_THREADS
        result = Py_BuildValue("(nn)", (Py_ssize_t)done, (Py_ssize_t)length);
    }
    free(attributes);
    free(names);
    PyBuffer_Release(&room);
    return result;
}

static PyMethodDef functions[] = {
    {"pack", pack, METH_VARARGS, "Append tar entries of plain files to a buffer."},
    {NULL, NULL, 0, NULL},
};

int add_pack(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
