#include "decode.h"
#include "fill.h"
#include "kernels.h"

/* Pieces that were decoded. They never change, so that several threads may use them at once. */
struct object {
    PyObject_HEAD
    struct ls_pieces pieces;
};

const struct ls_pieces *pieces_of(PyObject *self)
{
    return &((struct object *)self)->pieces;
}

static PyObject *new(PyTypeObject *type, PyObject *arguments, PyObject *named)
{
    const allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Py_buffer text;
    Py_ssize_t position = 0;
    int failure;

    if (named && PyDict_Size(named)) {
        PyErr_SetString(PyExc_TypeError, "Pieces takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "y*|n:Pieces", &text, &position))
        return NULL;
    if (position < 0 || position > text.len) {
        PyBuffer_Release(&text);
        PyErr_SetString(PyExc_ValueError, "the position is not in the block");
        return NULL;
    }
    struct object *const self = (struct object *)allocate(type, 0);
    if (!self) {
        PyBuffer_Release(&text);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    failure = ls_decode(text.buf, (size_t)text.len, (size_t)position, &self->pieces);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&text);
    if (failure) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void deallocate(PyObject *self)
{
    PyTypeObject *const type = Py_TYPE(self);
    const freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    ls_free_pieces(&((struct object *)self)->pieces);
    release(self);
    Py_DECREF(type);
}

static Py_ssize_t length(PyObject *self)
{
    return (Py_ssize_t)pieces_of(self)->count;
}

static PyObject *item(PyObject *self, Py_ssize_t index)
{
    const struct ls_pieces *const pieces = pieces_of(self);

    if (index < 0 || (size_t)index >= pieces->count) {
        PyErr_SetString(PyExc_IndexError, "there is no such piece");
        return NULL;
    }
    const struct ls_piece *const piece = &pieces->piece[index];
    const char *const arena = (const char *)pieces->arena;
    return Py_BuildValue("(y#y#KK)", arena + piece->segment, (Py_ssize_t)piece->segment_length, arena + piece->name,
                         (Py_ssize_t)piece->name_length, (unsigned long long)piece->size,
                         (unsigned long long)piece->crc);
}

/* Check a range of pieces that came from Python. */
static int check_range(const struct ls_pieces *pieces, Py_ssize_t first, Py_ssize_t last)
{
    if (0 <= first && first <= last && (size_t)last <= pieces->count)
        return 1;
    PyErr_SetString(PyExc_IndexError, "there are no such pieces");
    return 0;
}

static PyObject *plan(PyObject *self, PyObject *arguments)
{
    const struct ls_pieces *const pieces = pieces_of(self);
    Py_ssize_t first, room;
    size_t size;

    if (!PyArg_ParseTuple(arguments, "nn:plan", &first, &room) ||
        !check_range(pieces, first, (Py_ssize_t)pieces->count))
        return NULL;
    if (room < 0) {
        PyErr_SetString(PyExc_ValueError, "the room is negative");
        return NULL;
    }
    const size_t last = ls_plan(pieces, (size_t)first, (size_t)room, &size);
    return Py_BuildValue("(nn)", (Py_ssize_t)last, (Py_ssize_t)size);
}

static PyObject *fill(PyObject *self, PyObject *arguments)
{
    const struct ls_pieces *const pieces = pieces_of(self);
    Py_ssize_t first, last;
    Py_buffer memory, sources = {0};
    size_t done, filled;
    PyObject *result = NULL;
    int root;

    if (!PyArg_ParseTuple(arguments, "nniw*|w*:fill", &first, &last, &root, &memory, &sources))
        return NULL;
    if (!check_range(pieces, first, last))
        goto end;
    if (sources.buf && (size_t)sources.len / sizeof(struct ls_source) < (size_t)(last - first)) {
        PyErr_SetString(PyExc_ValueError, "there is no room for so many sources");
        goto end;
    }
    if ((uintptr_t)sources.buf % _Alignof(struct ls_source)) {
        PyErr_SetString(PyExc_ValueError, "the sources are not aligned");
        goto end;
    }
    Py_BEGIN_ALLOW_THREADS
    done = ls_fill(pieces, (size_t)first, (size_t)last, root, memory.buf, (size_t)memory.len, sources.buf, &filled);
    Py_END_ALLOW_THREADS
    result = Py_BuildValue("(nn)", (Py_ssize_t)done, (Py_ssize_t)filled);
end:
    PyBuffer_Release(&memory);
    if (sources.obj)
        PyBuffer_Release(&sources);
    return result;
}

static PyObject *get_end(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(pieces_of(self)->end);
}

static PyObject *get_next(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(pieces_of(self)->next);
}

static PyObject *get_lines(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(pieces_of(self)->lines);
}

static PyObject *get_size(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(pieces_of(self)->size);
}

static PyMethodDef methods[] = {
    {"plan", plan, METH_VARARGS, "Return the piece after those that fit into some room, and their size."},
    {"fill", fill, METH_VARARGS, "Write the bytes of pieces; return the first that was declined, and how many bytes."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
    {"end", get_end, NULL, "The offset of the first line that was not decoded.", NULL},
    {"next", get_next, NULL, "The offset of the line after that one.", NULL},
    {"lines", get_lines, NULL, "The number of lines that were decoded.", NULL},
    {"size", get_size, NULL, "The number of bytes of the tar.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Usual tar-split lines, decoded: a sequence of pieces."},
    {Py_tp_new, new},
    {Py_tp_dealloc, deallocate},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {Py_sq_length, length},
    {Py_sq_item, item},
    {0, NULL},
};

static PyType_Spec specification = {
    .name = "layerstore_native._kernels.Pieces",
    .basicsize = sizeof(struct object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int add_pieces(PyObject *module)
{
    struct state *const state = PyModule_GetState(module);

    state->pieces_type = PyType_FromModuleAndSpec(module, &specification, NULL);
    return state->pieces_type ? PyModule_AddType(module, (PyTypeObject *)state->pieces_type) : -1;
}
