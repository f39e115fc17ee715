#include "copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#define NEW_FILE (O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC)
/* Up to this size the two calls of a plain copy are faster than copy_file_range(2). */
#define SMALL (1 << 16)
/* So much is copied before another thread is asked whether to stop. */
#define LARGE (1 << 24)
/* A file of so many bytes counts as one more name. */
#define COUNTED (1 << 14)
#define OWNER_ACCESS (S_IRUSR | S_IXUSR)

/* The directory that is being copied. */
struct place {
    struct ls_copy *copy;
    int source;
    int target;
    bool whole; /* nothing in it was left to others */
};

static bool unsupported(int number)
{
    return number == EOPNOTSUPP || number == EXDEV || number == ENOTTY || number == ENOSYS || number == EINVAL;
}

/* Copy a range by reading and writing; less if the source ends. */
static bool copy_plainly(struct ls_walk *walk, int source, int target, off_t offset, off_t length)
{
    char *buffer = walk->values;

    while (length > 0 && !ls_walk_ended(walk)) {
        ssize_t count = pread(source, buffer, length < SMALL ? (size_t)length : SMALL, offset);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return count == 0;
        for (ssize_t done = 0; done < count;) {
            ssize_t written = pwrite(target, buffer + done, (size_t)(count - done), offset + done);
            if (written < 0 && errno != EINTR)
                return false;
            done += written < 0 ? 0 : written;
        }
        offset += count;
        length -= count;
    }
    return length <= 0;
}

/* Copy a range: a large one in the kernel, if the file system supports that. */
static bool copy_range(struct ls_copy *copy, int source, int target, off_t offset, off_t length)
{
    while (length > SMALL && copy->ways & LS_COPY_KERNEL && !ls_walk_ended(&copy->walk)) {
        off_t from = offset, to = offset;
        ssize_t count = copy_file_range(source, &from, target, &to, length < LARGE ? (size_t)length : LARGE, 0);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0 && !unsupported(errno))
            return false;
        if (count < 0)
            copy->ways &= ~LS_COPY_KERNEL;
        if (count <= 0)
            break;
        offset += count;
        length -= count;
    }
    return copy_plainly(&copy->walk, source, target, offset, length);
}

/* Copy the parts of a file that hold data; the others stay holes. */
static bool copy_parts(struct ls_copy *copy, int source, int target, off_t size)
{
    for (off_t end = 0; end < size;) {
        off_t start = lseek(source, end, SEEK_DATA);
        if (start < 0 && errno != ENXIO)
            return false;
        if (start < 0 || start >= size)
            break;
        end = lseek(source, start, SEEK_HOLE);
        if (end < 0)
            return false;
        if (end > size)
            end = size;
        if (!copy_range(copy, source, target, start, end - start))
            return false;
    }
    return ftruncate(target, size) == 0;
}

static bool copy_content(struct ls_copy *copy, int source, int target, const struct stat *status)
{
    if (copy->ways & LS_COPY_REFLINK) {
        if (ioctl(target, FICLONE, source) == 0)
            return true;
        if (!unsupported(errno))
            return false;
        if (errno != EINVAL) /* which concerns this file alone */
            copy->ways &= ~LS_COPY_REFLINK;
    }
    if (status->st_blocks * 512 < status->st_size)
        return copy_parts(copy, source, target, status->st_size);
    return copy_range(copy, source, target, 0, status->st_size);
}

static bool copy_xattrs(struct ls_walk *walk, int source, int target)
{
    struct ls_attributed file = {source, NULL};
    char *names = walk->attributes;
    ptrdiff_t length = ls_list_xattrs(file, names);

    for (const char *name = names; length > 0 && name < names + length; name += strlen(name) + 1) {
        ptrdiff_t size = ls_get_xattr(file, name, walk->values);
        if (size < 0 || fsetxattr(target, name, walk->values, (size_t)size, 0) < 0)
            return false;
    }
    return length >= 0;
}

/* Apply metadata to an open file, which belongs to this user and group. */
static bool apply(struct ls_copy *copy, int source, int target, const struct stat *status, uid_t uid, gid_t gid)
{
    mode_t mode = status->st_mode & 07777;
    struct timespec times[2] = {status->st_atim, status->st_mtim};

    if ((status->st_uid != uid || status->st_gid != gid) && fchown(target, status->st_uid, status->st_gid) < 0)
        return false;
    if ((mode & copy->masked || S_ISDIR(status->st_mode)) && fchmod(target, mode) < 0)
        return false;
    return copy_xattrs(&copy->walk, source, target) && futimens(target, times) == 0;
}

/* Copy a regular file that has only this name; return whether it is in the copy, with everything. */
static bool copy_file(struct place *place, const char *name)
{
    struct ls_copy *copy = place->copy;
    struct stat status;
    bool done = false;
    int source = ls_open_file(place->source, name);

    if (source < 0)
        return false;
    if (fstat(source, &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink == 1) {
        int target = openat(place->target, name, NEW_FILE, status.st_mode & 0777);
        if (target >= 0) {
            uint64_t cost = (uint64_t)status.st_size / COUNTED;
            copy->walk.budget -= copy->walk.budget < cost ? copy->walk.budget : cost;
            done = (!status.st_size || copy_content(copy, source, target, &status)) &&
                   apply(copy, source, target, &status, copy->uid, copy->gid);
            if (close(target) < 0 || !done) {
                done = false;
                unlinkat(place->target, name, 0);
            }
        }
    }
    close(source);
    return done;
}

static bool copy_symlink(struct place *place, const char *name, const struct stat *status)
{
    struct ls_copy *copy = place->copy;
    char *to = copy->walk.values;
    struct timespec times[2] = {status->st_atim, status->st_mtim};
    ssize_t length = readlinkat(place->source, name, to, LS_MAX_XATTR);

    if (length <= 0 || length == LS_MAX_XATTR ||
        ls_list_xattrs((struct ls_attributed){place->source, name}, copy->walk.attributes) != 0)
        return false;
    to[length] = 0;
    if (symlinkat(to, place->target, name) < 0)
        return false;
    if ((status->st_uid == copy->uid && status->st_gid == copy->gid) ||
        fchownat(place->target, name, status->st_uid, status->st_gid, AT_SYMLINK_NOFOLLOW) == 0)
        if (utimensat(place->target, name, times, AT_SYMLINK_NOFOLLOW) == 0)
            return true;
    unlinkat(place->target, name, 0);
    return false;
}

static bool copy_name(struct place *place, const char *name, unsigned char type)
{
    struct stat status;

    if (type == DT_REG)
        return copy_file(place, name);
    if (type == DT_DIR) {
        if (mkdirat(place->target, name, 0700) < 0)
            return false;
        ls_keep(&place->copy->walk, name, 0);
        return true;
    }
    if ((type != DT_LNK && type != DT_UNKNOWN) || fstatat(place->source, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    if (type == DT_UNKNOWN && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)))
        return copy_name(place, name, S_ISREG(status.st_mode) ? DT_REG : DT_DIR);
    return S_ISLNK(status.st_mode) && status.st_nlink == 1 && copy_symlink(place, name, &status);
}

static void visit(void *context, const char *name, unsigned char type)
{
    struct place *place = context;

    if (!copy_name(place, name, type)) {
        place->whole = false;
        ls_note(&place->copy->walk, LS_COPY_OTHER, name, NULL, 0);
    }
}

/* Apply the metadata of a directory in which nothing more is made. */
static void finish(struct place *place, const struct stat *status)
{
    struct ls_copy *copy = place->copy;
    struct stat made;

    if ((status->st_mode & OWNER_ACCESS) != OWNER_ACCESS)
        ls_note(&copy->walk, place->whole ? LS_COPY_INACCESSIBLE : LS_COPY_OPEN, "", NULL, 0);
    else if (!place->whole || fstat(place->target, &made) < 0 ||
             !apply(copy, place->source, place->target, status, made.st_uid, made.st_gid))
        ls_note(&copy->walk, LS_COPY_OPEN, "", NULL, 0);
}

static void copy_directory(struct ls_copy *copy, int source, int target, unsigned depth);

/* The name is not used any more once the directory is copied: see ls_kept_name. */
static void enter(struct ls_copy *copy, int source, int target, const char *name, unsigned depth)
{
    struct ls_walk *walk = &copy->walk;
    size_t length = walk->path.used;
    int from = -1, to = -1;

    if (depth < LS_MAX_DEPTH && walk->budget) {
        from = ls_open_directory(source, name);
        to = from < 0 ? -1 : ls_open_directory(target, name);
    }
    if (to < 0) {
        ls_note(walk, LS_COPY_LEFT, name, NULL, 0);
    } else if (ls_path_down(walk, name)) {
        copy_directory(copy, from, to, depth);
        ls_path_up(walk, length);
    }
    if (to >= 0)
        close(to);
    if (from >= 0)
        close(from);
}

static void copy_directory(struct ls_copy *copy, int source, int target, unsigned depth)
{
    struct ls_walk *walk = &copy->walk;
    struct place place = {copy, source, target, true};
    size_t first = walk->names.used;
    struct stat status;

    /* Before anything in it is read, which may change the time of access. */
    if (fstat(source, &status) < 0) {
        walk->error = errno;
        return;
    }
    ls_each_name(walk, source, visit, &place);
    if (ls_walk_ended(walk))
        return;
    finish(&place, &status);
    size_t end = walk->names.used;
    for (size_t at = first; at < end && !ls_walk_ended(walk);) {
        const char *name = ls_kept_name(walk, &at);
        enter(copy, source, target, name, depth + 1);
    }
    walk->names.used = first;
}

void ls_copy_directory(struct ls_copy *copy, int source, int target)
{
    copy_directory(copy, source, target, 0);
}
