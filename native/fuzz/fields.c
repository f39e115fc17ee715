/* Fuzz target of the fields of records: the data says what is at the names of three files, and what is read is that. */
#include "../src/fields.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int ls_fuzz_fields(const uint8_t *data, size_t size);

enum { FILES = 3, NEEDED = 2, LIMIT = 16 };

static const char *const names[FILES] = {"one", "two", "three"};

/* Make what the data says at a name, at most so many bytes; return how many it took. */
static size_t make(int directory, const char *name, const uint8_t *data, size_t size)
{
    if (!size || data[0] >= 0xF0)
        return size > 0;
    if (data[0] >= 0xE0) {
        if (symlinkat("one", directory, name) < 0)
            abort();
        return 1;
    }
    if (data[0] >= 0xD8) {
        if (mkfifoat(directory, name, 0600) < 0)
            abort();
        return 1;
    }
    size_t length = data[0] % (LIMIT + 2u);
    if (length > size - 1)
        length = size - 1;
    int file = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0 || write(file, data + 1, length) != (ssize_t)length)
        abort();
    close(file);
    return length + 1;
}

int ls_fuzz_fields(const uint8_t *data, size_t size)
{
    static const struct ls_fields fields = {names, FILES, NEEDED, LIMIT};
    char path[] = "/dev/shm/ls-fuzz-XXXXXX";
    uint8_t *out = malloc(FILES * LIMIT);

    if (!out || !mkdtemp(path))
        abort();
    int above = open("/dev/shm", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (above < 0 || directory < 0)
        abort();
    for (size_t number = 0; number < FILES; number++) {
        size_t taken = make(directory, names[number], data, size);
        data += taken;
        size -= taken;
    }
    ptrdiff_t length = ls_read_fields(above, strrchr(path, '/') + 1, &fields, out);
    if (length > FILES * LIMIT || (length >= 0 && (length < FILES || out[length - 1] != 0)))
        abort();
    for (size_t number = 0; number < FILES; number++)
        unlinkat(directory, names[number], 0);
    close(directory);
    close(above);
    if (rmdir(path) < 0)
        abort();
    free(out);
    return 0;
}
