/* Fuzz target of copies, comparisons and packing: a tree that the data describes is copied, and compared with its copy.
 *
 * What the kernels leave (hard links, fifos) is noted and not copied; then the copy lacks it, and nothing else differs.
 */
#include "../src/compare.h"
#include "../src/copy.h"
#include "../src/pack.h"
#include "../src/upper.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

int ls_fuzz_trees(const uint8_t *data, size_t size);

enum { DEEP = 6 };

static int make_directory(int above, const char *name)
{
    mkdirat(above, name, 0700);
    return openat(above, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Make a file of the kind that one byte says, with a name and content of another one. */
static void make_file(int directory, uint8_t kind, uint8_t number)
{
    char name[8], other[8];

    snprintf(name, sizeof name, "%u", number % 16u);
    snprintf(other, sizeof other, "%u", kind % 16u);
    if (kind < 0x20) {
        symlinkat(other, directory, name);
    } else if (kind < 0x30) {
        linkat(directory, other, directory, name, 0);
    } else if (kind < 0x38) {
        mkfifoat(directory, name, 0600);
    } else {
        int file = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kind & 0777);
        char content[64];
        if (file < 0)
            return;
        memset(content, kind, sizeof content);
        if (kind & 1 && lseek(file, (off_t)number << 12, SEEK_SET) < 0)
            abort();
        if (write(file, content, number % sizeof content) < 0 || (kind & 2 && ftruncate(file, (off_t)kind << 12) < 0))
            abort();
        if (kind & 4)
            fsetxattr(file, "user.fuzz", content, number % sizeof content, 0);
        close(file);
    }
}

/* Make the tree: 0xF. goes down, 0xE. goes up, everything else makes a file. */
static void make_tree(int root, const uint8_t *data, size_t size)
{
    int open_ones[DEEP] = {root};
    unsigned depth = 0;

    for (; size >= 2; data += 2, size -= 2) {
        if (data[0] >= 0xF0 && depth + 1 < DEEP) {
            char name[8];
            snprintf(name, sizeof name, "d%u", data[1] % 8u);
            int below = make_directory(open_ones[depth], name);
            if (below >= 0)
                open_ones[++depth] = below;
        } else if (data[0] >= 0xE0 && depth) {
            close(open_ones[depth--]);
        } else {
            make_file(open_ones[depth], data[0], data[1]);
        }
    }
    while (depth)
        close(open_ones[depth--]);
}

static size_t count_notes(const struct ls_walk *walk, const char *kinds)
{
    size_t count = 0;

    for (size_t at = 0; at < walk->notes.used;) {
        struct ls_head head;
        memcpy(&head, walk->notes.data + at, sizeof head);
        at += sizeof head + head.path + head.more;
        if (at > walk->notes.used)
            abort();
        count += strchr(kinds, (int)head.kind) != NULL;
    }
    return count;
}

static void check(int source, int target, uint64_t budget)
{
    struct ls_copy copy = {.masked = 07777, .uid = geteuid(), .gid = getegid(), .ways = 3};
    struct ls_comparison comparison = {.device = 0};
    struct ls_walk *walk = &comparison.walk;

    if (!ls_walk_begin(&copy.walk, budget, NULL) || !ls_walk_begin(walk, UINT64_MAX, NULL))
        abort();
    ls_copy_directory(&copy, source, target);
    ls_compare_directory(&comparison, target, source, false);
    if (copy.walk.error || walk->error)
        abort();
    size_t left = count_notes(&copy.walk, "lo"), other = count_notes(&copy.walk, "m");
    /* All that was not left is there, and equal. A directory that was left is empty, so its content is missing too. */
    if (count_notes(walk, "Ao") || count_notes(walk, "C") > left + other || (!left && count_notes(walk, "D")))
        abort();
    ls_walk_end(walk);
    ls_walk_end(&copy.walk);
}

/* Compare two trees of which nothing is known: whatever is found, nothing else happens. */
static void check_others(int upper, int lower)
{
    struct ls_comparison comparison = {.device = 0};
    struct ls_walk *walk = &comparison.walk;

    if (!ls_walk_begin(walk, UINT64_MAX, NULL))
        abort();
    ls_compare_directory(&comparison, upper, lower, false);
    if (walk->error || count_notes(walk, "ol"))
        abort();
    ls_walk_end(walk);
}

/* A tree that has all its stamps has no changes, whatever the other one is. */
static void check_stamps(int upper, int lower)
{
    struct ls_taking taking = {.before = INT64_MAX};
    struct ls_comparison comparison = {.device = 0};
    struct stat status;

    if (!ls_walk_begin(&taking.walk, UINT64_MAX, NULL) || !ls_walk_begin(&comparison.walk, UINT64_MAX, NULL) ||
        fstat(upper, &status) < 0)
        abort();
    ls_take_stamps(&taking, upper);
    if (taking.walk.error || taking.stamps.used % LS_STAMP || taking.walk.notes.used)
        abort();
    comparison.device = status.st_dev;
    comparison.stamps = (struct ls_stamps){taking.stamps.data, taking.stamps.used / LS_STAMP};
    ls_sort_stamps(taking.stamps.data, comparison.stamps.count);
    ls_compare_directory(&comparison, upper, lower, true);
    /* What is left is what the lower tree lacks. */
    if (comparison.walk.error || count_notes(&comparison.walk, "ACDon"))
        abort();
    ls_walk_end(&comparison.walk);
    ls_walk_end(&taking.walk);
    free(taking.stamps.data);
}

/* Pack what is in a directory: each entry is whole blocks, and no longer than it may be. */
static void pack_name(void *context, const char *name, unsigned char type)
{
    static const char above[] = "d/";
    int directory = *(int *)context;
    uint8_t *room = malloc(LS_PACK_ROOM);
    char *names = malloc(LS_MAX_XATTR);

    (void)type;
    if (!room || !names)
        abort();
    size_t length = ls_pack(directory, above, name, room, names);
    if (length % 512 || length > LS_PACK_ROOM)
        abort();
    free(names);
    free(room);
}

static void check_pack(int directory)
{
    struct ls_walk walk;

    if (!ls_walk_begin(&walk, UINT64_MAX, NULL))
        abort();
    ls_each_name(&walk, directory, pack_name, &directory);
    if (walk.error)
        abort();
    ls_walk_end(&walk);
}

/* Compare a directory as an upper layer with two others as lower ones: one note for each name. */
static void check_upper(int upper, int lower)
{
    const int lowers[] = {lower, upper};
    struct ls_walk walk;

    if (!ls_walk_begin(&walk, UINT64_MAX, NULL))
        abort();
    ls_compare_upper(&walk, upper, lowers, 1);
    if (walk.error || count_notes(&walk, "ACo") != UINT64_MAX - walk.budget)
        abort();
    ls_compare_upper(&walk, upper, lowers, 2);
    if (walk.error)
        abort();
    ls_walk_end(&walk);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

int ls_fuzz_trees(const uint8_t *data, size_t size)
{
    char path[] = "/dev/shm/ls-fuzz-XXXXXX";

    if (!size || size > 4096)
        return 0;
    if (!mkdtemp(path))
        abort();
    int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int source = make_directory(top, "source"), target = make_directory(top, "target");
    if (source < 0 || target < 0)
        abort();
    int other = make_directory(top, "other");
    if (other < 0)
        abort();
    make_tree(source, data + 1, size - 1);
    make_tree(other, data + size / 3, size - size / 3);
    check_others(source, other);
    check_stamps(source, other);
    check_upper(source, other);
    check_pack(source);
    check(source, target, data[0] % 2 ? UINT64_MAX : data[0] / 8u + 1);
    close(other);
    close(target);
    close(source);
    close(top);
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        abort();
    return 0;
}
