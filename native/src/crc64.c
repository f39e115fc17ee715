#include "crc64.h"

#include <pthread.h>
#include <string.h>

#define POLYNOMIAL UINT64_C(0xD800000000000000)

/* tables[n][byte] is the checksum of the byte and n zeros: eight bytes are taken at once ("slicing by eight"). */
static uint64_t tables[8][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill_tables(void)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint64_t value = byte;
        for (int bit = 0; bit < 8; bit++)
            value = (value >> 1) ^ (value & 1 ? POLYNOMIAL : 0);
        tables[0][byte] = value;
    }
    for (int number = 1; number < 8; number++)
        for (unsigned byte = 0; byte < 256; byte++)
            tables[number][byte] = tables[0][tables[number - 1][byte] & 0xFF] ^ (tables[number - 1][byte] >> 8);
}

uint64_t ls_crc64(uint64_t checksum, const uint8_t *data, size_t length)
{
    uint64_t value = ~checksum;

    pthread_once(&once, fill_tables);
    for (; length >= 8; data += 8, length -= 8) {
        uint64_t word = 0;
        for (int number = 7; number >= 0; number--)
            word = word << 8 | data[number];
        word ^= value;
        value = 0;
        for (int number = 0; number < 8; number++)
            value ^= tables[7 - number][word >> (8 * number) & 0xFF];
    }
    for (; length; data++, length--)
        value = tables[0][(value ^ *data) & 0xFF] ^ (value >> 8);
    return ~value;
}
