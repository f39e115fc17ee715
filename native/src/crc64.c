#include "crc64.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define POLYNOMIAL UINT64_C(0xD800000000000000)

/* tables[n][byte] is the checksum of the byte and n zeros: eight bytes are taken at once ("slicing by eight"). */
static uint64_t tables[8][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)
#include <immintrin.h>

/* Carry-less multiplication: V. Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ".
 * 16 bytes are a polynomial of degree 127. To move them `distance` bits ahead, modulo the checksum's polynomial, their
 * halves are multiplied with x^(distance + 63) and x^(distance - 1); the product of reflected factors adds one. */
struct factors {
    uint64_t first, last;
};
static bool multiplies, multiplies_wide;
static struct factors by_16, by_128, by_256;

/* Return x to the power of `exponent` modulo the polynomial, reflected: its highest bit is that of x^0. */
static uint64_t power(unsigned exponent)
{
    uint64_t value = UINT64_C(1) << 63;

    while (exponent--)
        value = (value >> 1) ^ (value & 1 ? POLYNOMIAL : 0);
    return value;
}

static void fill_factors(void)
{
    multiplies = __builtin_cpu_supports("pclmul");
    by_16 = (struct factors){power(128 + 63), power(128 - 1)};
    by_128 = (struct factors){power(1024 + 63), power(1024 - 1)};
    multiplies_wide = multiplies && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("vpclmulqdq");
    by_256 = (struct factors){power(2048 + 63), power(2048 - 1)};
}

__attribute__((target("pclmul"))) static inline __m128i moved(__m128i value, __m128i factors)
{
    return _mm_xor_si128(_mm_clmulepi64_si128(value, factors, 0x00), _mm_clmulepi64_si128(value, factors, 0x11));
}

static inline __m128i load(const uint8_t *data)
{
    return _mm_loadu_si128((const __m128i *)(const void *)data);
}

/* Write the 16 bytes that have the same checksum, after a register of zeros, as `lanes` and the data after them, of
 * which 16 bytes at a time are taken. Return how many bytes of it were taken. */
__attribute__((target("pclmul"))) static size_t reduce_lanes(const __m128i *lanes, size_t count, const uint8_t *data,
                                                             size_t length, uint8_t reduced[16])
{
    const __m128i factors = _mm_set_epi64x((int64_t)by_16.last, (int64_t)by_16.first);
    __m128i sum = lanes[0];
    size_t at = 0;

    for (size_t lane = 1; lane < count; lane++)
        sum = _mm_xor_si128(moved(sum, factors), lanes[lane]);
    for (; length - at >= 16; at += 16)
        sum = _mm_xor_si128(moved(sum, factors), load(data + at));
    _mm_storeu_si128((__m128i *)(void *)reduced, sum);
    return at;
}

/* Reduce whole blocks of 16 bytes, at least eight, to 16 bytes that have the same checksum after a register of zeros.
 * Return how many bytes there were. */
__attribute__((target("pclmul"))) static size_t reduce(uint64_t value, const uint8_t *data, size_t length,
                                                       uint8_t reduced[16])
{
    const __m128i factors = _mm_set_epi64x((int64_t)by_128.last, (int64_t)by_128.first);
    __m128i lanes[8];
    size_t at = 128;

    for (size_t lane = 0; lane < 8; lane++)
        lanes[lane] = load(data + 16 * lane);
    lanes[0] = _mm_xor_si128(lanes[0], _mm_set_epi64x(0, (int64_t)value));
    for (; length - at >= 128; at += 128)
        for (size_t lane = 0; lane < 8; lane++)
            lanes[lane] = _mm_xor_si128(moved(lanes[lane], factors), load(data + at + 16 * lane));
    return at + reduce_lanes(lanes, 8, data + at, length - at, reduced);
}

__attribute__((target("avx512f,vpclmulqdq"))) static inline __m512i moved_wide(__m512i value, __m512i factors)
{
    return _mm512_xor_si512(_mm512_clmulepi64_epi128(value, factors, 0x00),
                            _mm512_clmulepi64_epi128(value, factors, 0x11));
}

/* Do what `reduce` does, for at least 256 bytes. */
__attribute__((target("avx512f,vpclmulqdq,pclmul"))) static size_t reduce_wide(uint64_t value, const uint8_t *data,
                                                                               size_t length, uint8_t reduced[16])
{
    const __m512i factors = _mm512_broadcast_i32x4(_mm_set_epi64x((int64_t)by_256.last, (int64_t)by_256.first));
    __m512i lanes[4];
    __m128i narrow[16];
    size_t at = 256;

    for (size_t lane = 0; lane < 4; lane++)
        lanes[lane] = _mm512_loadu_si512(data + 64 * lane);
    lanes[0] = _mm512_xor_si512(lanes[0], _mm512_zextsi128_si512(_mm_set_epi64x(0, (int64_t)value)));
    for (; length - at >= 256; at += 256)
        for (size_t lane = 0; lane < 4; lane++)
            lanes[lane] =
                _mm512_xor_si512(moved_wide(lanes[lane], factors), _mm512_loadu_si512(data + at + 64 * lane));
    for (size_t lane = 0; lane < 4; lane++)
        _mm512_storeu_si512(&narrow[4 * lane], lanes[lane]);
    return at + reduce_lanes(narrow, 16, data + at, length - at, reduced);
}
#endif

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
#if defined(__x86_64__)
    fill_factors();
#endif
}

/* Return the register after some bytes. */
static uint64_t advance(uint64_t value, const uint8_t *data, size_t length)
{
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
    return value;
}

uint64_t ls_crc64_by_tables(uint64_t checksum, const uint8_t *data, size_t length)
{
    pthread_once(&once, fill_tables);
    return ~advance(~checksum, data, length);
}

uint64_t ls_crc64(uint64_t checksum, const uint8_t *data, size_t length)
{
    pthread_once(&once, fill_tables);
#if defined(__x86_64__)
    if (multiplies && length >= 128) {
        uint8_t reduced[16];
        size_t done = multiplies_wide && length >= 512 ? reduce_wide(~checksum, data, length, reduced)
                                                       : reduce(~checksum, data, length, reduced);
        return ~advance(advance(0, reduced, sizeof reduced), data + done, length - done);
    }
#endif
    return ~advance(~checksum, data, length);
}
