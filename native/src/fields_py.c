#include "fields.h"
#include "walk_py.h"

#include <stdlib.h>

/* More than is ever needed; they bound the memory of a call. */
#define MAX_FILES 16
#define MAX_LIMIT 4096
#define MAX_RECORDS 1024

/* Return a list: what was read of each record, or None. */
static PyObject *list_of(const uint8_t *room, size_t each, const ptrdiff_t *lengths, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);

    for (size_t number = 0; list && number < count; number++) {
        PyObject *content = lengths[number] < 0
                                ? Py_NewRef(Py_None)
                                : PyBytes_FromStringAndSize((const char *)room + number * each, lengths[number]);
        if (!content || PyList_SetItem(list, (Py_ssize_t)number, content) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *read_records(int directory, const char **bases, size_t count, const struct ls_fields *fields)
{
    size_t each = fields->count * fields->limit;
    uint8_t *room = malloc(count * each + 1);
    ptrdiff_t *lengths = calloc(count + 1, sizeof *lengths);
    PyObject *list = NULL;

    if (room && lengths) {
        Py_BEGIN_ALLOW_THREADS
        for (size_t number = 0; number < count; number++)
            lengths[number] = ls_read_fields(directory, bases[number], fields, room + number * each);
        Py_END_ALLOW_THREADS
        list = list_of(room, each, lengths, count);
    } else {
        PyErr_NoMemory();
    }
    free(lengths);
    free(room);
    return list;
}

static PyObject *read_fields(PyObject *module, PyObject *arguments)
{
    int directory;
    PyObject *bases, *files, *list = NULL;
    Py_ssize_t needed, limit;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "iO!O!nn:read_fields", &directory, &PyTuple_Type, &bases, &PyTuple_Type, &files,
                          &needed, &limit))
        return NULL;
    if (needed < 0 || limit < 1 || limit > MAX_LIMIT)
        return PyErr_Format(PyExc_ValueError, "not a number of files, or not a length: %zd, %zd", needed, limit);
    const char **names = ls_bytes_of(files, MAX_FILES);
    const char **records = names ? ls_bytes_of(bases, MAX_RECORDS) : NULL;
    if (records) {
        struct ls_fields fields = {names, (size_t)PyTuple_Size(files), (size_t)needed, (size_t)limit};
        list = read_records(directory, records, (size_t)PyTuple_Size(bases), &fields);
    }
    free(records);
    free(names);
    return list;
}

static PyMethodDef functions[] = {
    {"read_fields", read_fields, METH_VARARGS, "Read small files in each of several directories."},
    {NULL, NULL, 0, NULL},
};

int add_fields(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
