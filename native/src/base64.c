#include "base64.h"

#include <stdbool.h>
#include <string.h>

static const char alphabet[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *ls_base64_by_tables(char *to, const uint8_t *data, size_t length)
{
    for (; length >= 3; data += 3, length -= 3) {
        uint32_t word = (uint32_t)data[0] << 16 | (uint32_t)data[1] << 8 | data[2];
        *to++ = alphabet[word >> 18];
        *to++ = alphabet[word >> 12 & 63];
        *to++ = alphabet[word >> 6 & 63];
        *to++ = alphabet[word & 63];
    }
    if (length) {
        uint32_t word = (uint32_t)data[0] << 16 | (length > 1 ? (uint32_t)data[1] << 8 : 0);
        *to++ = alphabet[word >> 18];
        *to++ = alphabet[word >> 12 & 63];
        *to++ = length > 1 ? alphabet[word >> 6 & 63] : '=';
        *to++ = '=';
    }
    return to;
}

#if defined(__x86_64__)
#include <immintrin.h>

/* Twelve bytes in each half of 16 become 16 characters: W. Muła, D. Lemire, "Faster Base64 Encoding and Decoding Using
 * AVX2 Instructions". */
__attribute__((target("avx2"))) static inline __m256i characters(__m256i bytes)
{
    const __m256i spread = _mm256_setr_epi8(1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10, /* both halves */
                                            1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10);
    /* What is added to a number of 6 bits: by 0 for a to z, 1 to 10 for digits, 11 for +, 12 for /, 13 for A to Z. */
    const __m256i added = _mm256_setr_epi8(71, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -19, -16, 65, 0, 0, /* both */
                                           71, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -19, -16, 65, 0, 0);
    __m256i words = _mm256_shuffle_epi8(bytes, spread), high, low, numbers, ranges, capital;

    high = _mm256_mulhi_epu16(_mm256_and_si256(words, _mm256_set1_epi32(0x0FC0FC00)), _mm256_set1_epi32(0x04000040));
    low = _mm256_mullo_epi16(_mm256_and_si256(words, _mm256_set1_epi32(0x003F03F0)), _mm256_set1_epi32(0x01000010));
    numbers = _mm256_or_si256(high, low);
    ranges = _mm256_subs_epu8(numbers, _mm256_set1_epi8(51));
    capital = _mm256_cmpgt_epi8(_mm256_set1_epi8(26), numbers);
    ranges = _mm256_or_si256(ranges, _mm256_and_si256(capital, _mm256_set1_epi8(13)));
    return _mm256_add_epi8(numbers, _mm256_shuffle_epi8(added, ranges));
}

/* Write the characters of 24 bytes at a time, as long as 28 can be read; return how many bytes were written. */
__attribute__((target("avx2"))) static size_t by_vectors(char *to, const uint8_t *data, size_t length)
{
    size_t at = 0;

    for (; length - at >= 28; at += 24, to += 32) {
        __m128i first = _mm_loadu_si128((const __m128i *)(const void *)(data + at));
        __m128i second = _mm_loadu_si128((const __m128i *)(const void *)(data + at + 12));
        _mm256_storeu_si256((__m256i *)(void *)to, characters(_mm256_set_m128i(second, first)));
    }
    return at;
}

static bool has_vectors(void)
{
    return __builtin_cpu_supports("avx2");
}
#else
static size_t by_vectors(char *to, const uint8_t *data, size_t length)
{
    (void)to;
    (void)data;
    (void)length;
    return 0;
}

static bool has_vectors(void)
{
    return false;
}
#endif

char *ls_base64(char *to, const uint8_t *data, size_t length)
{
    size_t done = has_vectors() ? by_vectors(to, data, length) : 0;

    return ls_base64_by_tables(to + done / 3 * 4, data + done, length - done);
}
