#include "decode.h"
#include "kernels.h"
#include "run.h"

/* Times further away than this many seconds have to be limited to what file systems can have. */
enum { MAX_SECONDS = 1000000000 };

/* What the tuples of a list have in common. */
struct listing {
    const struct ls_pieces *pieces;
    struct ls_run run; /* of one entry */
    struct ls_kind kind;
    PyObject *owner; /* of the kind; NULL before the first entry */
    PyObject *files;
    size_t padding;
    uint64_t offset;
};

/* Return mode, user and group of the entry: nearly always those of the one before. */
static PyObject *owner_of(struct listing *listing)
{
    const struct ls_kind *kind = &listing->run.kinds[0];

    if (listing->owner && kind->mode == listing->kind.mode && kind->uid == listing->kind.uid &&
        kind->gid == listing->kind.gid)
        return listing->owner;
    Py_XDECREF(listing->owner);
    listing->kind = *kind;
    listing->owner = Py_BuildValue("(HLL)", kind->mode, (long long)kind->uid, (long long)kind->gid);
    return listing->owner;
}

/* Add the entry whose headers were read; return -1 with an exception if that fails. */
static int add_file(struct listing *listing, const struct ls_piece *piece)
{
    const struct ls_entry *entry = &listing->run.entries[0];
    const long long size = entry->type == LS_DIRECTORY ? -1 : (long long)entry->size;
    const char *name = (const char *)listing->pieces->arena + piece->name;
    const uint64_t start = listing->offset + piece->segment_length;
    PyObject *owner = owner_of(listing), *file;
    int result;

    if (!owner)
        return -1;
    file = Py_BuildValue("(y#OLLy#KK)", ls_text(&listing->run, entry->path), (Py_ssize_t)entry->path.length, owner,
                         (long long)(entry->seconds * 1000000000 + entry->nanoseconds), size, name,
                         (Py_ssize_t)(entry->size ? piece->name_length : 0), (unsigned long long)start,
                         (unsigned long long)piece->crc);
    result = file ? PyList_Append(listing->files, file) : -1;
    Py_XDECREF(file);
    listing->padding = listing->run.padding;
    listing->offset = start + entry->size;
    return result;
}

/* Add plain files and directories, up to the first piece that is something else. Return that; -1 with an exception. */
static Py_ssize_t add_files(struct listing *listing, size_t number)
{
    for (; number < listing->pieces->count; number++) {
        const struct ls_piece *piece = &listing->pieces->piece[number];
        const struct ls_entry *entry;
        int found;

        if (!piece->name_length)
            break;
        found = ls_scan_headers(&listing->run, listing->pieces->arena + piece->segment, piece->segment_length,
                                listing->padding, piece->size);
        if (found < 0) {
            PyErr_NoMemory();
            return -1;
        }
        if (!found)
            break;
        entry = &listing->run.entries[0];
        if ((entry->type != LS_FILE && entry->type != LS_DIRECTORY) || entry->xattr_count ||
            entry->seconds < -MAX_SECONDS * 9LL || entry->seconds > MAX_SECONDS * 9LL)
            break;
        if (add_file(listing, piece) < 0)
            return -1;
    }
    return (Py_ssize_t)number;
}

static PyObject *headers(PyObject *module, PyObject *arguments)
{
    PyObject *pieces_type = ((struct state *)PyModule_GetState(module))->pieces_type, *pieces, *found = NULL;
    struct listing listing = {0};
    Py_ssize_t first, padding, next;
    unsigned long long offset;

    if (!PyArg_ParseTuple(arguments, "O!nnK:headers", pieces_type, &pieces, &first, &padding, &offset))
        return NULL;
    listing.pieces = pieces_of(pieces);
    if (first < 0 || (size_t)first > listing.pieces->count || padding < 0 || padding >= 512) {
        PyErr_SetString(PyExc_ValueError, "there is no such piece, or more padding than a block");
        return NULL;
    }
    listing.padding = (size_t)padding;
    listing.offset = offset;
    listing.files = PyList_New(0);
    next = listing.files ? add_files(&listing, (size_t)first) : -1;
    if (next >= 0)
        found = Py_BuildValue("(OnnK)", listing.files, next, (Py_ssize_t)listing.padding,
                              (unsigned long long)listing.offset);
    Py_XDECREF(listing.files);
    Py_XDECREF(listing.owner);
    ls_run_free(&listing.run);
    return found;
}

static PyMethodDef functions[] = {
    {"headers", headers, METH_VARARGS, "Return the plain files and directories of decoded tar-split lines."},
    {NULL, NULL, 0, NULL},
};

int add_headers(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
