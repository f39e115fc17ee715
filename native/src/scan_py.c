#include "kernels.h"
#include "run.h"

#include <string.h>

struct run_object {
    PyObject_HEAD
    struct ls_run run;
    PyObject *buffer; /* the bytes that the run refers to */
};

const struct ls_run *run_of(PyObject *object)
{
    return &((struct run_object *)object)->run;
}

static const struct ls_run *run_and_entry(PyObject *self, PyObject *index, const struct ls_entry **entry)
{
    const struct ls_run *run = run_of(self);
    size_t number = PyLong_AsSize_t(index);

    if (number == (size_t)-1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError))
            PyErr_SetString(PyExc_IndexError, "the run has no entry of this number");
        return NULL;
    }
    if (number >= run->count) {
        PyErr_SetString(PyExc_IndexError, "the run has no entry of this number");
        return NULL;
    }
    *entry = &run->entries[number];
    return run;
}

static PyObject *text_object(const struct ls_run *run, struct ls_text text)
{
    return PyBytes_FromStringAndSize(ls_text(run, text), (Py_ssize_t)text.length);
}

static PyObject *buffer_object(const struct ls_run *run, size_t at, size_t length)
{
    return PyBytes_FromStringAndSize((const char *)run->buffer + at, (Py_ssize_t)length);
}

/* Return the extended attributes as a dictionary; None if there are none. */
static PyObject *xattrs_object(const struct ls_run *run, const struct ls_entry *entry)
{
    PyObject *found;

    if (!entry->xattr_count)
        Py_RETURN_NONE;
    found = PyDict_New();
    for (uint32_t number = 0; found && number < entry->xattr_count; number++) {
        const struct ls_xattr *xattr = &run->xattrs[entry->xattrs + number];
        PyObject *name = text_object(run, xattr->name);
        PyObject *value = buffer_object(run, xattr->value, xattr->length);

        if (!name || !value || PyDict_SetItem(found, name, value) < 0)
            Py_CLEAR(found);
        Py_XDECREF(name);
        Py_XDECREF(value);
    }
    return found;
}

static PyObject *get_entry(PyObject *self, PyObject *index)
{
    const struct ls_entry *entry = NULL;
    const struct ls_run *run = run_and_entry(self, index, &entry);
    const struct ls_kind *kind;
    PyObject *name, *link, *xattrs, *found = NULL;

    if (!run)
        return NULL;
    kind = &run->kinds[entry->kind];
    name = text_object(run, entry->name);
    link = text_object(run, entry->link);
    xattrs = xattrs_object(run, entry);
    if (name && link && xattrs)
        found = Py_BuildValue("(iOHLLnLIOOKK)", entry->type, name, kind->mode, (long long)kind->uid,
                              (long long)kind->gid, (Py_ssize_t)entry->size, (long long)entry->seconds,
                              entry->nanoseconds, link, xattrs, (unsigned long long)entry->offset,
                              (unsigned long long)(entry->offset + ls_headers_length(entry)));
    Py_XDECREF(name);
    Py_XDECREF(link);
    Py_XDECREF(xattrs);
    return found;
}

static PyObject *get_segment(PyObject *self, PyObject *index)
{
    const struct ls_entry *entry = NULL;
    const struct ls_run *run = run_and_entry(self, index, &entry);

    return run ? buffer_object(run, entry->segment, entry->payload - entry->segment) : NULL;
}

/* Return a part of the buffer in place. */
static PyObject *view_object(PyObject *self, size_t at, size_t length)
{
    PyObject *view = PyMemoryView_FromObject(((struct run_object *)self)->buffer);
    PyObject *start = PyLong_FromSize_t(at), *end = PyLong_FromSize_t(at + length), *slice = NULL, *found = NULL;

    if (start && end)
        slice = PySlice_New(start, end, NULL);
    if (view && slice)
        found = PyObject_GetItem(view, slice);
    Py_XDECREF(view);
    Py_XDECREF(start);
    Py_XDECREF(end);
    Py_XDECREF(slice);
    return found;
}

static PyObject *get_payload(PyObject *self, PyObject *index)
{
    const struct ls_entry *entry = NULL;

    return run_and_entry(self, index, &entry) ? view_object(self, entry->payload, entry->size) : NULL;
}

static PyObject *get_raw(PyObject *self, PyObject *nothing)
{
    const struct ls_run *run = run_of(self);
    size_t start = run->count ? run->entries[0].segment : run->position;

    (void)nothing;
    return view_object(self, start, run->position - start);
}

static PyObject *get_path(PyObject *self, PyObject *index)
{
    const struct ls_entry *entry = NULL;
    const struct ls_run *run = run_and_entry(self, index, &entry);

    return run ? text_object(run, entry->path) : NULL;
}

static PyObject *get_kinds(PyObject *self, void *nothing)
{
    const struct ls_run *run = run_of(self);
    PyObject *found = PyList_New(0);

    (void)nothing;
    for (size_t number = 0; found && number < run->kind_count; number++) {
        const struct ls_kind *kind = &run->kinds[number];
        PyObject *item = Py_BuildValue("(iHLLI)", kind->type, kind->mode, (long long)kind->uid, (long long)kind->gid,
                                       kind->count);
        if (!item || PyList_Append(found, item) < 0)
            Py_CLEAR(found);
        Py_XDECREF(item);
    }
    return found;
}

static PyObject *get_position(PyObject *self, void *nothing)
{
    (void)nothing;
    return PyLong_FromSize_t(run_of(self)->position);
}

static PyObject *get_padding(PyObject *self, void *nothing)
{
    (void)nothing;
    return PyLong_FromSize_t(run_of(self)->padding);
}

static PyObject *get_needed(PyObject *self, void *nothing)
{
    (void)nothing;
    return PyLong_FromSize_t(run_of(self)->needed);
}

static PyObject *get_size(PyObject *self, void *nothing)
{
    (void)nothing;
    return PyLong_FromUnsignedLongLong(run_of(self)->size);
}

static Py_ssize_t get_length(PyObject *self)
{
    return (Py_ssize_t)run_of(self)->count;
}

static void free_run(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    ls_run_free(&((struct run_object *)self)->run);
    Py_XDECREF(((struct run_object *)self)->buffer);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef run_methods[] = {
    {"entry", get_entry, METH_O, "Return the fields of an entry."},
    {"segment", get_segment, METH_O, "Return the bytes of the tar from the last payload to that of an entry."},
    {"payload", get_payload, METH_O, "Return the payload of an entry, which stays valid."},
    {"raw", get_raw, METH_NOARGS, "Return all bytes of the tar that the run was read from, which stay valid."},
    {"path", get_path, METH_O, "Return the cleaned name of an entry."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef run_attributes[] = {
    {"kinds", get_kinds, NULL, "The different kinds of entries.", NULL},
    {"position", get_position, NULL, "Where the last payload ends in the buffer.", NULL},
    {"padding", get_padding, NULL, "The bytes of padding after it.", NULL},
    {"needed", get_needed, NULL, "The bytes from the position that the next entry needs.", NULL},
    {"size", get_size, NULL, "The sum of the lengths of payloads and targets of symbolic links.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot run_slots[] = {
    {Py_tp_doc, "Plain entries of a tar that follow each other."},
    {Py_tp_dealloc, free_run},
    {Py_tp_methods, run_methods},
    {Py_tp_getset, run_attributes},
    {Py_sq_length, get_length},
    {0, NULL},
};

static PyType_Spec run_spec = {
    .name = "layerstore_native._kernels.Run",
    .basicsize = sizeof(struct run_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = run_slots,
};

static PyObject *scan(PyObject *module, PyObject *arguments)
{
    PyObject *buffer;
    Py_ssize_t position, padding, max_entries, max_bytes, length;
    unsigned long long offset;
    struct run_object *self;
    PyTypeObject *type;
    int outcome;

    if (!PyArg_ParseTuple(arguments, "SnnKnn:scan", &buffer, &position, &padding, &offset, &max_entries, &max_bytes))
        return NULL;
    length = PyBytes_Size(buffer);
    if (position < 0 || position > length || padding < 0 || padding > PY_SSIZE_T_MAX / 4 || max_entries < 0 ||
        max_bytes < 0) {
        PyErr_SetString(PyExc_ValueError, "a position is not in the buffer, or a limit is negative");
        return NULL;
    }
    type = (PyTypeObject *)((struct state *)PyModule_GetState(module))->run_type;
    self = (struct run_object *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self)
        return NULL;
    Py_INCREF(buffer);
    self->buffer = buffer;
    const uint8_t *data = (const uint8_t *)PyBytes_AsString(buffer);
    Py_BEGIN_ALLOW_THREADS
    outcome = ls_scan(&self->run, data, (size_t)length, (size_t)position, (size_t)padding, offset, (size_t)max_entries,
                      (size_t)max_bytes);
    Py_END_ALLOW_THREADS
    if (outcome < 0) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static PyMethodDef functions[] = {
    {"scan", scan, METH_VARARGS, "Scan the plain entries that follow in a piece of a tar."},
    {NULL, NULL, 0, NULL},
};

int add_scan(PyObject *module)
{
    struct state *state = PyModule_GetState(module);

    state->run_type = PyType_FromModuleAndSpec(module, &run_spec, NULL);
    if (!state->run_type || PyModule_AddType(module, (PyTypeObject *)state->run_type) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
