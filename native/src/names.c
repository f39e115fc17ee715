#include "names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { FIRST_ROOM = 256 };

/* SipHash-1-3, as Python has it for its own hashes: J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF",
 * with one round for each word and three at the end. */

static uint64_t rotated(uint64_t value, int bits)
{
    return value << bits | value >> (64 - bits);
}

static void mix(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotated(v[1], 13) ^ v[0];
    v[3] = rotated(v[3], 16) ^ v[2];
    v[0] = rotated(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotated(v[1], 17) ^ v[2];
    v[3] = rotated(v[3], 21) ^ v[0];
    v[2] = rotated(v[2], 32);
}

static void mix_in(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    mix(v);
    v[0] ^= word;
}

/* Return the hash of a name; never 0, which marks a free place. The order of bytes in a word does not matter here. */
static uint64_t hash(const uint64_t key[2], const uint8_t *name, size_t length)
{
    uint64_t v[4] = {
        key[0] ^ UINT64_C(0x736f6d6570736575),
        key[1] ^ UINT64_C(0x646f72616e646f6d),
        key[0] ^ UINT64_C(0x6c7967656e657261),
        key[1] ^ UINT64_C(0x7465646279746573),
    };
    uint64_t word = 0, value;
    size_t left = length;

    for (; left >= 8; name += 8, left -= 8) {
        memcpy(&word, name, 8);
        mix_in(v, word);
    }
    word = (uint64_t)length << 56;
    for (size_t at = 0; at < left; at++)
        word |= (uint64_t)name[at] << (8 * at);
    mix_in(v, word);
    v[2] ^= 0xFF;
    for (int round = 0; round < 3; round++)
        mix(v);
    value = v[0] ^ v[1] ^ v[2] ^ v[3];
    return value ? value : 1;
}

/* Return the place of a hash: where it is, or where it is to be. The table has free places. */
static size_t place_of(const struct ls_names *names, uint64_t value)
{
    size_t at = (size_t)value & (names->room - 1);

    while (names->table[at] && names->table[at] != value)
        at = (at + 1) & (names->room - 1);
    return at;
}

static bool has_hash(const struct ls_names *names, uint64_t value)
{
    return names->table && names->table[place_of(names, value)];
}

int ls_names_init(struct ls_names *names)
{
    ssize_t got;

    *names = (struct ls_names){0};
    do
        got = getrandom(names->key, sizeof names->key, 0);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof names->key ? 0 : -1;
}

void ls_names_free(struct ls_names *names)
{
    free(names->table);
    names->table = NULL;
}

bool ls_names_has(const struct ls_names *names, const void *name, size_t length)
{
    return has_hash(names, hash(names->key, name, length));
}

bool ls_names_has_with(const struct ls_names *names, const void *path, size_t length, char last)
{
    uint8_t longer[LS_MAX_NAME + 1];

    if (length > LS_MAX_NAME)
        return false;
    memcpy(longer, path, length);
    longer[length] = (uint8_t)last;
    return ls_names_has(names, longer, length + 1);
}

int ls_names_reserve(struct ls_names *names, size_t count)
{
    struct ls_names grown = *names;

    if (count > SIZE_MAX / 16 - names->count) {
        errno = ENOMEM;
        return -1;
    }
    if (!names->room)
        grown.room = FIRST_ROOM;
    /* At most seven of eight places are taken, so that a search ends soon. */
    while (grown.room - grown.room / 8 < names->count + count)
        grown.room *= 2;
    if (grown.room == names->room)
        return 0;
    grown.table = calloc(grown.room, sizeof *grown.table);
    if (!grown.table)
        return -1;
    for (size_t at = 0; at < names->room; at++)
        if (names->table[at])
            grown.table[place_of(&grown, names->table[at])] = names->table[at];
    free(names->table);
    *names = grown;
    return 0;
}

/* Add a hash for which there is room; return whether it is new, and its place. */
static bool add_hash(struct ls_names *names, uint64_t value, size_t *place)
{
    *place = place_of(names, value);
    if (names->table[*place])
        return false;
    names->table[*place] = value;
    names->count++;
    return true;
}

bool ls_names_add(struct ls_names *names, const void *name, size_t length)
{
    size_t place;

    return add_hash(names, hash(names->key, name, length), &place);
}

int ls_names_add_run(struct ls_names *names, const struct ls_run *run)
{
    size_t *places, added = 0;

    if (!run->count)
        return 1;
    if (ls_names_reserve(names, run->count) < 0)
        return -1;
    places = malloc(run->count * sizeof *places);
    if (!places)
        return -1;
    for (; added < run->count; added++) {
        struct ls_text path = run->entries[added].path;
        if (!add_hash(names, hash(names->key, (const uint8_t *)ls_text(run, path), path.length), &places[added]))
            break;
    }
    if (added < run->count)
        /* The last one that was added is on no other one's way, so that it can be taken out as if it never was in. */
        for (size_t number = added; number--; names->count--)
            names->table[places[number]] = 0;
    free(places);
    return added == run->count;
}

int ls_names_add_empty(struct ls_names *names, const struct ls_run *run)
{
    if (ls_names_reserve(names, run->count) < 0)
        return -1;
    for (size_t number = 0; number < run->count; number++) {
        const struct ls_entry *entry = &run->entries[number];
        if (!entry->size)
            ls_names_add(names, ls_text(run, entry->path), entry->path.length);
    }
    return 0;
}
