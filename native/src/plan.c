#include "plan.h"

#include <stdlib.h>
#include <string.h>

/* Return whether the layer has neither written a path, nor anything below it, nor followed a link of this name. */
static bool is_untouched(const struct ls_names *touched, const struct ls_run *run, struct ls_text path)
{
    const char *name = ls_text(run, path);

    return path.length <= LS_MAX_NAME && !ls_names_has(touched, name, path.length) &&
           !ls_names_has_with(touched, name, path.length, '/') && !ls_names_has_with(touched, name, path.length, '\0');
}

/* Make room for so many operations more. */
static bool make_room(struct ls_plan *plan, size_t more)
{
    if (plan->count + more > plan->room) {
        size_t room = plan->room ? plan->room * 2 : 64;
        struct ls_operation *operations = realloc(plan->operations, room * sizeof *operations);

        if (!operations)
            return false;
        plan->operations = operations;
        plan->room = room;
    }
    return true;
}

/* Make a directory, and keep it open. There is room for an operation, and in `touched`. */
static enum ls_reason make_directory(struct ls_plan *plan, struct ls_directories *directories, struct ls_names *touched,
                                     const struct ls_entry *entry, const struct ls_operation *operation)
{
    const char *path = ls_text(plan->run, entry->path);
    struct ls_directory *made = ls_directory_new(path, entry->path.length), *oldest;
    char with_slash[LS_MAX_NAME + 1];

    if (!made)
        return LS_NO_MEMORY;
    made->time = ls_time_of(entry);
    if (ls_make_directory(plan->run, entry, operation, &made->fd)) {
        ls_directory_free(made);
        return LS_LEFT;
    }
    oldest = ls_directories_oldest(directories);
    if (oldest) {
        plan->operations[plan->count++] = (struct ls_operation){.ends = oldest};
        plan->ends++;
    }
    ls_directories_add(directories, made);
    ls_names_add(touched, path, entry->path.length);
    memcpy(with_slash, path, entry->path.length);
    with_slash[entry->path.length] = '/'; /* most directories are not empty */
    ls_names_add(touched, with_slash, entry->path.length + 1);
    return LS_PLANNED;
}

/* Find the path in the target of a hard link, if it is clean but for what says that it begins at the root. */
static bool find_target(const struct ls_run *run, struct ls_text link, struct ls_text *path, struct ls_text *base)
{
    const char *text = ls_text(run, link);
    uint32_t at = 0, component;

    while (at < link.length && (text[at] == '/' || (text[at] == '.' && at + 1 < link.length && text[at + 1] == '/')))
        at++;
    *path = (struct ls_text){link.at + at, link.length - at};
    for (component = at; at <= link.length; at++) {
        if (at < link.length && text[at] != '/')
            continue;
        *base = (struct ls_text){link.at + component, at - component};
        if (at == component || text[component] == '.')
            if (at - component < 2 || text[component + 1] == '.' || strncmp(text + component, ".wh.", 4) == 0)
                return false;
        component = at + 1;
    }
    return ls_is_base(run, *base);
}

/* Find where the file is that a hard link is to be made to. */
static enum ls_reason find_source(const struct ls_run *run, struct ls_directories *directories,
                                  const struct ls_names *touched, const struct ls_entry *entry,
                                  struct ls_operation *operation)
{
    struct ls_text path;
    const struct ls_directory *source;

    if (!find_target(run, entry->link, &path, &operation->source_base) ||
        !ls_names_has(touched, ls_text(run, path), path.length))
        return LS_LEFT;
    path.length = operation->source_base.at - path.at;
    source = ls_directories_find(directories, ls_text(run, path), path.length ? path.length - 1 : 0);
    if (!source)
        return LS_NO_SOURCE;
    operation->source = source->fd;
    return LS_PLANNED;
}

static enum ls_reason plan_entry(struct ls_plan *plan, struct ls_directories *directories, struct ls_names *touched,
                                 const struct ls_how *hows, uint32_t number)
{
    const struct ls_run *run = plan->run;
    const struct ls_entry *entry = &run->entries[number];
    const struct ls_text parent = ls_parent(entry);
    const struct ls_directory *directory;
    struct ls_operation operation = {.entry = number};

    if (plan->ends >= LS_MAX_ENDS)
        return LS_FULL;
    directory = ls_directories_find(directories, ls_text(run, parent), parent.length);
    if (!directory)
        return LS_NO_DIRECTORY;
    operation.directory = directory->fd;
    operation.how = (directory->hows ? directory->hows : hows)[entry->kind];
    if (operation.how.flags & LS_NOT_PLAIN || !ls_is_makable(run, entry) || !is_untouched(touched, run, entry->path))
        return LS_LEFT;
    if (entry->type == LS_HARDLINK) {
        enum ls_reason reason = find_source(run, directories, touched, entry, &operation);
        if (reason != LS_PLANNED)
            return reason;
    }
    if (!make_room(plan, 1) || ls_names_reserve(touched, 2) < 0)
        return LS_NO_MEMORY;
    if (entry->type == LS_DIRECTORY)
        return make_directory(plan, directories, touched, entry, &operation);
    ls_names_add(touched, ls_text(run, entry->path), entry->path.length);
    plan->operations[plan->count++] = operation;
    return LS_PLANNED;
}

enum ls_reason ls_plan_run(struct ls_plan *plan, struct ls_directories *directories, struct ls_names *touched,
                           const struct ls_how *hows, uint32_t *first)
{
    for (; *first < plan->run->count; plan->next = ++*first) {
        enum ls_reason reason = plan_entry(plan, directories, touched, hows, *first);

        if (reason != LS_PLANNED)
            return reason;
    }
    return LS_PLANNED;
}

void ls_plan_free(struct ls_plan *plan)
{
    for (size_t number = 0; number < plan->count; number++)
        ls_directory_free(plan->operations[number].ends);
    free(plan->operations);
    plan->operations = NULL;
    plan->count = plan->room = 0;
}
