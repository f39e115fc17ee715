/* Headers of ustar and GNU: POSIX.1-2017, `pax`, "ustar Interchange Format"; the GNU tar manual, "Basic Tar Format". */
#include "scan.h"

/* Read octal digits after spaces or NULs. What follows a space or NUL after them is ignored, as by GNU tar. */
static bool read_octal(const uint8_t *field, size_t length, int64_t *value)
{
    size_t at = 0, first;
    int64_t number = 0;

    while (at < length && (field[at] == ' ' || field[at] == 0))
        at++;
    for (first = at; at < length && field[at] >= '0' && field[at] <= '7'; at++)
        number = number << 3 | (field[at] - '0'); /* at most 12 digits: 36 bits */
    if (at == first || (at < length && field[at] != ' ' && field[at] != 0))
        return false;
    *value = number;
    return true;
}

/* Read a number in base 256: two's complement, where the top bit is only a mark and the next one is the sign. */
static bool read_base256(const uint8_t *field, size_t length, int64_t *value)
{
    uint8_t sign = field[0] & 0x40 ? 0xFF : 0;
    uint64_t number = 0;

    for (size_t at = 0; at < length; at++) {
        uint8_t byte = at ? field[at] : (uint8_t)(sign ? field[0] | 0x80 : field[0] & 0x7F);
        if (at + 8 < length && byte != sign)
            return false;
        if (at + 8 == length && (byte & 0x80) != (sign & 0x80))
            return false;
        number = number << 8 | byte;
    }
    *value = (int64_t)number;
    return true;
}

static bool read_number(const uint8_t *field, size_t length, int64_t *value)
{
    if (field[0] & 0x80)
        return read_base256(field, length, value);
    if (read_octal(field, length, value))
        return true;
    for (size_t at = 0; at < length; at++)
        if (field[at] != ' ' && field[at] != 0)
            return false;
    *value = 0;
    return true;
}

static bool has_right_checksum(const uint8_t *block)
{
    int64_t stored;
    uint32_t sum = 8 * ' '; /* it counts its own eight bytes as spaces */

    for (size_t at = 0; at < LS_BLOCK; at++)
        sum += block[at];
    for (size_t at = 148; at < 156; at++)
        sum -= block[at];
    return read_octal(block + 148, 8, &stored) && stored == sum;
}

bool ls_read_header(const uint8_t *block, struct header *header)
{
    int64_t mode, time;
    bool gnu = memcmp(block + 257, "ustar  ", 8) == 0;

    if (!gnu && memcmp(block + 257, "ustar", 6) != 0)
        return false;
    if (!gnu && memcmp(block + 508, "tar", 4) == 0)
        return false;
    if (!has_right_checksum(block))
        return false;
    if (!read_number(block + 100, 8, &mode) || !read_number(block + 108, 8, &header->uid) ||
        !read_number(block + 116, 8, &header->gid) || !read_number(block + 124, 12, &header->size) ||
        !read_number(block + 136, 12, &header->seconds) || header->size < 0)
        return false;
    /* GNU has two times where ustar has a prefix. If these are not numbers, Python asks what else they are. */
    if (gnu && ((block[345] && !read_number(block + 345, 12, &time)) ||
                (block[357] && !read_number(block + 357, 12, &time))))
        return false;
    header->mode = (uint16_t)(mode & 07777);
    header->flag = block[156];
    header->name = until_nul(block, 100);
    header->link = until_nul(block + 157, 100);
    header->prefix = until_nul(block + 345, gnu ? 0 : 155);
    return true;
}
