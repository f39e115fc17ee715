/* The extension module: it only collects what the other files have. */
#include "kernels.h"

/* The version of the kernels' interface. The core uses them if it is the one that it knows. It is here, and not in the
 * package's Python, so that it is that of the compiled kernels: in a checkout they may be older than their sources. */
enum { INTERFACE = 2 };

static int execute(PyObject *module)
{
    static int (*const parts[])(PyObject *) = {
        add_checksum,
        add_compare,
        add_copy,
        add_directories,
        add_fields,
        add_headers,
        add_lines,
        add_make,
        add_memory,
        add_names,
        add_pack,
        add_pieces,
        add_scan,
        add_stamps,
        add_upper,
    };

    for (size_t number = 0; number < sizeof parts / sizeof *parts; number++)
        if (parts[number](module) < 0)
            return -1;
    return PyModule_AddIntConstant(module, "INTERFACE", INTERFACE);
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    struct state *state = PyModule_GetState(module);

    Py_VISIT(state->directories_type);
    Py_VISIT(state->run_type);
    Py_VISIT(state->names_type);
    Py_VISIT(state->pieces_type);
    return 0;
}

static int clear(PyObject *module)
{
    struct state *state = PyModule_GetState(module);

    Py_CLEAR(state->directories_type);
    Py_CLEAR(state->run_type);
    Py_CLEAR(state->names_type);
    Py_CLEAR(state->pieces_type);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "layerstore_native._kernels",
    .m_doc = "Kernels over buffers; see layerstore_native.",
    .m_size = sizeof(struct state),
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC PyInit__kernels(void);

PyMODINIT_FUNC PyInit__kernels(void)
{
    return PyModuleDef_Init(&definition);
}
