/* The checksum in one call, in two calls, and bit by bit as the format defines it. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "../src/crc64.h"

int ls_fuzz_crc64(const uint8_t *data, size_t size);

static uint64_t bit_by_bit(const uint8_t *data, size_t size)
{
    uint64_t value = UINT64_MAX;

    for (size_t at = 0; at < size; at++) {
        value ^= data[at];
        for (int bit = 0; bit < 8; bit++)
            value = (value >> 1) ^ (value & 1 ? UINT64_C(0xD800000000000000) : 0);
    }
    return ~value;
}

int ls_fuzz_crc64(const uint8_t *data, size_t size)
{
    size_t middle = size ? (size_t)data[0] * size / 256 : 0;
    uint64_t whole = ls_crc64(0, data, size);

    if (whole != ls_crc64(ls_crc64(0, data, middle), data + middle, size - middle) || whole != bit_by_bit(data, size))
        abort();
    return 0;
}
