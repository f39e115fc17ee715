#include "kernels.h"
#include "names.h"

struct names_object {
    PyObject_HEAD
    struct ls_names names;
    bool busy; /* a kernel uses it without the interpreter's lock, which guards this */
};

static struct names_object *object_of(PyObject *object)
{
    return (struct names_object *)object;
}

/* Return the set; NULL with an exception if a kernel uses it. */
static struct ls_names *names_of(PyObject *object)
{
    if (object_of(object)->busy) {
        PyErr_SetString(PyExc_RuntimeError, "the set of names is being used in another thread");
        return NULL;
    }
    return &object_of(object)->names;
}

struct ls_names *take_names(PyObject *object)
{
    struct ls_names *names = names_of(object);

    if (names)
        object_of(object)->busy = true;
    return names;
}

void return_names(PyObject *object)
{
    object_of(object)->busy = false;
}

static PyObject *new_names(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *self;

    if (PyTuple_Size(arguments) || (keywords && PyDict_Size(keywords))) {
        PyErr_SetString(PyExc_TypeError, "Names takes no arguments");
        return NULL;
    }
    self = ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self && ls_names_init(&object_of(self)->names) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_CLEAR(self);
    }
    return self;
}

static void free_names(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    ls_names_free(&object_of(self)->names);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* Add a name; return whether it is new, or -1 with an exception. */
static int add_name(PyObject *self, PyObject *name)
{
    struct ls_names *names = names_of(self);
    char *data;
    Py_ssize_t length;

    if (!names || PyBytes_AsStringAndSize(name, &data, &length) < 0)
        return -1;
    if (ls_names_reserve(names, 1) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return ls_names_add(names, data, (size_t)length);
}

static PyObject *add(PyObject *self, PyObject *name)
{
    int is_new = add_name(self, name);

    return is_new < 0 ? NULL : PyBool_FromLong(is_new);
}

static PyObject *update(PyObject *self, PyObject *names)
{
    PyObject *iterator = PyObject_GetIter(names), *name;

    if (!iterator)
        return NULL;
    while ((name = PyIter_Next(iterator))) {
        int is_new = add_name(self, name);
        Py_DECREF(name);
        if (is_new < 0)
            break;
    }
    Py_DECREF(iterator);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* Return the run that is the only argument of a method; NULL with an exception if there is another one. */
static const struct ls_run *run_argument(PyTypeObject *type, PyObject *const *arguments, Py_ssize_t count,
                                         PyObject *keywords)
{
    PyObject *run_type = ((struct state *)PyType_GetModuleState(type))->run_type;

    if (count == 1 && !(keywords && PyTuple_Size(keywords)) && Py_IS_TYPE(arguments[0], (PyTypeObject *)run_type))
        return run_of(arguments[0]);
    PyErr_SetString(PyExc_TypeError, "the argument must be one Run");
    return NULL;
}

static PyObject *add_run(PyObject *self, PyTypeObject *type, PyObject *const *arguments, Py_ssize_t count,
                         PyObject *keywords)
{
    const struct ls_run *run = run_argument(type, arguments, count, keywords);
    struct ls_names *names = run ? names_of(self) : NULL;
    int all_new;

    if (!names)
        return NULL;
    all_new = ls_names_add_run(names, run);
    return all_new < 0 ? PyErr_NoMemory() : PyBool_FromLong(all_new);
}

static PyObject *add_empty(PyObject *self, PyTypeObject *type, PyObject *const *arguments, Py_ssize_t count,
                           PyObject *keywords)
{
    const struct ls_run *run = run_argument(type, arguments, count, keywords);
    struct ls_names *names = run ? names_of(self) : NULL;

    if (!names)
        return NULL;
    if (ls_names_add_empty(names, run) < 0)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static int has(PyObject *self, PyObject *name)
{
    const struct ls_names *names = names_of(self);
    char *data;
    Py_ssize_t length;

    if (!names || PyBytes_AsStringAndSize(name, &data, &length) < 0)
        return -1;
    return ls_names_has(names, data, (size_t)length);
}

static Py_ssize_t get_length(PyObject *self)
{
    const struct ls_names *names = names_of(self);

    return names ? (Py_ssize_t)names->count : -1;
}

static PyMethodDef names_methods[] = {
    {"add", add, METH_O, "Add a name; return whether it is new."},
    {"update", update, METH_O, "Add names, whether they are new or not."},
    {"add_run", (PyCFunction)(void (*)(void))add_run, METH_METHOD | METH_FASTCALL | METH_KEYWORDS,
     "Add the paths of a run if all are new and none is twice in it; return whether they were added."},
    {"add_empty", (PyCFunction)(void (*)(void))add_empty, METH_METHOD | METH_FASTCALL | METH_KEYWORDS,
     "Add the paths of the entries of a run that have no payload."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot names_slots[] = {
    {Py_tp_doc, "A set of names, by 64-bit hashes with a random key."},
    {Py_tp_new, new_names},
    {Py_tp_dealloc, free_names},
    {Py_tp_methods, names_methods},
    {Py_sq_length, get_length},
    {Py_sq_contains, has},
    {0, NULL},
};

static PyType_Spec names_spec = {
    .name = "layerstore_native._kernels.Names",
    .basicsize = sizeof(struct names_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = names_slots,
};

int add_names(PyObject *module)
{
    struct state *state = PyModule_GetState(module);

    state->names_type = PyType_FromModuleAndSpec(module, &names_spec, NULL);
    if (!state->names_type)
        return -1;
    return PyModule_AddType(module, (PyTypeObject *)state->names_type);
}
