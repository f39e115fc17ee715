#include "crc64.h"
#include "kernels.h"

static PyObject *crc64(PyObject *module, PyObject *arguments)
{
    Py_buffer data;
    unsigned long long checksum = 0;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*|K:crc64", &data, &checksum))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    checksum = ls_crc64(checksum, data.buf, (size_t)data.len);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    return PyLong_FromUnsignedLongLong(checksum);
}

static PyMethodDef functions[] = {
    {"crc64", crc64, METH_VARARGS, "Return the CRC-64/GO-ISO of a buffer, continued from an earlier result."},
    {NULL, NULL, 0, NULL},
};

int add_checksum(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
