#include "directories_py.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct directories_object {
    PyObject_HEAD
    struct ls_directories directories;
    bool busy; /* a kernel uses them without the interpreter's lock, which guards this */
};

static struct directories_object *object_of(PyObject *object)
{
    return (struct directories_object *)object;
}

/* Return the directories; NULL with an exception if a kernel uses them. */
static struct ls_directories *directories_of(PyObject *object)
{
    if (object_of(object)->busy) {
        PyErr_SetString(PyExc_RuntimeError, "the directories are being used in another thread");
        return NULL;
    }
    return &object_of(object)->directories;
}

struct ls_directories *take_directories(PyObject *object)
{
    struct ls_directories *directories = directories_of(object);

    if (directories)
        object_of(object)->busy = true;
    return directories;
}

void return_directories(PyObject *object)
{
    object_of(object)->busy = false;
}

PyObject *times_object(const struct ls_directory *directory)
{
    return Py_BuildValue("(Ll)", (long long)directory->time.tv_sec, directory->time.tv_nsec);
}

PyObject *raise_times_error(const struct ls_directory *directory, int error)
{
    PyObject *path = PyBytes_FromStringAndSize(directory->path, (Py_ssize_t)directory->length);

    if (path) {
        errno = error;
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
        Py_DECREF(path);
    }
    return NULL;
}

/* Lend a directory. Return false with an exception if it cannot be. */
static bool add_lent(struct ls_directories *directories, const char *path, Py_ssize_t length, int fd,
                     const Py_buffer *hows)
{
    const size_t size = sizeof(struct ls_how), bytes = (size_t)hows->len;
    struct ls_directory *lent;

    if (fd < 0 || length > LS_MAX_NAME || !bytes || bytes % size || bytes / size > LS_MAX_KINDS) {
        PyErr_SetString(PyExc_ValueError, "the descriptor, the path or what says how to make the kinds is none");
        return false;
    }
    if (ls_directories_find(directories, path, (size_t)length) || directories->count - directories->made >= LS_MAX_LENT) {
        PyErr_SetString(PyExc_ValueError, "the directory is known, or too many are lent");
        return false;
    }
    lent = ls_directory_new(path, (size_t)length);
    if (lent)
        lent->hows = malloc(bytes);
    if (!lent || !lent->hows) {
        ls_directory_free(lent);
        PyErr_NoMemory();
        return false;
    }
    memcpy(lent->hows, hows->buf, bytes);
    lent->how_count = bytes / size;
    lent->fd = fd;
    ls_directories_add(directories, lent);
    return true;
}

static PyObject *lend(PyObject *self, PyObject *arguments)
{
    struct ls_directories *directories = directories_of(self);
    const char *path;
    Py_ssize_t length;
    Py_buffer hows;
    int fd;
    bool added;

    if (!directories || !PyArg_ParseTuple(arguments, "y#iy*:lend", &path, &length, &fd, &hows))
        return NULL;
    added = add_lent(directories, path, length, fd, &hows);
    PyBuffer_Release(&hows);
    if (!added)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *end_loans(PyObject *self, PyObject *nothing)
{
    struct ls_directories *directories = directories_of(self);

    (void)nothing;
    if (!directories)
        return NULL;
    ls_directories_end_loans(directories);
    Py_RETURN_NONE;
}

static PyObject *end(PyObject *self, PyObject *nothing)
{
    struct ls_directories *directories = directories_of(self);
    struct ls_directory *made;
    bool failed = false;

    (void)nothing;
    while (directories && (made = ls_directories_take(directories))) {
        int error = ls_directory_end(made);

        if (error && !failed)
            raise_times_error(made, error);
        failed = failed || error;
        ls_directory_free(made);
    }
    if (!directories || failed)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *close_all(PyObject *self, PyObject *nothing)
{
    struct ls_directories *directories = directories_of(self);

    (void)nothing;
    if (!directories)
        return NULL;
    ls_directories_free(directories);
    Py_RETURN_NONE;
}

static PyObject *times_of(PyObject *self, PyObject *path)
{
    struct ls_directories *directories = directories_of(self);
    const struct ls_directory *found;
    char *data;
    Py_ssize_t length;

    if (!directories || PyBytes_AsStringAndSize(path, &data, &length) < 0)
        return NULL;
    found = ls_directories_find(directories, data, (size_t)length);
    if (!found || found->hows)
        Py_RETURN_NONE;
    return times_object(found);
}

static Py_ssize_t get_length(PyObject *self)
{
    const struct ls_directories *directories = directories_of(self);

    return directories ? (Py_ssize_t)directories->count : -1;
}

static PyObject *new_directories(PyTypeObject *type, PyObject *arguments, PyObject *named)
{
    if (PyTuple_Size(arguments) || (named && PyDict_Size(named))) {
        PyErr_SetString(PyExc_TypeError, "Directories takes no arguments");
        return NULL;
    }
    return ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
}

static void free_directories(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    ls_directories_free(&object_of(self)->directories);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"lend", lend, METH_VARARGS, "Lend a directory, with how to make the kinds of a run in it."},
    {"end_loans", end_loans, METH_NOARGS, "Forget the lent directories."},
    {"end", end, METH_NOARGS, "Close the directories that were made, with their times."},
    {"close", close_all, METH_NOARGS, "Close the directories that were made, and set no times."},
    {"times_of", times_of, METH_O, "Return the times that a directory will get, if it was made here and is open."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Open directories that jobs make entries in."},
    {Py_tp_new, new_directories},
    {Py_tp_dealloc, free_directories},
    {Py_tp_methods, methods},
    {Py_sq_length, get_length},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "layerstore_native._kernels.Directories",
    .basicsize = sizeof(struct directories_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int add_directories(PyObject *module)
{
    struct state *state = PyModule_GetState(module);

    state->directories_type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!state->directories_type)
        return -1;
    return PyModule_AddType(module, (PyTypeObject *)state->directories_type);
}
