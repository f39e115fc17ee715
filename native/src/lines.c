/* Format: github.com/vbatts/tar-split, `tar/storage`, as Go's `encoding/json` writes it. */
#include "lines.h"

#include "base64.h"
#include "crc64.h"
#include "utf8.h"

#include <stdbool.h>
#include <string.h>

/* More than what lines have but for segments and names: numbers have at most 20 digits. */
enum { FRAME = 256 };

static char *put(char *to, const char *text)
{
    size_t length = strlen(text);

    memcpy(to, text, length);
    return to + length;
}

static char *put_number(char *to, uint64_t number)
{
    char digits[20];
    size_t at = sizeof digits;

    do
        digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    memcpy(to, digits + at, sizeof digits - at);
    return to + (sizeof digits - at);
}

static char *put_end(char *to, uint64_t position)
{
    return put(put_number(put(to, ",\"position\":"), position), "}\n");
}

static bool is_utf8(const uint8_t *text, size_t length)
{
    for (size_t at = 0, size; at < length; at += size)
        if (!(size = ls_utf8(text + at, length - at)))
            return false;
    return true;
}

/* Write a character of UTF-8 as Go's JSON has it: it escapes what could be mistaken in HTML or JavaScript, too. */
static char *put_character(char *to, const uint8_t *text, size_t size)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t byte = text[0];

    switch (byte) {
    case '"': return put(to, "\\\"");
    case '\\': return put(to, "\\\\");
    case '\n': return put(to, "\\n");
    case '\r': return put(to, "\\r");
    case '\t': return put(to, "\\t");
    default: break;
    }
    if (byte < 0x20 || byte == '<' || byte == '>' || byte == '&') {
        to = put(to, "\\u00");
        *to++ = hex[byte >> 4];
        *to++ = hex[byte & 15];
        return to;
    }
    if (size == 3 && byte == 0xE2 && text[1] == 0x80 && (text[2] & 0xFE) == 0xA8)
        return put(to, text[2] == 0xA8 ? "\\u2028" : "\\u2029");
    memcpy(to, text, size);
    return to + size;
}

/* Return how many characters a name begins with that are ASCII and not escaped: nearly all names have no others. */
static size_t plain_length(const uint8_t *name, size_t length)
{
    size_t at = 0;

    while (at < length && name[at] >= 0x20 && name[at] < 0x80 && name[at] != '"' && name[at] != '&' &&
           name[at] != '<' && name[at] != '>' && name[at] != '\\')
        at++;
    return at;
}

/* Write the field of a name: `name` if it is UTF-8, else `name_raw` in base64. */
static char *put_name(char *to, const uint8_t *name, size_t length)
{
    size_t plain = plain_length(name, length);

    if (!is_utf8(name + plain, length - plain))
        return put(ls_base64(put(to, "\"name_raw\":\""), name, length), "\",");
    to = put(to, "\"name\":\"");
    memcpy(to, name, plain);
    to += plain;
    for (size_t at = plain, size; at < length; at += size) {
        size = ls_utf8(name + at, length - at);
        to = put_character(to, name + at, size);
    }
    return put(to, "\",");
}

static char *put_checksum(char *to, const uint8_t *payload, size_t size)
{
    uint64_t checksum = ls_crc64(0, payload, size);
    uint8_t bytes[8];

    for (int number = 0; number < 8; number++)
        bytes[number] = (uint8_t)(checksum >> (56 - 8 * number));
    return ls_base64(to, bytes, sizeof bytes);
}

static char *put_entry(char *to, const struct ls_run *run, const struct ls_entry *entry, uint64_t position)
{
    to = put(to, "{\"type\":2,\"payload\":\"");
    to = ls_base64(to, run->buffer + entry->segment, entry->payload - entry->segment);
    to = put_end(put(to, "\""), position);
    to = put(to, "{\"type\":1,");
    to = put_name(to, (const uint8_t *)ls_text(run, entry->name), entry->name.length);
    if (entry->size) {
        to = put(put_number(put(to, "\"size\":"), entry->size), ",\"payload\":\"");
        to = put(put_checksum(to, run->buffer + entry->payload, entry->size), "\"");
    } else {
        to = put(to, "\"payload\":null");
    }
    return put_end(to, position + 1);
}

size_t ls_lines_room(const struct ls_run *run)
{
    size_t room = 0;

    for (size_t number = 0; number < run->count; number++) {
        const struct ls_entry *entry = &run->entries[number];
        /* A byte of a name takes at most six characters. */
        room += ls_base64_length(entry->payload - entry->segment) + 6 * (size_t)entry->name.length + FRAME;
        if (room > SIZE_MAX / 4)
            return 0;
    }
    return room;
}

size_t ls_lines(const struct ls_run *run, uint64_t position, char *to)
{
    char *start = to;

    for (size_t number = 0; number < run->count; number++)
        to = put_entry(to, run, &run->entries[number], position + 2 * number);
    return (size_t)(to - start);
}
