/* The extension module: it only collects what the other files have. */
#include "kernels.h"

static int execute(PyObject *module)
{
    static int (*const parts[])(PyObject *) = {add_checksum};

    for (size_t number = 0; number < sizeof parts / sizeof *parts; number++)
        if (parts[number](module) < 0)
            return -1;
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
    .m_size = 0,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__kernels(void);

PyMODINIT_FUNC PyInit__kernels(void)
{
    return PyModuleDef_Init(&definition);
}
