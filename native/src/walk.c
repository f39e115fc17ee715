#include "walk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LISTING_SIZE (1 << 15)

/* The head of what getdents64(2) writes for each name. */
struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

bool ls_append(struct ls_walk *walk, struct ls_bytes *bytes, const void *data, size_t length)
{
    if (length > bytes->room - bytes->used) {
        size_t room = bytes->room ? bytes->room : 4096;
        while (room - bytes->used < length) {
            if (room > SIZE_MAX / 2) {
                walk->error = ENOMEM;
                return false;
            }
            room *= 2;
        }
        uint8_t *grown = realloc(bytes->data, room);
        if (!grown) {
            walk->error = ENOMEM;
            return false;
        }
        bytes->data = grown;
        bytes->room = room;
    }
    if (length)
        memcpy(bytes->data + bytes->used, data, length);
    bytes->used += length;
    return true;
}

bool ls_walk_begin(struct ls_walk *walk, uint64_t budget, const uint8_t *stop)
{
    *walk = (struct ls_walk){.budget = budget, .stop = stop};
    walk->listing = malloc(LISTING_SIZE);
    walk->attributes = malloc(2 * LS_MAX_XATTR);
    walk->values = malloc(2 * LS_MAX_XATTR);
    return walk->listing && walk->attributes && walk->values;
}

void ls_walk_end(struct ls_walk *walk)
{
    free(walk->names.data);
    free(walk->path.data);
    free(walk->notes.data);
    free(walk->listing);
    free(walk->attributes);
    free(walk->values);
    *walk = (struct ls_walk){0};
}

void ls_each_name(struct ls_walk *walk, int directory, ls_visit *visit, void *context)
{
    if (lseek(directory, 0, SEEK_SET) < 0) {
        walk->error = errno;
        return;
    }
    while (!ls_walk_ended(walk)) {
        long length = syscall(SYS_getdents64, directory, walk->listing, LISTING_SIZE);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0) {
            walk->error = errno;
            return;
        }
        if (!length)
            return;
        for (long at = 0; at < length && !ls_walk_ended(walk);) {
            struct entry *entry = (void *)(walk->listing + at);
            at += entry->length;
            if (!strcmp(entry->name, ".") || !strcmp(entry->name, ".."))
                continue;
            walk->budget -= walk->budget > 0;
            visit(context, entry->name, entry->type);
        }
    }
}

void ls_note(struct ls_walk *walk, char kind, const char *name, const void *more, size_t length)
{
    size_t own = strlen(name);
    /* Of the directory itself the path is noted without the slash at its end. */
    size_t above = walk->path.used - (!own && walk->path.used);

    if (own + above > UINT32_MAX || length > UINT32_MAX) {
        walk->error = ENAMETOOLONG;
        return;
    }
    struct ls_head head = {(uint8_t)kind, (uint32_t)(own + above), (uint32_t)length};
    struct ls_bytes *notes = &walk->notes;
    if (ls_append(walk, notes, &head, sizeof head) && ls_append(walk, notes, walk->path.data, above) &&
        ls_append(walk, notes, name, own))
        ls_append(walk, notes, more, length);
}

void ls_keep(struct ls_walk *walk, const char *name, uint8_t flag)
{
    if (ls_append(walk, &walk->names, &flag, 1))
        ls_append(walk, &walk->names, name, strlen(name) + 1);
}

const char *ls_kept_name(const struct ls_walk *walk, size_t *at)
{
    const char *name = (const char *)walk->names.data + *at + 1;

    *at += strlen(name) + 2;
    return name;
}

bool ls_path_down(struct ls_walk *walk, const char *name)
{
    return ls_append(walk, &walk->path, name, strlen(name)) && ls_append(walk, &walk->path, "/", 1);
}

void ls_path_up(struct ls_walk *walk, size_t length)
{
    walk->path.used = length;
}

bool ls_walk_ended(const struct ls_walk *walk)
{
    return walk->error || (walk->stop && __atomic_load_n(walk->stop, __ATOMIC_RELAXED));
}

/* Only the owner may read without changing the time of access. */
static int open_quietly(int parent, const char *name, int flags)
{
    for (;;) {
        int opened = openat(parent, name, flags);
        if (opened >= 0)
            return opened;
        if (errno == EPERM && flags & O_NOATIME)
            flags &= ~O_NOATIME;
        else if (errno != EINTR)
            return -1;
    }
}

int ls_open_directory(int parent, const char *name)
{
    return open_quietly(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME);
}

/* O_NONBLOCK: a fifo that has just taken the file's place must not be waited for. */
int ls_open_file(int parent, const char *name)
{
    return open_quietly(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOATIME);
}

/* The longest path that `handle_of` writes. */
#define HANDLE 320

/* Write a path to a name in an open directory, for calls that take no descriptor; return whether it fits. */
static bool handle_of(char *path, struct ls_attributed file)
{
    int length = snprintf(path, HANDLE, "/proc/self/fd/%d/%s", file.fd, file.name);

    if (length > 0 && length < HANDLE)
        return true;
    errno = ENAMETOOLONG;
    return false;
}

/* listxattrat(2), of Linux 6.13. The way through /proc takes four times as long. */
static ssize_t list_at(struct ls_attributed file, char *names)
{
#ifdef SYS_listxattrat
    return syscall(SYS_listxattrat, file.fd, file.name, AT_SYMLINK_NOFOLLOW, names, (size_t)LS_MAX_XATTR);
#elif defined(__alpha__)
    errno = ENOSYS;
    return -1;
#else
    return syscall(465, file.fd, file.name, AT_SYMLINK_NOFOLLOW, names, (size_t)LS_MAX_XATTR);
#endif
}

static ssize_t list_by_name(struct ls_attributed file, char *names)
{
    char path[HANDLE];
    ssize_t length = list_at(file, names);

    /* Filters of system calls answer EPERM to what they do not know. */
    if (length >= 0 || (errno != ENOSYS && errno != EPERM))
        return length;
    return handle_of(path, file) ? llistxattr(path, names, LS_MAX_XATTR) : -1;
}

ptrdiff_t ls_list_xattrs(struct ls_attributed file, char *names)
{
    ssize_t length = file.name ? list_by_name(file, names) : flistxattr(file.fd, names, LS_MAX_XATTR);

    return length < 0 && errno == ENOTSUP ? 0 : length;
}

ptrdiff_t ls_get_xattr(struct ls_attributed file, const char *name, char *value)
{
    char path[HANDLE];

    if (!file.name)
        return fgetxattr(file.fd, name, value, LS_MAX_XATTR);
    return handle_of(path, file) ? lgetxattr(path, name, value, LS_MAX_XATTR) : -1;
}

bool ls_is_hosts_own(const char *name)
{
    static const char *const own[] = {"trusted.overlay.", "user.overlay.", "security.selinux"};

    for (size_t number = 0; number < sizeof own / sizeof *own; number++)
        if (!strncmp(name, own[number], strlen(own[number])))
            return true;
    return false;
}

size_t ls_count_xattrs(const char *names, ptrdiff_t length)
{
    size_t count = 0;

    for (const char *name = names; name < names + length; name += strlen(name) + 1)
        count += !ls_is_hosts_own(name);
    return count;
}
