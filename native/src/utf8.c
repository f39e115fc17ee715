#include "utf8.h"

size_t ls_utf8(const uint8_t *text, size_t length)
{
    uint8_t least = 0x80, most = 0xBF; /* of the second byte */
    size_t size;

    if (!length)
        return 0;
    if (text[0] < 0x80)
        return 1;
    if (text[0] < 0xC2 || text[0] > 0xF4)
        return 0;
    size = text[0] < 0xE0 ? 2 : text[0] < 0xF0 ? 3 : 4;
    if (text[0] == 0xE0)
        least = 0xA0;
    else if (text[0] == 0xED)
        most = 0x9F;
    else if (text[0] == 0xF0)
        least = 0x90;
    else if (text[0] == 0xF4)
        most = 0x8F;
    if (length < size || text[1] < least || text[1] > most)
        return 0;
    for (size_t number = 2; number < size; number++)
        if ((text[number] & 0xC0) != 0x80)
            return 0;
    return size;
}
