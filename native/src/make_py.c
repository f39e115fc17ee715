#include "kernels.h"
#include "make.h"
#include "names.h"

#include <string.h>

/* Files and links of a run, in the order of the tar: they are added by one thread, and made by another. */
struct job_object {
    PyObject_HEAD
    PyObject *run;
    PyObject *touched; /* what the layer has written so far, and what is planned */
    struct ls_operation *operations;
    size_t count, room;
    size_t done;  /* also counts what was left to Python */
    uint32_t next; /* the entry after the last one that was added: they only go forward */
    bool running;
};

static struct job_object *job_of(PyObject *object)
{
    return (struct job_object *)object;
}

/* Return whether the job may be used now; the lock of the interpreter guards `running`. */
static bool is_free(const struct job_object *job)
{
    if (job->running)
        PyErr_SetString(PyExc_RuntimeError, "the job is being done in another thread");
    return !job->running;
}

/* Copy what says how the kinds of the run are made; a whole one for each. */
static bool read_hows(const Py_buffer *hows, const struct ls_run *run)
{
    if ((size_t)hows->len == run->kind_count * sizeof(struct ls_how))
        return true;
    PyErr_Format(PyExc_ValueError, "there are %zu kinds, and %zd bytes say how to make them", run->kind_count,
                 hows->len);
    return false;
}

static struct ls_how how_of(const Py_buffer *hows, const struct ls_entry *entry)
{
    struct ls_how how;

    memcpy(&how, (const char *)hows->buf + entry->kind * sizeof how, sizeof how);
    return how;
}

/* Return whether the layer has neither written a path, nor anything below it, nor followed a link of this name. */
static bool is_untouched(const struct ls_names *touched, const struct ls_run *run, struct ls_text path)
{
    const char *name = ls_text(run, path);

    return path.length <= LS_MAX_NAME && !ls_names_has(touched, name, path.length) &&
           !ls_names_has_with(touched, name, path.length, '/') && !ls_names_has_with(touched, name, path.length, '\0');
}

/* Add an operation for an entry, if it is plain. Return 1; 0 if it is not; -1 with an exception. */
static int add_operation(struct job_object *job, uint32_t index, const Py_buffer *hows, struct ls_operation operation)
{
    const struct ls_run *run = run_of(job->run);
    const struct ls_entry *entry = &run->entries[index];
    struct ls_names *touched = names_of(job->touched);

    operation.entry = index;
    operation.how = how_of(hows, entry);
    if (operation.how.flags & LS_NOT_PLAIN || !ls_is_makable(run, entry) || !is_untouched(touched, run, entry->path))
        return 0;
    if (job->count == job->room) {
        size_t room = job->room ? job->room * 2 : 64;
        struct ls_operation *operations = PyMem_Realloc(job->operations, room * sizeof *operations);

        if (!operations) {
            PyErr_NoMemory();
            return -1;
        }
        job->operations = operations;
        job->room = room;
    }
    if (ls_names_reserve(touched, 1) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    ls_names_add(touched, ls_text(run, entry->path), entry->path.length);
    job->operations[job->count++] = operation;
    job->next = index + 1;
    return 1;
}

static PyObject *add(PyObject *self, PyObject *arguments)
{
    struct job_object *job = job_of(self);
    const struct ls_run *run = run_of(job->run);
    struct ls_operation operation = {0};
    unsigned int first, end;
    Py_buffer hows;
    int added = 1;

    if (!PyArg_ParseTuple(arguments, "IIiy*:add", &first, &end, &operation.directory, &hows))
        return NULL;
    if (first < job->next || end < first || end > run->count) {
        PyErr_SetString(PyExc_IndexError, "the run has no such entries after those of the job");
        added = -1;
    } else if (!read_hows(&hows, run) || !is_free(job)) {
        added = -1;
    }
    for (; added > 0 && first < end; first += added > 0)
        added = run->entries[first].type == LS_HARDLINK ? 0 : add_operation(job, first, &hows, operation);
    PyBuffer_Release(&hows);
    return added < 0 ? NULL : PyLong_FromUnsignedLong(first);
}

static PyObject *add_link(PyObject *self, PyObject *arguments)
{
    struct job_object *job = job_of(self);
    const struct ls_run *run = run_of(job->run);
    struct ls_operation operation = {0};
    unsigned int index;
    Py_buffer hows;
    const char *base;
    Py_ssize_t length;
    int added = -1;

    if (!PyArg_ParseTuple(arguments, "Iiy*iy#:add_link", &index, &operation.directory, &hows, &operation.source, &base,
                          &length))
        return NULL;
    if (index < job->next || index >= run->count || run->entries[index].type != LS_HARDLINK) {
        PyErr_SetString(PyExc_IndexError, "the run has no such hard link after the entries of the job");
    } else if (read_hows(&hows, run) && is_free(job)) {
        const struct ls_text link = run->entries[index].link;

        /* The name is the end of the target, unless that is an odd one. */
        added = 0;
        if (length > 0 && (size_t)length <= link.length) {
            operation.source_base = (struct ls_text){link.at + link.length - (uint32_t)length, (uint32_t)length};
            if (memcmp(ls_text(run, operation.source_base), base, (size_t)length) == 0 &&
                ls_is_base(run, operation.source_base))
                added = add_operation(job, index, &hows, operation);
        }
    }
    PyBuffer_Release(&hows);
    return added < 0 ? NULL : PyBool_FromLong(added);
}

static PyObject *run_job(PyObject *self, PyObject *nothing)
{
    struct job_object *job = job_of(self);
    const struct ls_run *run = run_of(job->run);
    size_t done;
    int error;

    (void)nothing;
    if (!is_free(job))
        return NULL;
    job->running = true;
    Py_BEGIN_ALLOW_THREADS
    done = ls_make(run, job->operations + job->done, job->count - job->done, &error);
    Py_END_ALLOW_THREADS
    job->running = false;
    job->done += done;
    if (!error)
        return PyLong_FromLong(-1);
    return PyLong_FromUnsignedLong(job->operations[job->done++].entry);
}

static Py_ssize_t get_length(PyObject *self)
{
    return (Py_ssize_t)job_of(self)->count;
}

static PyObject *new_job(PyTypeObject *type, PyObject *arguments, PyObject *named)
{
    PyObject *module = PyType_GetModule(type), *run, *touched;
    struct state *state;
    struct job_object *job;

    if (!module)
        return NULL;
    state = PyModule_GetState(module);
    if (named && PyDict_Size(named)) {
        PyErr_SetString(PyExc_TypeError, "Job takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "O!O!:Job", state->run_type, &run, state->names_type, &touched))
        return NULL;
    job = (struct job_object *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (job) {
        Py_INCREF(run);
        job->run = run;
        Py_INCREF(touched);
        job->touched = touched;
    }
    return (PyObject *)job;
}

static void free_job(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyMem_Free(job_of(self)->operations);
    Py_XDECREF(job_of(self)->run);
    Py_XDECREF(job_of(self)->touched);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"add", add, METH_VARARGS, "Add files and symbolic links of one directory; return the first that is not plain."},
    {"add_link", add_link, METH_VARARGS, "Add a hard link; return whether it is plain."},
    {"run", run_job, METH_NOARGS, "Go on up to the first operation that is left to Python; return its entry, or -1."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot job_slots[] = {
    {Py_tp_doc, "Files and links of a run, to make in the order of the tar."},
    {Py_tp_new, new_job},
    {Py_tp_dealloc, free_job},
    {Py_tp_methods, methods},
    {Py_sq_length, get_length},
    {0, NULL},
};

static PyType_Spec job_spec = {
    .name = "layerstore_native._kernels.Job",
    .basicsize = sizeof(struct job_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = job_slots,
};

int add_make(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &job_spec, NULL);
    int outcome = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;

    Py_XDECREF(type);
    return outcome;
}
