/* Fuzz target of the set of names, against a list: names of up to 15 bytes, as the data's own bytes have them. */
#include "../src/names.h"

#include <stdlib.h>
#include <string.h>

int ls_fuzz_names(const uint8_t *data, size_t size);

enum { MOST = 600 }; /* more than the first table has places */

int ls_fuzz_names(const uint8_t *data, size_t size)
{
    const uint8_t *added[MOST];
    size_t lengths[MOST], count = 0;
    struct ls_names names;

    if (ls_names_init(&names) < 0)
        abort();
    while (size && count < MOST) {
        size_t length = data[0] % 16, number = 0;

        if (length > --size)
            length = size;
        data++;
        while (number < count && (lengths[number] != length || memcmp(added[number], data, length) != 0))
            number++;
        if (ls_names_has(&names, data, length) != (number < count) || ls_names_reserve(&names, 1) < 0 ||
            ls_names_add(&names, data, length) != (number == count))
            abort();
        if (number == count) {
            added[count] = data;
            lengths[count++] = length;
        }
        data += length;
        size -= length;
    }
    if (names.count != count)
        abort();
    ls_names_free(&names);
    return 0;
}
