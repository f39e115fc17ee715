/* BLAKE2b without a key, of one message: RFC 7693. */
#ifndef LAYERSTORE_BLAKE2B_H
#define LAYERSTORE_BLAKE2B_H

#include <stddef.h>
#include <stdint.h>

/* Write a digest of `size` bytes: 1 to 64. */
void ls_blake2b(uint8_t *digest, size_t size, const uint8_t *data, size_t length);

#endif
