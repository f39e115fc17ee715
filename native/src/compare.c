#include "compare.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* So much of two files is compared at a time. */
#define CHUNK LS_MAX_XATTR

/* The directories that are being compared. */
struct place {
    struct ls_comparison *comparison;
    struct ls_walk *walk;
    int upper;
    int lower;
    bool untouched;   /* no name in the upper one was added or removed */
    uint64_t in_both; /* names that are in both */
};

/* What is known of a directory that is kept, to enter it later. */
enum { UNREAD, SAME_INODE, UNTOUCHED };

enum result { EQUAL, DIFFERENT, UNKNOWN };

static bool same_inode(const struct stat *one, const struct stat *other)
{
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

static bool same_status(const struct stat *one, const struct stat *other)
{
    if (one->st_mode != other->st_mode || one->st_uid != other->st_uid || one->st_gid != other->st_gid ||
        one->st_rdev != other->st_rdev)
        return false;
    return S_ISDIR(one->st_mode) ||
           (one->st_mtim.tv_sec == other->st_mtim.tv_sec && one->st_mtim.tv_nsec == other->st_mtim.tv_nsec &&
            one->st_size == other->st_size);
}

static enum result compare_xattrs(struct ls_walk *walk, struct ls_attributed upper, struct ls_attributed lower)
{
    char *names = walk->attributes, *others = names + LS_MAX_XATTR;
    char *value = walk->values, *other = value + LS_MAX_XATTR;
    ptrdiff_t length = ls_list_xattrs(upper, names), lower_length = ls_list_xattrs(lower, others);

    if (length < 0 || lower_length < 0)
        return UNKNOWN;
    if (ls_count_xattrs(names, length) != ls_count_xattrs(others, lower_length))
        return DIFFERENT;
    for (const char *name = names; name < names + length; name += strlen(name) + 1) {
        if (ls_is_hosts_own(name))
            continue;
        ptrdiff_t size = ls_get_xattr(upper, name, value);
        ptrdiff_t lower_size = ls_get_xattr(lower, name, other);
        if (lower_size < 0 && errno == ENODATA && size >= 0)
            return DIFFERENT;
        if (size < 0 || lower_size < 0)
            return UNKNOWN;
        if (size != lower_size || memcmp(value, other, (size_t)size))
            return DIFFERENT;
    }
    return EQUAL;
}

static ssize_t read_at(int fd, char *buffer, size_t length, off_t offset)
{
    ssize_t count;

    do
        count = pread(fd, buffer, length, offset);
    while (count < 0 && errno == EINTR);
    return count;
}

/* Return where the next data of a file begins; its size if only a hole follows; -1 on an error. */
static off_t next_data(int fd, off_t offset, off_t size)
{
    off_t found = lseek(fd, offset, SEEK_DATA);

    if (found < 0)
        return errno == ENXIO ? size : -1;
    return found < size ? found : size;
}

static enum result compare_content(struct ls_walk *walk, int upper, int lower, off_t size, bool sparse)
{
    char *data = walk->values, *other = data + CHUNK;

    for (off_t offset = 0; offset < size && !ls_walk_ended(walk);) {
        if (sparse) {
            off_t first = next_data(upper, offset, size), second = next_data(lower, offset, size);
            if (first < 0 || second < 0)
                return UNKNOWN;
            offset = first < second ? first : second;
            if (offset == size)
                break;
        }
        size_t wanted = size - offset < CHUNK ? (size_t)(size - offset) : CHUNK;
        ssize_t count = read_at(upper, data, wanted, offset);
        /* A file that is shorter now than its status said was changed meanwhile. */
        if (count <= 0)
            return UNKNOWN;
        ssize_t second = read_at(lower, other, (size_t)count, offset);
        if (second < 0)
            return UNKNOWN;
        if (second != count || memcmp(data, other, (size_t)count))
            return DIFFERENT;
        offset += count;
    }
    return EQUAL;
}

static enum result compare_files(struct place *place, const char *name, const struct stat *upper,
                                 const struct stat *lower)
{
    enum result result = UNKNOWN;
    int first = ls_open_file(place->upper, name);
    int second = first < 0 ? -1 : ls_open_file(place->lower, name);

    if (second >= 0) {
        result = compare_xattrs(place->walk, (struct ls_attributed){first, NULL}, (struct ls_attributed){second, NULL});
        if (result == EQUAL) {
            bool sparse =
                upper->st_blocks * 512 < upper->st_size || lower->st_blocks * 512 < lower->st_size;
            result = compare_content(place->walk, first, second, upper->st_size, sparse);
        }
        close(second);
    }
    if (first >= 0)
        close(first);
    return result;
}

/* Compare two files that cannot be opened: links, devices, and so on. */
static enum result compare_unopened(struct place *place, const char *name, mode_t mode)
{
    char *target = place->walk->values, *other = target + LS_MAX_XATTR;

    enum result result = compare_xattrs(place->walk, (struct ls_attributed){place->upper, name},
                                        (struct ls_attributed){place->lower, name});

    if (result != EQUAL || !S_ISLNK(mode))
        return result;
    ssize_t length = readlinkat(place->upper, name, target, LS_MAX_XATTR);
    ssize_t second = readlinkat(place->lower, name, other, LS_MAX_XATTR);
    if (length < 0 || second < 0 || length == LS_MAX_XATTR)
        return UNKNOWN;
    return length != second || memcmp(target, other, (size_t)length) ? DIFFERENT : EQUAL;
}

/* Compare a name's files, but not what is in directories, nor their attributes. */
static enum result compare_name(struct place *place, const char *name, const struct stat *upper,
                                const struct stat *lower)
{
    if (!same_status(upper, lower))
        return DIFFERENT;
    if (same_inode(upper, lower) || S_ISDIR(upper->st_mode))
        return EQUAL;
    if (S_ISREG(upper->st_mode))
        return compare_files(place, name, upper, lower);
    return compare_unopened(place, name, upper->st_mode);
}

static void note_names(struct place *place, const char *name, const struct stat *upper, const struct stat *lower)
{
    struct ls_inodes inodes = {.upper = {upper->st_dev, upper->st_ino}};

    if (S_ISDIR(upper->st_mode) ||
        (upper->st_nlink < 2 && (!lower || lower->st_nlink < 2 || S_ISDIR(lower->st_mode))))
        return;
    if (lower) {
        inodes.lower[0] = lower->st_dev;
        inodes.lower[1] = lower->st_ino;
        inodes.in_lower = 1;
    }
    ls_note(place->walk, LS_COMPARE_NAME, name, &inodes, sizeof inodes);
}

/* Whether the file at a name is certainly as it was when the stamps were taken, and the lower tree has it. */
static bool is_unchanged(struct place *place, const char *name, const struct stat *upper)
{
    struct ls_comparison *comparison = place->comparison;
    struct ls_walk *walk = place->walk;
    size_t length = walk->path.used;
    uint8_t stamp[LS_STAMP];
    struct stat lower;

    if (!comparison->stamps.count || upper->st_dev != comparison->device ||
        !ls_append(walk, &walk->path, name, strlen(name)))
        return false;
    bool known = ls_stamp(stamp, (const char *)walk->path.data, walk->path.used, upper) &&
                 ls_has_stamp(&comparison->stamps, stamp);
    ls_path_up(walk, length);
    return known && (place->untouched || fstatat(place->lower, name, &lower, AT_SYMLINK_NOFOLLOW) == 0);
}

static void visit_upper(void *context, const char *name, unsigned char type)
{
    struct place *place = context;
    struct ls_walk *walk = place->walk;
    struct stat upper, found;
    struct stat *lower = &found;
    enum result result = DIFFERENT;

    (void)type;
    if (fstatat(place->upper, name, &upper, AT_SYMLINK_NOFOLLOW) < 0) {
        /* A name that has vanished is as one that was never there. */
        if (errno != ENOENT)
            ls_note(walk, LS_COMPARE_OTHER, name, NULL, 0);
        return;
    }
    if (is_unchanged(place, name, &upper)) {
        place->in_both++;
        if (S_ISDIR(upper.st_mode))
            ls_keep(walk, name, UNTOUCHED);
        return;
    }
    if (fstatat(place->lower, name, lower, AT_SYMLINK_NOFOLLOW) < 0) {
        lower = NULL;
        result = errno == ENOENT ? DIFFERENT : UNKNOWN;
    } else {
        place->in_both++;
        result = compare_name(place, name, &upper, lower);
    }
    if (result == UNKNOWN) {
        ls_note(walk, LS_COMPARE_OTHER, name, NULL, 0);
        return;
    }
    if (result == DIFFERENT)
        ls_note(walk, lower ? LS_COMPARE_MODIFY : LS_COMPARE_ADD, name, NULL, 0);
    note_names(place, name, &upper, lower);
    if (S_ISDIR(upper.st_mode)) {
        if (lower && S_ISDIR(lower->st_mode))
            ls_keep(walk, name, same_inode(&upper, lower) ? SAME_INODE : UNREAD);
        else
            ls_note(walk, LS_COMPARE_NEW, name, NULL, 0);
    }
}

static void count_lower(void *context, const char *name, unsigned char type)
{
    uint64_t *count = context;

    (void)name;
    (void)type;
    ++*count;
}

static void visit_lower(void *context, const char *name, unsigned char type)
{
    struct place *place = context;
    struct stat upper;

    (void)type;
    if (fstatat(place->upper, name, &upper, AT_SYMLINK_NOFOLLOW) < 0)
        ls_note(place->walk, errno == ENOENT ? LS_COMPARE_DELETE : LS_COMPARE_OTHER, name, NULL, 0);
}

static void compare_directory(struct ls_comparison *comparison, int upper, int lower, bool untouched, unsigned depth);

static char kind_of(uint8_t known)
{
    return known == UNREAD ? LS_COMPARE_LEFT : known == UNTOUCHED ? LS_COMPARE_UNTOUCHED : LS_COMPARE_SAME;
}

/* The name is not used any more once the directory is compared: see ls_kept_name. */
static void enter(struct place *place, const char *name, uint8_t known, unsigned depth)
{
    struct ls_walk *walk = place->walk;
    size_t length = walk->path.used;
    int first = -1, second = -1;
    enum result result = UNKNOWN;

    if (depth < LS_MAX_DEPTH && walk->budget) {
        first = ls_open_directory(place->upper, name);
        second = first < 0 ? -1 : ls_open_directory(place->lower, name);
    }
    if (second >= 0)
        result = known != UNREAD ? EQUAL
                                 : compare_xattrs(walk, (struct ls_attributed){first, NULL},
                                                  (struct ls_attributed){second, NULL});
    if (result == UNKNOWN)
        ls_note(walk, kind_of(known), name, NULL, 0);
    else if (result == DIFFERENT)
        ls_note(walk, LS_COMPARE_MODIFY, name, NULL, 0);
    if (result != UNKNOWN && ls_path_down(walk, name)) {
        compare_directory(place->comparison, first, second, known == UNTOUCHED, depth);
        ls_path_up(walk, length);
    }
    if (second >= 0)
        close(second);
    if (first >= 0)
        close(first);
}

/* Note the names that are only in the lower directory. */
static void find_deleted(struct place *place)
{
    uint64_t in_lower = 0;

    ls_each_name(place->walk, place->lower, count_lower, &in_lower);
    /* Nearly always all names of the lower tree were seen already, and need not be looked up. */
    if (in_lower != place->in_both)
        ls_each_name(place->walk, place->lower, visit_lower, place);
}

static void compare_directory(struct ls_comparison *comparison, int upper, int lower, bool untouched, unsigned depth)
{
    struct ls_walk *walk = &comparison->walk;
    struct place place = {comparison, walk, upper, lower, untouched, 0};
    size_t first = walk->names.used;

    ls_each_name(walk, upper, visit_upper, &place);
    if (!untouched)
        find_deleted(&place);
    size_t end = walk->names.used;
    for (size_t at = first; at < end && !ls_walk_ended(walk);) {
        uint8_t known = walk->names.data[at];
        const char *name = ls_kept_name(walk, &at);
        enter(&place, name, known, depth + 1);
    }
    walk->names.used = first;
}

void ls_compare_directory(struct ls_comparison *comparison, int upper, int lower, bool untouched)
{
    compare_directory(comparison, upper, lower, untouched, 0);
}
