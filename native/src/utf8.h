/* UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef LAYERSTORE_UTF8_H
#define LAYERSTORE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Return the number of bytes of the character at the beginning of `text`; 0 if there is no whole and valid one. */
size_t ls_utf8(const uint8_t *text, size_t length);

#endif
