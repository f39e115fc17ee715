#include "walk_py.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const uint8_t *ls_stop_of(const Py_buffer *stop)
{
    if (stop->len < 1) {
        PyErr_SetString(PyExc_ValueError, "the buffer that ends a walk is empty");
        return NULL;
    }
    return stop->buf;
}

bool ls_begin_at(struct ls_walk *walk, const Py_buffer *path)
{
    if (!path->len || (ls_append(walk, &walk->path, path->buf, (size_t)path->len) &&
                       ls_append(walk, &walk->path, "/", 1)))
        return true;
    PyErr_NoMemory();
    return false;
}

static PyObject *raise_error(const struct ls_walk *walk)
{
    if (walk->error == ENOMEM)
        return PyErr_NoMemory();
    /* Without the slash at its end. */
    size_t length = walk->path.used - (walk->path.used > 0);
    PyObject *path = PyBytes_FromStringAndSize((const char *)walk->path.data, (Py_ssize_t)length);
    if (path) {
        errno = walk->error;
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
        Py_DECREF(path);
    }
    return NULL;
}

static PyObject *list_notes(const struct ls_walk *walk)
{
    PyObject *notes = PyList_New(0);
    const char *data = (const char *)walk->notes.data;

    for (size_t at = 0; notes && at < walk->notes.used;) {
        struct ls_head head;
        memcpy(&head, data + at, sizeof head);
        at += sizeof head;
        PyObject *note = Py_BuildValue("(Iy#y#)", (unsigned)head.kind, data + at, (Py_ssize_t)head.path,
                                       data + at + head.path, (Py_ssize_t)head.more);
        at += head.path + head.more;
        if (!note || PyList_Append(notes, note) < 0)
            Py_CLEAR(notes);
        Py_XDECREF(note);
    }
    return notes;
}

PyObject *ls_result_of(const struct ls_walk *walk)
{
    if (walk->error)
        return raise_error(walk);
    PyObject *notes = list_notes(walk);
    return notes ? Py_BuildValue("(NK)", notes, (unsigned long long)walk->budget) : NULL;
}

const char **ls_bytes_of(PyObject *tuple, Py_ssize_t most)
{
    Py_ssize_t size = PyTuple_Size(tuple);

    if (size < 0)
        return NULL;
    if (size > most) {
        PyErr_Format(PyExc_ValueError, "more than %zd names", most);
        return NULL;
    }
    const char **names = calloc((size_t)size + 1, sizeof *names);
    if (!names) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t number = 0; number < size; number++) {
        char *name;
        /* Without a length it refuses a name with a NUL in it. */
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(tuple, number), &name, NULL) < 0) {
            free(names);
            return NULL;
        }
        names[number] = name;
    }
    return names;
}
