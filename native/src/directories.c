#include "directories.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct ls_directory *ls_directory_new(const char *path, size_t length)
{
    struct ls_directory *directory;

    if (length > LS_MAX_NAME)
        return NULL;
    directory = calloc(1, sizeof *directory);
    if (!directory)
        return NULL;
    directory->path = malloc(length + 1);
    if (!directory->path) {
        free(directory);
        return NULL;
    }
    memcpy(directory->path, path, length);
    directory->path[length] = 0;
    directory->length = (uint32_t)length;
    directory->fd = -1;
    return directory;
}

int ls_directory_end(struct ls_directory *directory)
{
    const struct timespec times[2] = {directory->time, directory->time};
    int error = 0;

    if (directory->fd < 0)
        return 0;
    if (futimens(directory->fd, times) < 0)
        error = errno;
    /* After EINTR the descriptor is closed all the same on Linux. */
    if (close(directory->fd) < 0 && errno != EINTR && !error)
        error = errno;
    directory->fd = -1;
    return error;
}

void ls_directory_free(struct ls_directory *directory)
{
    if (!directory)
        return;
    if (!directory->hows && directory->fd >= 0)
        close(directory->fd);
    free(directory->hows);
    free(directory->path);
    free(directory);
}

static bool has_path(const struct ls_directory *directory, const char *path, size_t length)
{
    return directory->length == length && memcmp(directory->path, path, length) == 0;
}

struct ls_directory *ls_directories_find(struct ls_directories *directories, const char *path, size_t length)
{
    struct ls_directory *found = directories->last;

    if (!found || !has_path(found, path, length)) {
        size_t number = directories->count;

        found = NULL;
        while (number-- && !found)
            if (has_path(directories->all[number], path, length))
                found = directories->all[number];
        if (!found)
            return NULL;
        directories->last = found;
    }
    found->used = ++directories->clock;
    return found;
}

void ls_directories_add(struct ls_directories *directories, struct ls_directory *directory)
{
    directory->used = ++directories->clock;
    directories->all[directories->count++] = directory;
    directories->made += !directory->hows;
}

static struct ls_directory *take(struct ls_directories *directories, size_t number)
{
    struct ls_directory *taken = directories->all[number];

    directories->all[number] = directories->all[--directories->count];
    directories->made -= !taken->hows;
    if (directories->last == taken)
        directories->last = NULL;
    return taken;
}

struct ls_directory *ls_directories_oldest(struct ls_directories *directories)
{
    size_t oldest = directories->count;

    if (directories->made < LS_MAX_MADE)
        return NULL;
    for (size_t number = 0; number < directories->count; number++) {
        const struct ls_directory *one = directories->all[number];
        if (!one->hows && (oldest == directories->count || one->used < directories->all[oldest]->used))
            oldest = number;
    }
    return take(directories, oldest);
}

void ls_directories_end_loans(struct ls_directories *directories)
{
    size_t number = directories->count;

    while (number--)
        if (directories->all[number]->hows)
            ls_directory_free(take(directories, number));
}

struct ls_directory *ls_directories_take(struct ls_directories *directories)
{
    size_t number = directories->count;

    while (number--)
        if (!directories->all[number]->hows)
            return take(directories, number);
    return NULL;
}

void ls_directories_free(struct ls_directories *directories)
{
    while (directories->count)
        ls_directory_free(take(directories, directories->count - 1));
}
