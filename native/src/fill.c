#include "fill.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc64.h"

/* Limits of what is plain: directories below each other, the length of a path, and that of a name in it. */
#define MAX_DEPTH 32
#define MAX_PATH 1024
#define MAX_NAME 255

/* The directories that lead to the last file, all open. */
struct directories {
    int root;
    size_t depth;
    int descriptor[MAX_DEPTH];
    size_t end[MAX_DEPTH]; /* of the directory's path, in `path` */
    uint8_t path[MAX_PATH];
};

static void close_to_depth(struct directories *directories, size_t depth)
{
    while (directories->depth > depth)
        close(directories->descriptor[--directories->depth]);
}

/* Copy a component of a path to `out`, which has room for a NUL after it. Return whether it is plain. */
static int copy_component(const uint8_t *text, size_t length, char out[MAX_NAME + 1])
{
    if (!length || length > MAX_NAME || memchr(text, 0, length))
        return 0;
    if (text[0] == '.' && (length == 1 || (length == 2 && text[1] == '.')))
        return 0;
    memcpy(out, text, length);
    out[length] = 0;
    return 1;
}

/* Return how many of the open directories are on the path. */
static size_t common_depth(const struct directories *directories, const uint8_t *path, size_t length)
{
    for (size_t depth = directories->depth; depth; depth--) {
        const size_t end = directories->end[depth - 1];
        if (end <= length && (end == length || path[end] == '/') && !memcmp(directories->path, path, end))
            return depth;
    }
    return 0;
}

/* Open the directories of a path, which does not begin or end with a slash. Return the descriptor of the last, or -1
 * if the path is not plain, or something on it is no directory. */
static int enter(struct directories *directories, const uint8_t *path, size_t length)
{
    char name[MAX_NAME + 1];

    if (length > MAX_PATH)
        return -1;
    close_to_depth(directories, common_depth(directories, path, length));
    for (;;) {
        const size_t depth = directories->depth;
        const size_t before = depth ? directories->end[depth - 1] : 0;
        const int parent = depth ? directories->descriptor[depth - 1] : directories->root;
        if (before == length)
            return parent;
        const size_t begin = before ? before + 1 : 0;
        const uint8_t *const slash = memchr(path + begin, '/', length - begin);
        const size_t end = slash ? (size_t)(slash - path) : length;
        if (depth == MAX_DEPTH || !copy_component(path + begin, end - begin, name))
            return -1;
        const int descriptor = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (descriptor < 0)
            return -1;
        memcpy(directories->path + before, path + before, end - before);
        directories->descriptor[depth] = descriptor;
        directories->end[depth] = end;
        directories->depth++;
    }
}

/* Open a regular file of a known size in a directory; return -1 if there is none. */
static int open_file(int directory, const char *name, uint64_t size)
{
    struct stat status;

    /* It is looked at before it is opened: to open a device can have side effects. */
    if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) || !S_ISREG(status.st_mode) ||
        status.st_size < 0 || (uint64_t)status.st_size != size)
        return -1;
    /* O_NONBLOCK: should it be a fifo by now, to open it must not wait for a writer. */
    return openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

/* Read as many bytes as there is room for. Return whether there were so many. */
static int read_all(int descriptor, uint8_t *memory, size_t length)
{
    while (length) {
        const ssize_t got = read(descriptor, memory, length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return 0;
        memory += got;
        length -= (size_t)got;
    }
    return 1;
}

/* Store which file is open, so that a change of it after this shows. Return whether that is known. */
static int identify(int descriptor, struct ls_source *source)
{
    struct stat status;

    if (fstat(descriptor, &status))
        return 0;
    source->device = (int64_t)status.st_dev;
    source->inode = (int64_t)status.st_ino;
    source->changed = (int64_t)status.st_ctim.tv_sec * 1000000000 + status.st_ctim.tv_nsec;
    return 1;
}

/* Read a file to its place. Return whether it is the registered one. */
static int read_file(struct directories *directories, const struct ls_piece *piece, const uint8_t *path,
                     uint8_t *memory, struct ls_source *source)
{
    char base[MAX_NAME + 1];
    size_t length = piece->name_length;

    if (length > 2 && path[0] == '.' && path[1] == '/') {
        path += 2;
        length -= 2;
    }
    const uint8_t *const slash = memrchr(path, '/', length);
    const size_t above = slash ? (size_t)(slash - path) : 0;
    const size_t begin = slash ? above + 1 : 0;
    if ((slash && !above) || !copy_component(path + begin, length - begin, base))
        return 0;
    const int directory = enter(directories, path, above);
    const int descriptor = directory < 0 ? -1 : open_file(directory, base, piece->size);
    if (descriptor < 0)
        return 0;
    const int whole = (!source || identify(descriptor, source)) && read_all(descriptor, memory, (size_t)piece->size);
    close(descriptor);
    return whole && ls_crc64(0, memory, (size_t)piece->size) == piece->crc;
}

size_t ls_fill(const struct ls_pieces *pieces, size_t first, size_t last, int root, uint8_t *memory, size_t length,
               struct ls_source *sources, size_t *filled)
{
    struct directories directories = {.root = root};
    size_t done = 0;

    for (; first < last && first < pieces->count; first++) {
        const struct ls_piece *const piece = &pieces->piece[first];
        const size_t left = length - done;
        if (piece->segment_length > left || piece->size > left - piece->segment_length)
            break;
        struct ls_source *const source = sources ? sources++ : NULL;
        if (source)
            *source = (struct ls_source){.position = (int64_t)(done + piece->segment_length)};
        memcpy(memory + done, pieces->arena + piece->segment, piece->segment_length);
        done += piece->segment_length;
        if (piece->size && !read_file(&directories, piece, pieces->arena + piece->name, memory + done, source)) {
            done -= piece->segment_length;
            break;
        }
        done += (size_t)piece->size;
    }
    close_to_depth(&directories, 0);
    *filled = done;
    return first;
}
