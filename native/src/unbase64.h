/* Strict base64 (RFC 4648, section 4), to bytes. */
#ifndef LAYERSTORE_UNBASE64_H
#define LAYERSTORE_UNBASE64_H

#include <stddef.h>
#include <stdint.h>

/* What `ls_unbase64` returns for text that it does not accept. */
#define LS_NO_BASE64 SIZE_MAX

/* Decode `length` characters into `out`, which has room for three bytes for every four of them.
 *
 * Return the number of bytes. Text is accepted if it has whole groups of four, padding only at its end, and no bits
 * that the encoder would not have set. */
size_t ls_unbase64(const uint8_t *text, size_t length, uint8_t *out);

#endif
