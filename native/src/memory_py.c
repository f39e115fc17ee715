#include "kernels.h"

#include <malloc.h>

/* Memory that is freed stays with the process up to this size, and larger pieces are mapped by themselves. */
enum { KEPT = 256 << 20, MAPPED = 32 << 20 };

/* glibc gives freed memory back to the kernel early, and from the arenas of threads even earlier. For a process that
 * gets and frees chunks of a tar, that costs a page fault for each page of the tar. */
static PyObject *keep_memory(PyObject *module, PyObject *nothing)
{
    (void)module;
    (void)nothing;
#if defined(M_ARENA_MAX) && defined(M_TRIM_THRESHOLD) && defined(M_MMAP_THRESHOLD)
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_TRIM_THRESHOLD, KEPT);
    mallopt(M_MMAP_THRESHOLD, MAPPED);
#endif
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"keep_memory", keep_memory, METH_NOARGS, "Let this process keep the memory that it frees."},
    {NULL, NULL, 0, NULL},
};

int add_memory(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
