#include "stamps.h"

#include "blake2b.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Longer paths have no stamp; what is at them is compared. */
#define MAX_PATH 8192

static int compare(const void *one, const void *other)
{
    return memcmp(one, other, LS_STAMP);
}

void ls_sort_stamps(uint8_t *data, size_t count)
{
    if (count)
        qsort(data, count, LS_STAMP, compare);
}

/* Whether a time fits 64 bits of nanoseconds: it is before the year 2262, and not as long before 1970. */
static bool fits(const struct timespec *time)
{
    return time->tv_sec > -9000000000 && time->tv_sec < 9000000000;
}

static long long nanoseconds(const struct timespec *time)
{
    return (long long)time->tv_sec * 1000000000 + time->tv_nsec;
}

bool ls_stamp(uint8_t *stamp, const char *path, size_t length, const struct stat *status)
{
    char text[128 + MAX_PATH];
    /* How the size of a directory changes depends on the file system. */
    long long size = S_ISDIR(status->st_mode) ? 0 : (long long)status->st_size;

    if (length > MAX_PATH || !fits(&status->st_ctim) || !fits(&status->st_mtim))
        return false;
    int head = snprintf(text, 128, "%llu %lld %lld %lld ", (unsigned long long)status->st_ino,
                        nanoseconds(&status->st_ctim), size, nanoseconds(&status->st_mtim));
    if (head < 0 || head >= 128)
        return false;
    if (length)
        memcpy(text + head, path, length);
    ls_blake2b(stamp, LS_STAMP, (const uint8_t *)text, (size_t)head + length);
    return true;
}

static void take(struct ls_taking *taking, const char *path, size_t length, const struct stat *status)
{
    uint8_t stamp[LS_STAMP];

    if (ls_stamp(stamp, path, length, status) && nanoseconds(&status->st_ctim) < taking->before)
        ls_append(&taking->walk, &taking->stamps, stamp, sizeof stamp);
}

/* The directory that is being stamped. */
struct place {
    struct ls_taking *taking;
    int directory;
};

static void visit(void *context, const char *name, unsigned char type)
{
    struct place *place = context;
    struct ls_walk *walk = &place->taking->walk;
    struct stat status;
    size_t length = walk->path.used;

    if (type == DT_DIR) {
        ls_keep(walk, name, 0);
    } else if (fstatat(place->directory, name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
        walk->error = errno;
    } else if (S_ISDIR(status.st_mode)) {
        ls_keep(walk, name, 0);
    } else if (ls_append(walk, &walk->path, name, strlen(name))) {
        take(place->taking, (const char *)walk->path.data, walk->path.used, &status);
        ls_path_up(walk, length);
    }
}

static void take_below(struct ls_taking *taking, int directory, unsigned depth)
{
    struct ls_walk *walk = &taking->walk;
    struct place place = {taking, directory};
    size_t first = walk->names.used, length = walk->path.used;
    struct stat status;

    if (fstat(directory, &status) < 0) {
        walk->error = errno;
        return;
    }
    /* The path of the directory itself has no slash at its end. */
    take(taking, (const char *)walk->path.data, length - (length > 0), &status);
    ls_each_name(walk, directory, visit, &place);
    size_t end = walk->names.used;
    for (size_t at = first; at < end && !ls_walk_ended(walk);) {
        const char *name = ls_kept_name(walk, &at);
        int below = depth < LS_MAX_DEPTH && walk->budget ? ls_open_directory(directory, name) : -1;
        if (below < 0) {
            ls_note(walk, LS_STAMPS_LEFT, name, NULL, 0);
        } else {
            if (ls_path_down(walk, name))
                take_below(taking, below, depth + 1);
            ls_path_up(walk, length);
            close(below);
        }
    }
    walk->names.used = first;
}

void ls_take_stamps(struct ls_taking *taking, int directory)
{
    take_below(taking, directory, 0);
}

bool ls_has_stamp(const struct ls_stamps *stamps, const uint8_t *stamp)
{
    return stamps->count && bsearch(stamp, stamps->data, stamps->count, LS_STAMP, compare) != NULL;
}
