#include "fields.h"
#include "open.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* O_NONBLOCK: opening a fifo must not wait for a writer. */
#define READ (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
#define DIRECTORY (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* Read a file; return its length, -1 if it is unusual. */
static ptrdiff_t read_field(int directory, const char *name, bool needed, size_t limit, uint8_t *out)
{
    int file = ls_open_at(directory, name, READ, 0);
    ssize_t length;

    if (file < 0)
        return errno == ENOENT && !needed ? 0 : -1;
    do
        length = read(file, out, limit);
    while (length < 0 && errno == EINTR);
    close(file);
    /* An empty file is damage, and not the same as none. */
    return length > 0 && (size_t)length < limit ? length : -1;
}

ptrdiff_t ls_read_fields(int directory, const char *base, const struct ls_fields *fields, uint8_t *out)
{
    int record = ls_open_at(directory, base, DIRECTORY, 0);
    ptrdiff_t used = record < 0 ? -1 : 0;

    for (size_t number = 0; number < fields->count && used >= 0; number++) {
        ptrdiff_t length =
            read_field(record, fields->names[number], number < fields->needed, fields->limit, out + used);
        if (length < 0)
            used = -1;
        else
            out[(used += length + 1) - 1] = 0;
    }
    if (record >= 0)
        close(record);
    return used;
}
