/* CRC-64/GO-ISO, the checksum of tar-split: the polynomial of ISO 3309, reflected, inverted before and after. */
#ifndef LAYERSTORE_CRC64_H
#define LAYERSTORE_CRC64_H

#include <stddef.h>
#include <stdint.h>

/* Return the checksum of bytes that follow those of which `checksum` is the checksum; 0 is that of no bytes. */
uint64_t ls_crc64(uint64_t checksum, const uint8_t *data, size_t length);

/* Do the same as on a processor without carry-less multiplication. */
uint64_t ls_crc64_by_tables(uint64_t checksum, const uint8_t *data, size_t length);

#endif
