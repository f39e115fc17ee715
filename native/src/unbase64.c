#include "unbase64.h"

#include <pthread.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HAS_VECTORS 1
#else
#define HAS_VECTORS 0
#endif

/* No digit. All digits are below 64, so that one test finds it among several. */
#define NONE 0xFF

static uint8_t values[256];
#if HAS_VECTORS
static int use_vectors;
#endif
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void prepare(void)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (unsigned byte = 0; byte < 256; byte++)
        values[byte] = NONE;
    for (uint8_t value = 0; value < 64; value++)
        values[(uint8_t)digits[value]] = value;
#if HAS_VECTORS
    use_vectors = __builtin_cpu_supports("avx2");
#endif
}

#if HAS_VECTORS
/* Decode groups of 32 characters as long as all are digits, and 16 more characters follow: it writes 32 bytes for 24.
 * Return how many characters were decoded.
 *
 * The method is that of Wojciech Mula and Daniel Lemire, "Faster Base64 Encoding and Decoding Using AVX2 Instructions"
 * (2018): the two halves of a character select bits that have one in common only if it is no digit, and what must be
 * added to it to get its value. */
__attribute__((target("avx2"))) static size_t decode_vectors(const uint8_t *text, size_t length, uint8_t *out)
{
    const __m256i low_bits = _mm256_setr_epi8(
        0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x13, 0x1A, 0x1B, 0x1B, 0x1B, 0x1A,
        0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x13, 0x1A, 0x1B, 0x1B, 0x1B, 0x1A);
    const __m256i high_bits = _mm256_setr_epi8(
        0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10,
        0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10);
    const __m256i to_add = _mm256_setr_epi8(
        0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m256i packed = _mm256_setr_epi8(
        2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1,
        2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1);
    const __m256i joined = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7);
    const __m256i slash = _mm256_set1_epi8('/');
    size_t done = 0;

    for (; length - done >= 48; done += 32, out += 24) {
        const __m256i input = _mm256_loadu_si256((const __m256i *)(const void *)(text + done));
        const __m256i high = _mm256_and_si256(_mm256_srli_epi32(input, 4), _mm256_set1_epi8(0x0F));
        const __m256i low = _mm256_and_si256(input, _mm256_set1_epi8(0x0F));
        if (!_mm256_testz_si256(_mm256_shuffle_epi8(low_bits, low), _mm256_shuffle_epi8(high_bits, high)))
            break;
        const __m256i place = _mm256_add_epi8(_mm256_cmpeq_epi8(input, slash), high);
        const __m256i six_bits = _mm256_add_epi8(input, _mm256_shuffle_epi8(to_add, place));
        const __m256i twelve = _mm256_maddubs_epi16(six_bits, _mm256_set1_epi32(0x01400140));
        const __m256i bytes = _mm256_shuffle_epi8(_mm256_madd_epi16(twelve, _mm256_set1_epi32(0x00011000)), packed);
        _mm256_storeu_si256((__m256i *)(void *)out, _mm256_permutevar8x32_epi32(bytes, joined));
    }
    return done;
}
#endif

/* Decode the last group, which may have padding; return how many bytes it has. */
static size_t decode_last(const uint8_t *text, uint8_t *out)
{
    const unsigned padding = text[3] != '=' ? 0 : text[2] != '=' ? 1 : 2;
    uint32_t group = 0;

    for (unsigned number = 0; number < 4 - padding; number++) {
        if (values[text[number]] == NONE)
            return LS_NO_BASE64;
        group |= (uint32_t)values[text[number]] << (18 - 6 * number);
    }
    if (group & ((UINT32_C(1) << (8 * padding)) - 1))
        return LS_NO_BASE64;
    for (unsigned number = 0; number < 3 - padding; number++)
        out[number] = (uint8_t)(group >> (16 - 8 * number));
    return 3 - padding;
}

size_t ls_unbase64(const uint8_t *text, size_t length, uint8_t *out)
{
    size_t read = 0, written = 0;

    pthread_once(&once, prepare);
    if (length % 4)
        return LS_NO_BASE64;
    if (!length)
        return 0;
#if HAS_VECTORS
    if (use_vectors) {
        read = decode_vectors(text, length, out);
        written = read / 4 * 3;
    }
#endif
    for (; length - read > 4; read += 4, written += 3) {
        const uint8_t a = values[text[read]], b = values[text[read + 1]];
        const uint8_t c = values[text[read + 2]], d = values[text[read + 3]];
        if ((a | b | c | d) & 0x80)
            return LS_NO_BASE64;
        const uint32_t group = (uint32_t)a << 18 | (uint32_t)b << 12 | (uint32_t)c << 6 | d;
        out[written] = (uint8_t)(group >> 16);
        out[written + 1] = (uint8_t)(group >> 8);
        out[written + 2] = (uint8_t)group;
    }
    const size_t last = decode_last(text + read, out + written);
    return last == LS_NO_BASE64 ? last : written + last;
}
