/* Runs one fuzz target: `int TARGET(const uint8_t *data, size_t size)`, which the Makefile names with -DTARGET=…
 *
 * Linked with libFuzzer (-DLIBFUZZER), this file is only the name that libFuzzer calls. Elsewhere it is a small fuzzer:
 * it changes inputs at random, and keeps those that reach new code, which the compiler reports
 * (-fsanitize-coverage=trace-pc, for all files but this one). What libFuzzer does better is comparing values.
 *
 *     TARGET-fuzz [-seconds=N] [-runs=N] [-seed=N] [-max_len=N] [-timeout=N] [-keep=DIRECTORY] [-crash=FILE] SEEDS...
 *
 * SEEDS are files and directories. The inputs are tried in a child process: whatever ends it, its last input is then
 * written to the file of -crash, and the exit code is 1. Without -seconds and -runs each seed is tried once.
 */
#include <stddef.h>
#include <stdint.h>

int TARGET(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return TARGET(data, size);
}

#ifndef LIBFUZZER

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST_INPUTS 20000
#define PLACES (1u << 14)

struct input {
    uint8_t *data;
    size_t size;
};

/* What parent and child share: the input that is being tried, and how many were. */
struct shared {
    uint64_t runs;
    size_t size;
    uint8_t data[];
};

static struct {
    double seconds;
    uint64_t runs;
    uint64_t seed;
    size_t longest;
    unsigned timeout;
    const char *keep;
    const char *crash;
} options = {.seed = 1, .longest = 1 << 16, .timeout = 30, .crash = "crash"};

static struct input inputs[MOST_INPUTS];
static size_t input_count;
static struct shared *shared;
static uint64_t state;

/* Each place of the code has a byte, by a hash of its address. `reached` is of the run, `known` of all before it. */
static uint8_t reached[PLACES];
static uint8_t known[PLACES];

void __sanitizer_cov_trace_pc(void);

/* Called by the compiled code at each of its branches. Threads may miss a count: that does no harm. */
void __sanitizer_cov_trace_pc(void)
{
    uintptr_t place = (uintptr_t)__builtin_return_address(0);
    reached[(place ^ place >> 16) & (PLACES - 1)]++;
}

static void fail(const char *what, const char *which)
{
    fprintf(stderr, "%s %s: %s\n", what, which, strerror(errno));
    exit(2);
}

static uint64_t random_bits(void) /* xorshift64*, by Vigna */
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * UINT64_C(0x2545F4914F6CDD1D);
}

static size_t below(size_t limit)
{
    return limit ? (size_t)(random_bits() >> 11) % limit : 0;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* How often a place was reached counts by its order of magnitude, as in AFL. Return whether anything is new. */
static bool note_reached(void)
{
    bool is_new = false;

    for (size_t place = 0; place < PLACES; place++) {
        if (place % 8 == 0 && memcmp(reached + place, "\0\0\0\0\0\0\0", 8) == 0) {
            place += 7; /* nearly all places are not reached */
            continue;
        }
        uint8_t count = reached[place];
        uint8_t kind = count == 0    ? 0
                       : count == 1  ? 1
                       : count == 2  ? 2
                       : count < 8   ? 4
                       : count < 32  ? 8
                       : count < 128 ? 16
                                     : 32;
        if (kind & (uint8_t)~known[place]) {
            known[place] |= kind;
            is_new = true;
        }
    }
    return is_new;
}

static void keep_input(const uint8_t *data, size_t size)
{
    if (input_count == MOST_INPUTS)
        return;
    uint8_t *copy = malloc(size ? size : 1);
    if (copy == NULL)
        fail("no memory for", "an input");
    memcpy(copy, data, size);
    inputs[input_count++] = (struct input){copy, size};
}

/* The input is given in a block of exactly its size, so that a read behind its end is found. */
static bool try_input(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    if (copy == NULL)
        fail("no memory for", "an input");
    memcpy(copy, data, size);
    memcpy(shared->data, data, size);
    shared->size = size;
    memset(reached, 0, sizeof reached);
    alarm(options.timeout);
    TARGET(copy, size);
    alarm(0);
    shared->runs++;
    free(copy);
    return note_reached();
}

static void write_file(const char *path, const uint8_t *data, size_t size)
{
    FILE *file = fopen(path, "wb");

    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file))
        fail("cannot write", path);
}

static void write_kept(const uint8_t *data, size_t size)
{
    char path[4096];
    uint64_t hash = UINT64_C(0xCBF29CE484222325); /* FNV-1a */

    if (options.keep == NULL)
        return;
    for (size_t at = 0; at < size; at++)
        hash = (hash ^ data[at]) * UINT64_C(0x100000001B3);
    snprintf(path, sizeof path, "%s/%016llx", options.keep, (unsigned long long)hash);
    write_file(path, data, size);
}

/* Replace `removed` bytes at `at` by others, as far as the input does not get too long. Return its size. */
static size_t splice(uint8_t *data, size_t size, size_t at, size_t removed, const uint8_t *with, size_t added)
{
    if (size - removed + added > options.longest)
        added = options.longest - (size - removed);
    memmove(data + at + added, data + at + removed, size - at - removed);
    memcpy(data + at, with, added);
    return size - removed + added;
}

/* Change an input once, in one of some ways. `data` has room for the longest. */
static size_t change(uint8_t *data, size_t size, uint8_t *room)
{
    static const uint8_t often[] = {0, 1, ' ', '"', '%', '.', '/', '0', '7', '8', '=', '\\', '\n', 0x7F, 0x80, 0xFF};
    const struct input *other = &inputs[below(input_count)];
    size_t at = below(size + 1), rest = size - at;
    size_t length = below(4) ? below(16) : below(2) ? below(600) : 512; /* a tar has blocks of 512 bytes */

    length = length < rest ? length : rest;
    switch (below(10)) {
    case 0: /* flip a bit */
        if (rest)
            data[at] ^= (uint8_t)(1u << below(8));
        return size;
    case 1: /* a byte that parsers look at */
        if (rest)
            data[at] = often[below(sizeof often)];
        return size;
    case 2: /* a number a little larger or smaller */
        if (rest)
            data[at] = (uint8_t)(data[at] + below(17) - 8);
        return size;
    case 3: /* any bytes */
        for (size_t number = 0; number < length; number++)
            data[at + number] = (uint8_t)random_bits();
        return size;
    case 4: /* remove */
        return splice(data, size, at, length, data, 0);
    case 5: /* twice */
        memcpy(room, data + at, length);
        return splice(data, size, at, 0, room, length);
    case 6: /* insert */
        for (size_t number = 0; number < 8; number++)
            room[number] = below(2) ? often[below(sizeof often)] : (uint8_t)random_bits();
        return splice(data, size, at, 0, room, 1 + below(8));
    case 7: /* cut off */
        return below(8) ? size : at;
    case 8: /* a part of another input in place of ours */
    default: {
        size_t from = below(other->size + 1), take = other->size - from;
        if (below(2))
            take = take < 512 ? take : 512;
        else
            from -= from % 512, at -= at % 512, rest = size - at, take = other->size - from;
        memcpy(room, other->data + from, take);
        return splice(data, size, at, take < rest ? take : rest, room, take);
    }
    }
}

static void fuzz(void)
{
    uint8_t *data = malloc(options.longest), *room = malloc(options.longest);
    double end = now() + options.seconds;
    size_t seeds = input_count;

    if (data == NULL || room == NULL)
        fail("no memory for", "inputs");
    state = options.seed * UINT64_C(0x9E3779B97F4A7C15) | 1;
    for (size_t number = 0; number < seeds; number++)
        try_input(inputs[number].data, inputs[number].size);
    while (options.seconds > 0 ? now() < end : shared->runs < options.runs) {
        /* The newest inputs have reached what was reached last: they are chosen more often. */
        size_t back = below(2) ? below(input_count) : below(input_count < 32 ? input_count : 32);
        const struct input *base = &inputs[input_count - 1 - back];
        size_t size = base->size;
        memcpy(data, base->data, size);
        for (size_t changes = 1 + below(below(4) ? 3 : 16); changes; changes--)
            size = change(data, size, room);
        if (try_input(data, size)) {
            keep_input(data, size);
            write_kept(data, size);
        }
    }
    free(data);
    free(room);
}

static void read_seed(const char *path)
{
    uint8_t *data = malloc(options.longest);
    FILE *file = fopen(path, "rb");

    if (data == NULL || file == NULL)
        fail("cannot read", path);
    keep_input(data, fread(data, 1, options.longest, file)); /* what is longer is cut off */
    fclose(file);
    free(data);
}

static int by_name(const struct dirent **one, const struct dirent **other)
{
    return strcmp((*one)->d_name, (*other)->d_name);
}

static void read_seeds(const char *path)
{
    struct stat status;
    struct dirent **entries;

    if (stat(path, &status))
        fail("cannot read", path);
    if (!S_ISDIR(status.st_mode)) {
        read_seed(path);
        return;
    }
    int count = scandir(path, &entries, NULL, by_name);
    if (count < 0)
        fail("cannot read", path);
    for (int number = 0; number < count; number++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, entries[number]->d_name);
        if (entries[number]->d_name[0] != '.')
            read_seed(name);
        free(entries[number]);
    }
    free(entries);
}

/* Return the value of the option `name`, which ends with "="; NULL if the word is not that option. */
static const char *value_of(const char *word, const char *name)
{
    return strncmp(word, name, strlen(name)) == 0 ? word + strlen(name) : NULL;
}

static bool take_option(const char *word)
{
    const char *value;

    if ((value = value_of(word, "-seconds=")))
        options.seconds = strtod(value, NULL);
    else if ((value = value_of(word, "-runs=")))
        options.runs = strtoull(value, NULL, 10);
    else if ((value = value_of(word, "-seed=")))
        options.seed = strtoull(value, NULL, 10);
    else if ((value = value_of(word, "-max_len=")))
        options.longest = strtoull(value, NULL, 10);
    else if ((value = value_of(word, "-timeout=")))
        options.timeout = (unsigned)strtoul(value, NULL, 10);
    else if ((value = value_of(word, "-keep=")))
        options.keep = value;
    else if ((value = value_of(word, "-crash=")))
        options.crash = value;
    else
        return false;
    return true;
}

int main(int count, char **words)
{
    int status;

    for (int number = 1; number < count; number++)
        if (words[number][0] == '-' && !take_option(words[number])) {
            fprintf(stderr, "%s: unknown option %s\n", words[0], words[number]);
            return 2;
        }
    if (options.longest < 8)
        options.longest = 8;
    shared = mmap(NULL, sizeof *shared + options.longest, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        fail("no memory for", "inputs");
    keep_input((const uint8_t *)"", 0);
    for (int number = 1; number < count; number++)
        if (words[number][0] != '-')
            read_seeds(words[number]);
    pid_t child = fork();
    if (child < 0)
        fail("cannot start", "a process");
    if (child == 0) {
        fuzz();
        exit(0); /* with the check for leaks */
    }
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            fail("cannot wait for", "a process");
    fprintf(stderr, "Done %llu runs\n", (unsigned long long)shared->runs);
    if (status == 0)
        return 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
        return 2;
    write_file(options.crash, shared->data, shared->size);
    fprintf(stderr, "%s %d; the input is in %s\n", WIFSIGNALED(status) ? "ended by signal" : "ended with status",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), options.crash);
    return 1;
}

#endif
