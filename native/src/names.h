/* A set of names, of which it keeps 64-bit hashes with a random key: two names are mistaken for one with a probability
 * of one in 2^64, and such a pair cannot be prepared. Only one thread at a time may use a set. */
#ifndef LAYERSTORE_NAMES_H
#define LAYERSTORE_NAMES_H

#include "run.h"

#include <stdbool.h>

struct ls_names {
    uint64_t key[2];
    uint64_t *table; /* hashes by their lowest bits, each in the first free place; 0: free. NULL before the first one */
    size_t room;     /* places in the table: a power of two */
    size_t count;
};

/* Make an empty set with a random key; return -1 if there is none (errno says why). */
int ls_names_init(struct ls_names *names);

void ls_names_free(struct ls_names *names);

bool ls_names_has(const struct ls_names *names, const void *name, size_t length);

/* Return whether the set has a path, of at most LS_MAX_NAME bytes, with one more byte at its end. */
bool ls_names_has_with(const struct ls_names *names, const void *path, size_t length, char last);

/* Make room for so many more names, so that adding them needs no memory; return -1 if there is no memory. */
int ls_names_reserve(struct ls_names *names, size_t count);

/* Add a name for which there is room; return whether it is new. */
bool ls_names_add(struct ls_names *names, const void *name, size_t length);

/* Add the paths of a run. If one is in the set already or twice in the run, add none and return 0; otherwise return 1,
 * or -1 if there is no memory. */
int ls_names_add_run(struct ls_names *names, const struct ls_run *run);

/* Add the paths of the entries without payload; return -1 if there is no memory. */
int ls_names_add_empty(struct ls_names *names, const struct ls_run *run);

#endif
