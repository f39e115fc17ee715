/* Fuzz target of the planning of runs: the entries of a tar are made in one directory, and nothing outside of it.
 *
 * Each directory that is made has its time at the end, no descriptor stays open, and what is left is left as it was.
 */
#include "../src/plan.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int ls_fuzz_plan(const uint8_t *data, size_t size);

enum { MOST = 200, PLANS = MOST + 1 };

struct trial {
    struct ls_run run;
    struct ls_directories directories;
    struct ls_names touched;
    struct ls_how hows[LS_MAX_KINDS];
    struct ls_plan plans[PLANS];
    size_t count;
    int root;
    int lent[LS_MAX_LENT];
    size_t lent_count;
    bool made[MOST];
};

static void demand(int holds)
{
    if (!holds)
        abort();
}

static void choose_hows(struct trial *trial, const uint8_t *data, size_t size)
{
    for (size_t number = 0; number < trial->run.kind_count; number++) {
        const struct ls_kind *kind = &trial->run.kinds[number];
        const uint8_t byte = data[number * 7919u % size];
        const uint32_t flags = LS_SET_OWNER | LS_SET_MODE | LS_DROP_LISTS | LS_REPLACE;

        trial->hows[number] = (struct ls_how){kind->mode | 0700u, byte & 64 ? UINT32_MAX : (uint32_t)kind->uid,
                                              byte & 128 ? UINT32_MAX : byte, byte & flags};
        if (byte % 32 == 31)
            trial->hows[number].flags |= LS_NOT_PLAIN;
    }
}

/* Lend a directory for the rest; return whether that was done. */
static bool lend(struct trial *trial, const char *path, size_t length, int fd)
{
    const size_t bytes = trial->run.kind_count * sizeof(struct ls_how);
    struct ls_directory *directory;

    if (fd < 0 || trial->lent_count == LS_MAX_LENT)
        return false;
    directory = ls_directory_new(path, length);
    demand(directory != NULL);
    directory->hows = malloc(bytes);
    demand(directory->hows != NULL);
    memcpy(directory->hows, trial->hows, bytes);
    directory->how_count = trial->run.kind_count;
    directory->fd = fd;
    ls_directories_add(&trial->directories, directory);
    trial->lent[trial->lent_count++] = fd;
    return true;
}

/* Open the parent of an entry, component by component; return -1 if it is no directory below the root. */
static int open_parent(const struct trial *trial, const char *path, size_t length)
{
    char name[LS_MAX_NAME + 1], *at = name, *slash;
    int here = dup(trial->root);

    memcpy(name, path, length);
    name[length] = 0;
    for (; here >= 0 && *at; at = slash) {
        int next;

        slash = strchr(at, '/');
        if (slash)
            *slash++ = 0;
        else
            slash = at + strlen(at);
        next = openat(here, at, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        close(here);
        here = next;
    }
    return here;
}

static struct ls_plan *begin(struct trial *trial)
{
    demand(trial->count < PLANS);
    trial->plans[trial->count].run = &trial->run;
    return &trial->plans[trial->count++];
}

static void plan_all(struct trial *trial)
{
    struct ls_plan *plan = begin(trial);
    uint32_t index = 0;

    for (;;) {
        const uint32_t first = index;
        const enum ls_reason reason = ls_plan_run(plan, &trial->directories, &trial->touched, trial->hows, &index);

        demand(reason != LS_NO_MEMORY && index >= first && index <= trial->run.count && plan->ends <= LS_MAX_ENDS);
        demand(trial->directories.made <= LS_MAX_MADE);
        for (uint32_t number = first; number < index; number++)
            trial->made[number] = true;
        if (reason == LS_PLANNED) {
            demand(index == trial->run.count);
            return;
        }
        if (reason == LS_FULL) {
            plan = begin(trial);
            continue;
        }
        if (reason == LS_NO_DIRECTORY) {
            const struct ls_entry *entry = &trial->run.entries[index];
            const struct ls_text parent = ls_parent(entry);
            const char *path = ls_text(&trial->run, parent);
            int fd = open_parent(trial, path, parent.length);

            if (lend(trial, path, parent.length, fd))
                continue;
            if (fd >= 0)
                close(fd);
        }
        index++;
    }
}

static void make_all(struct trial *trial)
{
    struct ls_directory *directory;

    for (size_t number = 0; number < trial->count; number++) {
        const struct ls_plan *plan = &trial->plans[number];

        for (size_t done = 0; done < plan->count; done++) {
            int error;
            size_t more = ls_make(&trial->run, plan->operations + done, plan->count - done, &error);

            demand(error ? more < plan->count - done : more == plan->count - done);
            done += more;
            if (error)
                demand(!plan->operations[done].ends);
        }
    }
    while ((directory = ls_directories_take(&trial->directories))) {
        demand(ls_directory_end(directory) == 0);
        ls_directory_free(directory);
    }
}

/* Check the times of directories. Those that were lent do not keep theirs. */
static void check_times(const struct trial *trial)
{
    for (uint32_t number = 0; number < trial->run.count; number++) {
        const struct ls_entry *entry = &trial->run.entries[number];
        struct stat status;

        if (!trial->made[number] || entry->type != LS_DIRECTORY)
            continue;
        demand(fstatat(trial->root, ls_text(&trial->run, entry->path), &status, AT_SYMLINK_NOFOLLOW) == 0);
        demand(S_ISDIR(status.st_mode));
        if (trial->lent_count == 1 && entry->seconds >= 0 && entry->seconds < INT32_MAX)
            demand(status.st_mtim.tv_sec == entry->seconds && status.st_mtim.tv_nsec == (long)entry->nanoseconds);
    }
}

static void check_others(int top)
{
    struct stat status;

    demand(fstatat(top, "canary", &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode));
    demand(status.st_size == 0 && status.st_nlink == 1 && (status.st_mode & 07777) == 0600);
    demand(fstatat(top, ".", &status, 0) == 0 && status.st_nlink == 3);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

static void try_in(struct trial *trial, int top)
{
    int canary = openat(top, "canary", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    demand(canary >= 0 && mkdirat(top, "a", 0700) == 0);
    close(canary);
    trial->root = openat(top, "a", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    demand(trial->root >= 0 && symlinkat("..", trial->root, "l") == 0 && mkdirat(trial->root, "d", 0700) == 0);
    demand(ls_names_init(&trial->touched) == 0 && lend(trial, "", 0, trial->root));
    plan_all(trial);
    make_all(trial);
    check_times(trial);
    check_others(top);
    for (size_t number = 0; number < trial->count; number++)
        ls_plan_free(&trial->plans[number]);
    ls_directories_free(&trial->directories);
    ls_names_free(&trial->touched);
    while (trial->lent_count)
        close(trial->lent[--trial->lent_count]);
}

int ls_fuzz_plan(const uint8_t *data, size_t size)
{
    char path[] = "/dev/shm/ls-fuzz-XXXXXX";
    struct trial *trial;

    if (!size || size > 1 << 16)
        return 0;
    trial = calloc(1, sizeof *trial);
    demand(trial != NULL && ls_scan(&trial->run, data, size, 0, 0, 0, MOST, 1 << 16) == 0);
    if (trial->run.count) {
        demand(mkdtemp(path) != NULL);
        int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), next;

        demand(top >= 0);
        choose_hows(trial, data, size);
        try_in(trial, top);
        next = dup(top);
        demand(next == top + 1); /* nothing else is open */
        close(next);
        close(top);
        demand(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
    }
    ls_run_free(&trial->run);
    free(trial);
    return 0;
}
