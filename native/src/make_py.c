#include "directories_py.h"
#include "plan.h"

#include <string.h>

/* Entries of a run, in the order of the tar: they are planned by one thread, and made by another. */
struct job_object {
    PyObject_HEAD
    PyObject *run;
    PyObject *touched;     /* what the layer has written so far, and what is planned */
    PyObject *directories; /* those that entries go into */
    struct ls_plan plan;
    size_t done; /* also counts what was left to Python */
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

/* Copy what says how the kinds of the run are made: a whole one for each. */
static bool read_hows(const Py_buffer *buffer, const struct ls_run *run, struct ls_how hows[LS_MAX_KINDS])
{
    if ((size_t)buffer->len != run->kind_count * sizeof *hows) {
        PyErr_Format(PyExc_ValueError, "there are %zu kinds, and %zd bytes say how to make them", run->kind_count,
                     buffer->len);
        return false;
    }
    memcpy(hows, buffer->buf, (size_t)buffer->len);
    return true;
}

/* Return whether what says how to make entries in lent directories is about the kinds of the run. */
static bool are_of_run(const struct ls_directories *directories, const struct ls_run *run)
{
    for (size_t number = 0; number < directories->count; number++) {
        const struct ls_directory *one = directories->all[number];

        if (one->hows && one->how_count != run->kind_count) {
            PyErr_SetString(PyExc_ValueError, "a directory was lent for another run");
            return false;
        }
    }
    return true;
}

static bool has_directory(const struct ls_run *run)
{
    for (size_t number = 0; number < run->kind_count; number++)
        if (run->kinds[number].type == LS_DIRECTORY)
            return true;
    return false;
}

static PyObject *plan(struct job_object *job, struct ls_directories *directories, struct ls_names *touched,
                      const struct ls_how *hows, uint32_t first)
{
    enum ls_reason reason;

    if (!are_of_run(directories, run_of(job->run)))
        return NULL;
    if (has_directory(run_of(job->run))) {
        job->running = true;
        Py_BEGIN_ALLOW_THREADS
        reason = ls_plan_run(&job->plan, directories, touched, hows, &first);
        Py_END_ALLOW_THREADS
        job->running = false;
    } else {
        reason = ls_plan_run(&job->plan, directories, touched, hows, &first); /* it waits for nothing */
    }
    return reason == LS_NO_MEMORY ? PyErr_NoMemory() : Py_BuildValue("(Ii)", first, (int)reason);
}

static PyObject *add(PyObject *self, PyObject *arguments)
{
    struct job_object *job = job_of(self);
    struct ls_how hows[LS_MAX_KINDS];
    struct ls_directories *directories;
    struct ls_names *touched;
    unsigned int first;
    Py_buffer buffer;
    bool ready;
    PyObject *found = NULL;

    if (!PyArg_ParseTuple(arguments, "Iy*:add", &first, &buffer))
        return NULL;
    ready = is_free(job) && read_hows(&buffer, run_of(job->run), hows);
    PyBuffer_Release(&buffer);
    if (!ready)
        return NULL;
    if (first < job->plan.next || first > run_of(job->run)->count) {
        PyErr_SetString(PyExc_IndexError, "the run has no such entry after those of the job");
        return NULL;
    }
    directories = take_directories(job->directories);
    if (!directories)
        return NULL;
    touched = take_names(job->touched);
    if (touched) {
        found = plan(job, directories, touched, hows, first);
        return_names(job->touched);
    }
    return_directories(job->directories);
    return found;
}

static PyObject *run_job(PyObject *self, PyObject *nothing)
{
    struct job_object *job = job_of(self);
    const struct ls_run *run = run_of(job->run);
    const struct ls_operation *failed;
    size_t done;
    int error;

    (void)nothing;
    if (!is_free(job))
        return NULL;
    job->running = true;
    Py_BEGIN_ALLOW_THREADS
    done = ls_make(run, job->plan.operations + job->done, job->plan.count - job->done, &error);
    Py_END_ALLOW_THREADS
    job->running = false;
    job->done += done;
    if (!error)
        return PyLong_FromLong(-1);
    failed = &job->plan.operations[job->done++];
    return failed->ends ? raise_times_error(failed->ends, error) : PyLong_FromUnsignedLong(failed->entry);
}

static PyObject *times_of(PyObject *self, PyObject *path)
{
    const struct ls_plan *plan = &job_of(self)->plan;
    char *data;
    Py_ssize_t length;

    if (PyBytes_AsStringAndSize(path, &data, &length) < 0)
        return NULL;
    for (size_t number = 0; plan->ends && number < plan->count; number++) {
        const struct ls_directory *one = plan->operations[number].ends;

        if (one && one->length == (size_t)length && memcmp(one->path, data, (size_t)length) == 0)
            return times_object(one);
    }
    Py_RETURN_NONE;
}

static PyObject *close_job(PyObject *self, PyObject *nothing)
{
    struct job_object *job = job_of(self);

    (void)nothing;
    if (!is_free(job))
        return NULL;
    ls_plan_free(&job->plan);
    job->done = 0;
    Py_RETURN_NONE;
}

static Py_ssize_t get_length(PyObject *self)
{
    return (Py_ssize_t)job_of(self)->plan.count;
}

static PyObject *new_job(PyTypeObject *type, PyObject *arguments, PyObject *named)
{
    PyObject *module = PyType_GetModule(type), *run, *touched, *directories;
    struct state *state;
    struct job_object *job;

    if (!module)
        return NULL;
    state = PyModule_GetState(module);
    if (named && PyDict_Size(named)) {
        PyErr_SetString(PyExc_TypeError, "Job takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "O!O!O!:Job", state->run_type, &run, state->names_type, &touched,
                          state->directories_type, &directories))
        return NULL;
    job = (struct job_object *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (job) {
        Py_INCREF(run);
        job->run = run;
        job->plan.run = run_of(run);
        Py_INCREF(touched);
        job->touched = touched;
        Py_INCREF(directories);
        job->directories = directories;
    }
    return (PyObject *)job;
}

static void free_job(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    ls_plan_free(&job_of(self)->plan);
    Py_XDECREF(job_of(self)->run);
    Py_XDECREF(job_of(self)->touched);
    Py_XDECREF(job_of(self)->directories);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"add", add, METH_VARARGS, "Plan entries, up to the first that needs something else; return which, and what."},
    {"run", run_job, METH_NOARGS, "Go on up to the first operation that is left to Python; return its entry, or -1."},
    {"times_of", times_of, METH_O, "Return the times that the job sets for a directory; None if it does not close it."},
    {"close", close_job, METH_NOARGS, "Drop what was not done, and close the directories that it was to close."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot job_slots[] = {
    {Py_tp_doc, "Entries of a run, to make in the order of the tar."},
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
