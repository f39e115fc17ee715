/* Base64 with the usual alphabet and padding: RFC 4648, section 4. */
#ifndef LAYERSTORE_BASE64_H
#define LAYERSTORE_BASE64_H

#include <stddef.h>
#include <stdint.h>

/* Return how many characters so many bytes take. */
static inline size_t ls_base64_length(size_t length)
{
    return length / 3 * 4 + (length % 3 ? 4 : 0);
}

/* Write the characters, and return the place after them. */
char *ls_base64(char *to, const uint8_t *data, size_t length);

/* Do the same as on a processor without vectors. */
char *ls_base64_by_tables(char *to, const uint8_t *data, size_t length);

#endif
