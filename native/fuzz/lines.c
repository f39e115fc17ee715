/* Fuzz target of the lines of a run: they fit their room, and vectors give what tables give. */
#include "../src/lines.h"

#include "../src/base64.h"
#include "../src/crc64.h"

#include <stdlib.h>
#include <string.h>

int ls_fuzz_lines(const uint8_t *data, size_t size);

static void compare_ways(const uint8_t *data, size_t size)
{
    size_t length = ls_base64_length(size);
    char *one = malloc(length + 1), *other = malloc(length + 1);

    if (!one || !other || ls_crc64(5, data, size) != ls_crc64_by_tables(5, data, size) ||
        ls_base64(one, data, size) != one + length || ls_base64_by_tables(other, data, size) != other + length ||
        memcmp(one, other, length) != 0)
        abort();
    free(one);
    free(other);
}

int ls_fuzz_lines(const uint8_t *data, size_t size)
{
    struct ls_run run;
    size_t room;
    char *lines;

    compare_ways(data, size);
    if (ls_scan(&run, data, size, 0, 0, 0, 99, size) < 0)
        abort();
    room = ls_lines_room(&run);
    lines = malloc(room + 1);
    if (!lines || ls_lines(&run, UINT64_MAX - 200, lines) > room)
        abort();
    free(lines);
    ls_run_free(&run);
    return 0;
}
