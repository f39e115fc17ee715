/* Fuzz target of the making of files: the entries of a tar are made in two directories, and nothing outside of them.
 *
 * The kernel's flags, modes and owners come from the data too. What is left to Python leaves no file behind.
 */
#include "../src/make.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int ls_fuzz_make(const uint8_t *data, size_t size);

enum { MOST = 64, CONTENT = 6 };

static void demand(int holds)
{
    if (!holds)
        abort();
}

static int make_directory(int above, const char *name)
{
    demand(mkdirat(above, name, 0700) == 0);
    return openat(above, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Make a file that no entry may change, and a directory that is in the way of some. */
static void make_others(int top, int directory)
{
    int file = openat(top, "a", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    demand(file >= 0 && write(file, "canary", CONTENT) == CONTENT);
    close(file);
    demand(mkdirat(directory, "d", 0700) == 0);
}

static void check_others(int top, int directory)
{
    struct stat status;

    demand(fstatat(top, "a", &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode));
    demand(status.st_size == CONTENT && status.st_nlink == 1 && (status.st_mode & 07777) == 0600);
    demand(fstatat(directory, "d", &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode));
}

/* Return the inode that has an entry's name; 0 if there is none. */
static ino_t inode_of(const struct ls_run *run, const struct ls_operation *operation)
{
    struct stat status;
    const char *base = ls_text(run, run->entries[operation->entry].base);

    return fstatat(operation->directory, base, &status, AT_SYMLINK_NOFOLLOW) == 0 ? status.st_ino : 0;
}

static struct ls_operation operation_of(const struct ls_run *run, uint32_t number, const int *directories, uint8_t byte)
{
    const struct ls_entry *entry = &run->entries[number];
    struct ls_operation operation = {.entry = number, .directory = directories[byte & 1]};

    operation.how.mode = run->kinds[entry->kind].mode;
    operation.how.uid = byte & 2 ? UINT32_MAX : (uint32_t)run->kinds[entry->kind].uid;
    operation.how.gid = byte & 4 ? UINT32_MAX : byte;
    operation.how.flags = byte & (LS_SET_OWNER | LS_SET_MODE | LS_DROP_LISTS | LS_REPLACE);
    operation.source = directories[byte >> 1 & 1];
    operation.source_base = run->entries[byte % run->count].base;
    return operation;
}

static void make_all(const struct ls_run *run, const int *directories, const uint8_t *data, size_t size)
{
    struct ls_operation operations[MOST];
    size_t count = 0, done = 0;

    for (uint32_t number = 0; number < run->count && count < MOST; number++)
        if (ls_is_makable(run, &run->entries[number]))
            operations[count++] = operation_of(run, number, directories, data[number * 7919u % size]);
    while (done < count) {
        const struct ls_operation *first = &operations[done];
        ino_t before = inode_of(run, first), after;
        int error;

        demand(ls_make(run, first, 1, &error) == !error);
        after = inode_of(run, first);
        demand(error ? !after || after == before : after != 0);
        done++;
        if (done < count) {
            size_t rest = ls_make(run, &operations[done], count - done, &error);

            demand(error ? rest < count - done : rest == count - done);
            done += rest + (error != 0);
        }
    }
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

int ls_fuzz_make(const uint8_t *data, size_t size)
{
    char path[] = "/dev/shm/ls-fuzz-XXXXXX";
    struct ls_run run;

    if (!size || size > 1 << 16)
        return 0;
    demand(ls_scan(&run, data, size, 0, 0, 0, MOST, 1 << 16) == 0);
    if (run.count) {
        demand(mkdtemp(path) != NULL);
        int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int directories[2] = {make_directory(top, "first"), make_directory(top, "second")};

        demand(top >= 0 && directories[0] >= 0 && directories[1] >= 0);
        make_others(top, directories[0]);
        make_all(&run, directories, data, size);
        check_others(top, directories[0]);
        close(directories[1]);
        close(directories[0]);
        close(top);
        demand(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
    }
    ls_run_free(&run);
    return 0;
}
