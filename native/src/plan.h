/* Planning of a run: its directories are made at once, and its files and links become operations, for `ls_make`. */
#ifndef LAYERSTORE_PLAN_H
#define LAYERSTORE_PLAN_H

#include "directories.h"
#include "names.h"

/* The most directories that the operations of one plan close. */
enum { LS_MAX_ENDS = 24 };

/* Why planning ends. */
enum ls_reason {
    LS_PLANNED,      /* all of the run is planned */
    LS_FULL,         /* a new plan has to go on */
    LS_NO_DIRECTORY, /* the directory that the entry goes into is not known, and has to be lent */
    LS_NO_SOURCE,    /* likewise the directory of a hard link's target */
    LS_LEFT,         /* the entry is not plain */
    LS_NO_MEMORY,
};

struct ls_plan {
    const struct ls_run *run;
    struct ls_operation *operations;
    size_t count, room;
    size_t ends;   /* how many directories they close */
    uint32_t next; /* the entry after the last that was planned or made: they only go forward */
};

/* Plan the entries of a run from one on, up to the first that needs something else; `first` is that entry then.
 *
 * `hows` say how its kinds are made in directories that the kernels have made; lent ones have their own. All paths of
 * what is planned or made are added to `touched`, those of directories with a slash at the end as well. An entry is not
 * plain if `touched` has its path, or if a directory cannot be made: nothing of it is left then.
 */
enum ls_reason ls_plan_run(struct ls_plan *plan, struct ls_directories *directories, struct ls_names *touched,
                           const struct ls_how *hows, uint32_t *first);

/* Free the operations. Directories that they were to close are closed. */
void ls_plan_free(struct ls_plan *plan);

#endif
