#include "directories.h"
#include "open.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CAPABILITY "security.capability"
#define NO_ID UINT32_MAX

/* The latest time that is passed to the kernel. File systems clamp times far below it. */
static const int64_t MAX_SECONDS = INT64_C(1) << 62;

struct timespec ls_time_of(const struct ls_entry *entry)
{
    if (entry->seconds >= MAX_SECONDS)
        return (struct timespec){MAX_SECONDS, 0};
    if (entry->seconds < -MAX_SECONDS)
        return (struct timespec){-MAX_SECONDS, 0};
    return (struct timespec){entry->seconds, (long)entry->nanoseconds};
}

bool ls_is_base(const struct ls_run *run, struct ls_text text)
{
    const char *name = ls_text(run, text);

    if (!text.length || text.length > NAME_MAX || strlen(name) != text.length || strchr(name, '/'))
        return false;
    return strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Access lists have IDs that may be shifted. overlayfs keeps its own state in the others. */
static bool is_special_xattr(const char *name)
{
    static const char *const prefixes[] = {"system.posix_acl_", "trusted.overlay.", "user.overlay."};

    for (size_t number = 0; number < sizeof prefixes / sizeof *prefixes; number++)
        if (strncmp(name, prefixes[number], strlen(prefixes[number])) == 0)
            return true;
    return false;
}

bool ls_is_makable(const struct ls_run *run, const struct ls_entry *entry)
{
    if (!ls_is_base(run, entry->base))
        return false;
    if (entry->type == LS_SYMLINK)
        return !entry->xattr_count && entry->link.length && strlen(ls_text(run, entry->link)) == entry->link.length;
    for (uint32_t number = 0; number < entry->xattr_count; number++) {
        const struct ls_text name = run->xattrs[entry->xattrs + number].name;

        if (strlen(ls_text(run, name)) != name.length || is_special_xattr(ls_text(run, name)))
            return false;
    }
    return true;
}

static int write_all(int fd, const uint8_t *data, size_t length)
{
    while (length) {
        const ssize_t written = write(fd, data, length);

        if (written < 0) {
            if (errno != EINTR)
                return errno;
            continue;
        }
        if (!written)
            return EIO; /* it would go on for ever */
        data += written;
        length -= (size_t)written;
    }
    return 0;
}

/* Remove the access lists that a new file has got from its directory. */
static int drop_lists(int fd)
{
    static const char *const lists[] = {"system.posix_acl_access", "system.posix_acl_default"};

    for (size_t number = 0; number < sizeof lists / sizeof *lists; number++)
        if (fremovexattr(fd, lists[number]) < 0 && errno != ENODATA && errno != ENOTSUP)
            return errno;
    return 0;
}

static int set_xattrs(int fd, const struct ls_run *run, const struct ls_entry *entry)
{
    for (uint32_t number = 0; number < entry->xattr_count; number++) {
        const struct ls_xattr *one = &run->xattrs[entry->xattrs + number];

        if (fsetxattr(fd, ls_text(run, one->name), run->buffer + one->value, one->length, 0) < 0)
            return errno;
    }
    return 0;
}

/* Set what an entry says of an open file but for its times. Changing the owner clears bits of the mode and the file's
 * capabilities, so these come later. */
static int set_metadata(int fd, const struct ls_run *run, const struct ls_entry *entry, const struct ls_how *how)
{
    int error = 0;

    if (how->flags & LS_SET_OWNER && fchown(fd, how->uid, how->gid) < 0)
        return errno;
    if (how->flags & LS_DROP_LISTS)
        error = drop_lists(fd);
    if (!error && how->flags & LS_SET_MODE && fchmod(fd, how->mode) < 0)
        error = errno;
    if (!error)
        error = set_xattrs(fd, run, entry);
    return error;
}

static int set_metadata_and_times(int fd, const struct ls_run *run, const struct ls_entry *entry,
                                  const struct ls_how *how)
{
    const struct timespec times[2] = {ls_time_of(entry), ls_time_of(entry)};
    int error = set_metadata(fd, run, entry, how);

    if (!error && futimens(fd, times) < 0)
        error = errno;
    return error;
}

int ls_make_directory(const struct ls_run *run, const struct ls_entry *entry, const struct ls_operation *operation,
                      int *opened)
{
    const char *base = ls_text(run, entry->base);
    int error = 0, fd;

    if (mkdirat(operation->directory, base, operation->how.mode & 0777) < 0)
        return errno;
    fd = ls_open_at(operation->directory, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (fd < 0) {
        error = errno;
    } else {
        error = set_metadata(fd, run, entry, &operation->how);
        if (error)
            close(fd);
    }
    if (error)
        unlinkat(operation->directory, base, AT_REMOVEDIR);
    else
        *opened = fd;
    return error;
}

/* Remove the file that has an entry's name, if the entry may replace it: not a directory. */
static int clear_name(const struct ls_operation *operation, const char *base)
{
    if (!(operation->how.flags & LS_REPLACE))
        return EEXIST;
    return unlinkat(operation->directory, base, 0) < 0 ? errno : 0;
}

static int open_new(const struct ls_operation *operation, const char *base)
{
    return ls_open_at(operation->directory, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                      operation->how.mode);
}

static int make_file(const struct ls_run *run, const struct ls_entry *entry, const struct ls_operation *operation)
{
    const char *base = ls_text(run, entry->base);
    int fd = open_new(operation, base), error;

    if (fd < 0) {
        error = errno == EEXIST ? clear_name(operation, base) : errno;
        if (error)
            return error;
        fd = open_new(operation, base);
        if (fd < 0)
            return errno;
    }
    error = write_all(fd, run->buffer + entry->payload, entry->size);
    if (!error)
        error = set_metadata_and_times(fd, run, entry, &operation->how);
    /* After EINTR the descriptor is closed all the same on Linux. */
    if (close(fd) < 0 && errno != EINTR && !error)
        error = errno;
    if (error)
        unlinkat(operation->directory, base, 0);
    return error;
}

static int make_symlink(const struct ls_run *run, const struct ls_entry *entry, const struct ls_operation *operation)
{
    const char *base = ls_text(run, entry->base), *target = ls_text(run, entry->link);
    const struct timespec times[2] = {ls_time_of(entry), ls_time_of(entry)};
    const struct ls_how *how = &operation->how;
    int error = 0;

    if (symlinkat(target, operation->directory, base) < 0) {
        error = errno == EEXIST ? clear_name(operation, base) : errno;
        if (error)
            return error;
        if (symlinkat(target, operation->directory, base) < 0)
            return errno;
    }
    if (how->flags & LS_SET_OWNER && fchownat(operation->directory, base, how->uid, how->gid, AT_SYMLINK_NOFOLLOW) < 0)
        error = errno;
    if (!error && utimensat(operation->directory, base, times, AT_SYMLINK_NOFOLLOW) < 0)
        error = errno;
    if (error)
        unlinkat(operation->directory, base, 0);
    return error;
}

static bool is_same_time(struct timespec one, struct timespec other)
{
    return one.tv_sec == other.tv_sec && one.tv_nsec == other.tv_nsec;
}

/* Return whether a file has all that a hard link's entry says of it already, as after its first name nearly always. */
static bool has_metadata(const struct stat *status, const struct ls_entry *entry, const struct ls_how *how)
{
    const struct timespec time = ls_time_of(entry);

    if (entry->xattr_count || (status->st_mode & 07777) != how->mode)
        return false;
    if (how->flags & LS_SET_OWNER &&
        ((how->uid != NO_ID && how->uid != status->st_uid) || (how->gid != NO_ID && how->gid != status->st_gid)))
        return false;
    return is_same_time(status->st_mtim, time) && is_same_time(status->st_atim, time);
}

static bool has_xattr(const struct ls_run *run, const struct ls_entry *entry, const char *name)
{
    for (uint32_t number = 0; number < entry->xattr_count; number++)
        if (strcmp(ls_text(run, run->xattrs[entry->xattrs + number].name), name) == 0)
            return true;
    return false;
}

/* Apply a hard link's entry to its file. The file keeps its capabilities, unless the entry has others. */
static int set_metadata_of_link(const struct ls_run *run, const struct ls_entry *entry,
                                const struct ls_operation *operation)
{
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    char capability[256]; /* the kernel's have 24 bytes at most */
    ssize_t length;
    int fd = ls_open_at(operation->directory, ls_text(run, entry->base), flags, 0), error;

    if (fd < 0)
        return errno;
    length = fgetxattr(fd, CAPABILITY, capability, sizeof capability);
    if (length < 0 && errno == ERANGE) {
        error = errno;
    } else {
        error = set_metadata_and_times(fd, run, entry, &operation->how);
        /* After an error too: Python, which does it again, would not find them any more. */
        if (length > 0 && !has_xattr(run, entry, CAPABILITY) &&
            fsetxattr(fd, CAPABILITY, capability, (size_t)length, 0) < 0 && !error)
            error = errno;
    }
    if (close(fd) < 0 && errno != EINTR && !error)
        error = errno;
    return error;
}

static int make_link(const struct ls_run *run, const struct ls_entry *entry, const struct ls_operation *operation)
{
    const char *base = ls_text(run, entry->base), *source = ls_text(run, operation->source_base);
    struct stat status;
    int error = 0;

    if (fstatat(operation->source, source, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return errno;
    if (!S_ISREG(status.st_mode))
        return EINVAL; /* links to other files need care */
    if (linkat(operation->source, source, operation->directory, base, 0) < 0) {
        error = errno == EEXIST ? clear_name(operation, base) : errno;
        if (error)
            return error;
        if (linkat(operation->source, source, operation->directory, base, 0) < 0)
            return errno;
    }
    if (!has_metadata(&status, entry, &operation->how))
        error = set_metadata_of_link(run, entry, operation);
    if (error)
        unlinkat(operation->directory, base, 0);
    return error;
}

size_t ls_make(const struct ls_run *run, const struct ls_operation *operations, size_t count, int *error)
{
    size_t done = 0;

    *error = 0;
    for (; done < count; done++) {
        const struct ls_operation *operation = &operations[done];
        const struct ls_entry *entry = &run->entries[operation->entry];

        if (operation->ends)
            *error = ls_directory_end(operation->ends);
        else if (entry->type == LS_FILE)
            *error = make_file(run, entry, operation);
        else if (entry->type == LS_SYMLINK)
            *error = make_symlink(run, entry, operation);
        else
            *error = make_link(run, entry, operation);
        if (*error)
            break;
    }
    return done;
}
