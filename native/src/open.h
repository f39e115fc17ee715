/* Open a name in a directory, once more if a signal has interrupted that, as it can on FUSE and network file systems. */
#ifndef LAYERSTORE_OPEN_H
#define LAYERSTORE_OPEN_H

#include <errno.h>
#include <fcntl.h>
#include <sys/types.h>

/* Return what openat(2) returns. `mode` counts for a new file alone. */
static inline int ls_open_at(int directory, const char *name, int flags, mode_t mode)
{
    int opened;

    do
        opened = openat(directory, name, flags, mode);
    while (opened < 0 && errno == EINTR);
    return opened;
}

#endif
