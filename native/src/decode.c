#include "decode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "unbase64.h"
#include "utf8.h"

/* A number has at most so many digits: it is less than 2 to the power of 64. */
#define MAX_DIGITS 19
#define CHECKSUM_DIGITS 12

/* What is left of the text. */
struct cursor {
    const uint8_t *at, *end;
};

/* Skip `word` if it comes next. */
static int take(struct cursor *cursor, const char *word)
{
    const size_t length = strlen(word);

    if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, word, length))
        return 0;
    cursor->at += length;
    return 1;
}

/* Skip a decimal number as JSON has it, and store it. */
static int take_number(struct cursor *cursor, uint64_t *number)
{
    const uint8_t *const begin = cursor->at;
    uint64_t value = 0;

    while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9') {
        if (cursor->at - begin == MAX_DIGITS)
            return 0;
        value = value * 10 + (uint64_t)(*cursor->at++ - '0');
    }
    *number = value;
    return cursor->at > begin && (*begin != '0' || cursor->at - begin == 1);
}

/* Skip the end of a line, which is the same for all. */
static int take_end(struct cursor *cursor)
{
    uint64_t position;

    return take(cursor, ",\"position\":") && take_number(cursor, &position) && take(cursor, "}\n");
}

/* Decode base64 up to a quote, into the arena. */
static int take_base64(struct cursor *cursor, struct ls_pieces *pieces, uint32_t *offset, uint32_t *length)
{
    const uint8_t *const quote = memchr(cursor->at, '"', (size_t)(cursor->end - cursor->at));

    if (!quote)
        return 0;
    const size_t decoded = ls_unbase64(cursor->at, (size_t)(quote - cursor->at), pieces->arena + pieces->used);
    if (decoded == LS_NO_BASE64)
        return 0;
    *offset = (uint32_t)pieces->used;
    *length = (uint32_t)decoded;
    pieces->used += decoded;
    cursor->at = quote + 1;
    return 1;
}

static int take_segment(struct cursor *cursor, struct ls_pieces *pieces, struct ls_piece *piece)
{
    return take(cursor, "{\"type\":2,\"payload\":\"") &&
           take_base64(cursor, pieces, &piece->segment, &piece->segment_length) && take_end(cursor);
}

/* Return the value of a hexadecimal digit, or -1. */
static int hexadecimal(uint8_t digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    digit |= 0x20;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* Decode the four digits after `\u`, and write the character as UTF-8. Return how many bytes, or 0. */
static size_t decode_unicode(const uint8_t *digits, uint8_t *out)
{
    unsigned code = 0;

    for (int number = 0; number < 4; number++) {
        const int digit = hexadecimal(digits[number]);
        if (digit < 0)
            return 0;
        code = code << 4 | (unsigned)digit;
    }
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xC0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code >= 0xD800 && code < 0xE000) /* half of a character */
        return 0;
    out[0] = (uint8_t)(0xE0 | code >> 12);
    out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    out[2] = (uint8_t)(0x80 | (code & 0x3F));
    return 3;
}

/* Skip an escape of a JSON string, whose backslash is next, and write its character. Return how many bytes, or 0. */
static size_t take_escape(struct cursor *cursor, uint8_t *out)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";

    if (cursor->end - cursor->at < 6) /* no line ends so soon after an escape */
        return 0;
    const uint8_t letter = cursor->at[1];
    if (letter == 'u') {
        const size_t written = decode_unicode(cursor->at + 2, out);
        cursor->at += 6;
        return written;
    }
    const char *const found = letter ? strchr(letters, letter) : NULL;
    if (!found)
        return 0;
    cursor->at += 2;
    *out = (uint8_t)meanings[found - letters];
    return 1;
}

/* Decode a JSON string up to its quote, into the arena. */
static int take_string(struct cursor *cursor, struct ls_pieces *pieces, uint32_t *offset, uint32_t *length)
{
    uint8_t *const begin = pieces->arena + pieces->used, *out = begin;

    while (cursor->at < cursor->end && *cursor->at != '"') {
        size_t taken = 1;
        if (*cursor->at == '\\') {
            taken = take_escape(cursor, out);
        } else if (*cursor->at >= 0x80) {
            taken = ls_utf8(cursor->at, (size_t)(cursor->end - cursor->at));
            memcpy(out, cursor->at, taken);
            cursor->at += taken;
        } else if (*cursor->at >= 0x20) {
            *out = *cursor->at++;
        } else {
            return 0;
        }
        if (!taken)
            return 0;
        out += taken;
    }
    *offset = (uint32_t)pieces->used;
    *length = (uint32_t)(out - begin);
    pieces->used += (size_t)(out - begin);
    return take(cursor, "\"");
}

/* Decode the checksum of a payload, quotes included. */
static int take_checksum(struct cursor *cursor, uint64_t *crc)
{
    uint8_t bytes[CHECKSUM_DIGITS / 4 * 3];

    if (!take(cursor, "\"") || cursor->end - cursor->at < CHECKSUM_DIGITS ||
        ls_unbase64(cursor->at, CHECKSUM_DIGITS, bytes) != sizeof *crc)
        return 0;
    cursor->at += CHECKSUM_DIGITS;
    *crc = 0;
    for (size_t number = 0; number < sizeof *crc; number++)
        *crc = *crc << 8 | bytes[number];
    return take(cursor, "\"");
}

static int take_file(struct cursor *cursor, struct ls_pieces *pieces, struct ls_piece *piece)
{
    if (!take(cursor, "{\"type\":1,\"name"))
        return 0;
    if (take(cursor, "\":\"")) {
        if (!take_string(cursor, pieces, &piece->name, &piece->name_length))
            return 0;
    } else if (!take(cursor, "_raw\":\"") || !take_base64(cursor, pieces, &piece->name, &piece->name_length)) {
        return 0;
    }
    if (!piece->name_length)
        return 0;
    if (take(cursor, ",\"size\":")) {
        if (!take_number(cursor, &piece->size) || !piece->size || piece->size > LS_MAX_PAYLOAD ||
            !take(cursor, ",\"payload\":") || !take_checksum(cursor, &piece->crc))
            return 0;
    } else if (!take(cursor, ",\"payload\":null")) {
        return 0;
    }
    return take_end(cursor);
}

/* Return a new piece, or NULL if there is no memory for it. */
static struct ls_piece *new_piece(struct ls_pieces *pieces)
{
    if (pieces->count == pieces->room) {
        const size_t room = pieces->room ? 2 * pieces->room : 64;
        struct ls_piece *const larger = realloc(pieces->piece, room * sizeof *larger);
        if (!larger)
            return NULL;
        pieces->piece = larger;
        pieces->room = room;
    }
    return memset(&pieces->piece[pieces->count], 0, sizeof *pieces->piece);
}

/* Decode a segment, a file entry, or one after the other. Return how many lines they had. */
static size_t take_piece(struct cursor *cursor, struct ls_pieces *pieces, struct ls_piece *piece)
{
    struct cursor tried = *cursor;
    size_t used = pieces->used, lines = 0;

    if (take_segment(&tried, pieces, piece)) {
        *cursor = tried;
        used = pieces->used;
        lines++;
    }
    const struct ls_piece before = *piece;
    if (take_file(&tried, pieces, piece)) {
        *cursor = tried;
        return lines + 1;
    }
    *piece = before;
    pieces->used = used;
    return lines;
}

int ls_decode(const uint8_t *text, size_t length, size_t position, struct ls_pieces *pieces)
{
    memset(pieces, 0, sizeof *pieces);
    pieces->end = pieces->next = position;
    if (position >= length)
        return 0;
    if (length - position > LS_MAX_BLOCK)
        return EFBIG;
    /* Nothing is longer when it is decoded. Pages that are not used cost nothing. */
    pieces->arena = malloc(length - position);
    if (!pieces->arena)
        return ENOMEM;
    struct cursor cursor = {text + position, text + length};
    while (cursor.at < cursor.end) {
        struct ls_piece *const piece = new_piece(pieces);
        if (!piece)
            return ENOMEM;
        const size_t lines = take_piece(&cursor, pieces, piece);
        if (!lines)
            break;
        pieces->lines += lines;
        pieces->size += piece->segment_length + piece->size;
        pieces->count++;
    }
    pieces->end = (size_t)(cursor.at - text);
    const uint8_t *const newline = memchr(cursor.at, '\n', (size_t)(cursor.end - cursor.at));
    pieces->next = newline ? (size_t)(newline + 1 - text) : length;
    return 0;
}

void ls_free_pieces(struct ls_pieces *pieces)
{
    free(pieces->piece);
    free(pieces->arena);
    memset(pieces, 0, sizeof *pieces);
}

size_t ls_plan(const struct ls_pieces *pieces, size_t first, size_t room, size_t *size)
{
    uint64_t left = room;

    for (; first < pieces->count; first++) {
        const struct ls_piece *const piece = &pieces->piece[first];
        const uint64_t needed = piece->segment_length + piece->size;
        if (needed > left)
            break;
        left -= needed;
    }
    *size = room - (size_t)left;
    return first;
}
