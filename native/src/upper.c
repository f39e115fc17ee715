#include "upper.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct place {
    struct ls_walk *walk;
    int upper;
    const int *lowers;
    size_t count;
};

static bool is_whiteout(const struct stat *status)
{
    return S_ISCHR(status->st_mode) && status->st_rdev == 0;
}

/* Whether overlayfs keeps the content of a file in another place: its attributes redirect and metacopy say so. */
static bool may_be_moved(struct ls_walk *walk, int directory, const char *name)
{
    char *names = walk->attributes;
    ptrdiff_t length = ls_list_xattrs((struct ls_attributed){directory, name}, names);

    for (const char *one = names; length > 0 && one < names + length; one += strlen(one) + 1)
        if (strstr(one, "overlay.redirect") || strstr(one, "overlay.metacopy"))
            return true;
    return length < 0;
}

/* Two files of equal status need a closer look. */
static char compare_status(const struct stat *upper, const struct stat *lower)
{
    bool same = upper->st_mode == lower->st_mode && upper->st_uid == lower->st_uid && upper->st_gid == lower->st_gid &&
                upper->st_rdev == lower->st_rdev && upper->st_size == lower->st_size &&
                upper->st_mtim.tv_sec == lower->st_mtim.tv_sec && upper->st_mtim.tv_nsec == lower->st_mtim.tv_nsec;

    return same ? LS_UPPER_OTHER : LS_UPPER_MODIFY;
}

static char compare_name(const struct place *place, const char *name)
{
    struct stat upper, lower;

    if (fstatat(place->upper, name, &upper, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(upper.st_mode) || upper.st_nlink > 1 ||
        is_whiteout(&upper) || (S_ISREG(upper.st_mode) && may_be_moved(place->walk, place->upper, name)))
        return LS_UPPER_OTHER;
    for (size_t number = 0; number < place->count; number++) {
        if (fstatat(place->lowers[number], name, &lower, AT_SYMLINK_NOFOLLOW) < 0) {
            if (errno != ENOENT)
                return LS_UPPER_OTHER;
            continue;
        }
        if (is_whiteout(&lower))
            break;
        if (S_ISDIR(lower.st_mode) || lower.st_nlink > 1)
            return LS_UPPER_OTHER;
        return compare_status(&upper, &lower);
    }
    return LS_UPPER_ADD;
}

static void visit(void *context, const char *name, unsigned char type)
{
    struct place *place = context;

    (void)type;
    ls_note(place->walk, compare_name(place, name), name, NULL, 0);
}

void ls_compare_upper(struct ls_walk *walk, int upper, const int *lowers, size_t count)
{
    struct place place = {walk, upper, lowers, count};

    ls_each_name(walk, upper, visit, &place);
}
