#include "blake2b.h"

#include <string.h>

#define BLOCK 128

static const uint64_t initial[8] = {
    UINT64_C(0x6A09E667F3BCC908), UINT64_C(0xBB67AE8584CAA73B), UINT64_C(0x3C6EF372FE94F82B),
    UINT64_C(0xA54FF53A5F1D36F1), UINT64_C(0x510E527FADE682D1), UINT64_C(0x9B05688C2B3E6C1F),
    UINT64_C(0x1F83D9ABFB41BD6B), UINT64_C(0x5BE0CD19137E2179),
};

/* The order of the message's words in each of the first ten rounds; the last two are as the first two. */
static const uint8_t order[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

static uint64_t rotated(uint64_t word, unsigned bits)
{
    return word >> bits | word << (64 - bits);
}

static uint64_t word_at(const uint8_t *data)
{
    uint64_t word = 0;

    for (int at = 7; at >= 0; at--)
        word = word << 8 | data[at];
    return word;
}

static void mix(uint64_t *v, int a, int b, int c, int d, uint64_t first, uint64_t second)
{
    v[a] += v[b] + first;
    v[d] = rotated(v[d] ^ v[a], 32);
    v[c] += v[d];
    v[b] = rotated(v[b] ^ v[c], 24);
    v[a] += v[b] + second;
    v[d] = rotated(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = rotated(v[b] ^ v[c], 63);
}

/* Take in a block; `length` counts all bytes of the message up to its end. */
static void compress(uint64_t *state, const uint8_t *block, uint64_t length, int is_last)
{
    uint64_t v[16], m[16];

    memcpy(v, state, 8 * sizeof *v);
    memcpy(v + 8, initial, sizeof initial);
    v[12] ^= length;
    if (is_last)
        v[14] = ~v[14];
    for (int at = 0; at < 16; at++)
        m[at] = word_at(block + 8 * at);
    for (int number = 0; number < 12; number++) {
        const uint8_t *s = order[number % 10];
        for (int at = 0; at < 4; at++)
            mix(v, at, 4 + at, 8 + at, 12 + at, m[s[2 * at]], m[s[2 * at + 1]]);
        for (int at = 0; at < 4; at++)
            mix(v, at, 4 + (at + 1) % 4, 8 + (at + 2) % 4, 12 + (at + 3) % 4, m[s[8 + 2 * at]], m[s[9 + 2 * at]]);
    }
    for (int at = 0; at < 8; at++)
        state[at] ^= v[at] ^ v[at + 8];
}

void ls_blake2b(uint8_t *digest, size_t size, const uint8_t *data, size_t length)
{
    uint64_t state[8], done = 0;
    uint8_t block[BLOCK] = {0};

    memcpy(state, initial, sizeof state);
    state[0] ^= UINT64_C(0x01010000) ^ size;
    for (; length > BLOCK; data += BLOCK, length -= BLOCK)
        compress(state, data, done += BLOCK, 0);
    /* The last block, full or not, also if the message is empty. */
    if (length)
        memcpy(block, data, length);
    compress(state, block, done + length, 1);
    for (size_t at = 0; at < size; at++)
        digest[at] = (uint8_t)(state[at / 8] >> (8 * (at % 8)));
}
