/* Records of PAX headers: POSIX.1-2017, `pax`, "pax Extended Header"; star's `SCHILY.xattr.` keys. */
#include "scan.h"

#include <stdlib.h>

enum { MAX_ARENA = 1 << 30 };

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

static bool equals(struct piece piece, const char *text)
{
    return piece.length == strlen(text) && memcmp(piece.data, text, piece.length) == 0;
}

static bool begins_with(struct piece piece, const char *text)
{
    return piece.length >= strlen(text) && memcmp(piece.data, text, strlen(text)) == 0;
}

bool ls_read_decimal(struct piece text, int64_t *value)
{
    bool negative = text.data[0] == '-';
    size_t at = negative || text.data[0] == '+' ? 1 : 0;
    int64_t number = 0;

    if (at == text.length)
        return false;
    for (; at < text.length; at++) {
        if (!is_digit(text.data[at]) || __builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, text.data[at] - '0', &number))
            return false;
    }
    *value = negative ? -number : number;
    return true;
}

/* Digits beyond nanoseconds are discarded. */
bool ls_read_time(struct piece text, int64_t *seconds, uint32_t *nanoseconds)
{
    bool negative = text.data[0] == '-';
    size_t at = negative ? 1 : 0, first = at;
    int64_t whole = 0;
    uint32_t fraction = 0, unit = 100000000;

    for (; at < text.length && is_digit(text.data[at]); at++) {
        if (at - first >= 17) /* far from any overflow, and later than every file system's last time */
            return false;
        whole = whole * 10 + (text.data[at] - '0');
    }
    if (at == first)
        return false;
    if (at < text.length && text.data[at++] != '.')
        return false;
    for (; at < text.length; at++, unit /= 10) {
        if (!is_digit(text.data[at]))
            return false;
        fraction += unit * (uint32_t)(text.data[at] - '0');
    }
    *seconds = negative ? -whole - (fraction != 0) : whole;
    *nanoseconds = negative && fraction ? 1000000000 - fraction : fraction;
    return true;
}

void *ls_make_room(void *array, size_t used, size_t *room, size_t count, size_t size)
{
    size_t wanted = *room ? *room : 64;
    void *grown;

    if (count <= *room - used)
        return array;
    while (wanted - used < count)
        wanted *= 2;
    grown = realloc(array, wanted * size);
    if (grown)
        *room = wanted;
    return grown;
}

enum outcome ls_keep_text(struct ls_run *run, struct ls_text *text, struct piece first, struct piece second,
                              struct piece third)
{
    size_t length = first.length + second.length + third.length;
    char *arena, *to;

    if (length >= MAX_ARENA - run->arena_length)
        return DECLINED;
    arena = ls_make_room(run->arena, run->arena_length, &run->arena_room, length + 1, 1);
    if (!arena)
        return NO_MEMORY;
    run->arena = arena;
    *text = (struct ls_text){(uint32_t)run->arena_length, (uint32_t)length};
    to = arena + run->arena_length;
    for (int number = 0; number < 3; number++) {
        struct piece piece = number == 0 ? first : number == 1 ? second : third;
        if (piece.length)
            memcpy(to, piece.data, piece.length);
        to += piece.length;
    }
    *to = 0;
    run->arena_length += length + 1;
    return DONE;
}

static enum outcome keep_xattr(struct ls_run *run, size_t first, struct piece name, struct piece value)
{
    struct ls_xattr *xattrs;
    struct ls_text text;
    enum outcome outcome;

    if (!name.length || name.length > LS_MAX_XATTR_NAME || run->xattr_count - first >= LS_MAX_XATTRS)
        return DECLINED;
    if (memchr(name.data, '%', name.length)) /* an escape sequence, perhaps */
        return DECLINED;
    for (size_t number = first; number < run->xattr_count; number++) {
        struct ls_text other = run->xattrs[number].name;
        if (other.length == name.length && memcmp(ls_text(run, other), name.data, name.length) == 0)
            return DECLINED;
    }
    xattrs = ls_make_room(run->xattrs, run->xattr_count, &run->xattr_room, 1, sizeof *xattrs);
    if (!xattrs)
        return NO_MEMORY;
    run->xattrs = xattrs;
    outcome = ls_keep_text(run, &text, name, (struct piece){0}, (struct piece){0});
    if (outcome == DONE)
        xattrs[run->xattr_count++] = (struct ls_xattr){text, (size_t)(value.data - run->buffer), value.length};
    return outcome;
}

static enum outcome keep_record(struct ls_run *run, size_t first, struct records *records, struct piece key,
                                struct piece value)
{
    static const size_t xattr_prefix = sizeof "SCHILY.xattr." - 1;

    if (begins_with(key, "SCHILY.xattr."))
        return keep_xattr(run, first, (struct piece){key.data + xattr_prefix, key.length - xattr_prefix}, value);
    if (begins_with(key, "GNU.sparse."))
        return DECLINED;
    /* If a key is repeated, its last value counts. */
    if (equals(key, "path"))
        records->path = value;
    else if (equals(key, "linkpath"))
        records->link = value;
    else if (equals(key, "size"))
        records->size = value;
    else if (equals(key, "mtime"))
        records->mtime = value;
    else if (equals(key, "uid"))
        records->uid = value;
    else if (equals(key, "gid"))
        records->gid = value;
    return DONE;
}

/* Read the records of a PAX header: `<length> <key>=<value>\n`, where the length counts itself. */
enum outcome ls_read_records(struct ls_run *run, size_t first, struct piece data, struct records *records)
{
    size_t at = 0;

    while (at < data.length) {
        const uint8_t *record = data.data + at, *equal;
        size_t left = data.length - at, length = 0, digits = 0;
        enum outcome outcome;

        for (; digits < left && digits < 8 && is_digit(record[digits]); digits++)
            length = length * 10 + (size_t)(record[digits] - '0');
        if (!digits || digits == left || record[digits] != ' ' || length > left || length < digits + 3 ||
            record[length - 1] != '\n')
            return DECLINED; /* NULs after the last record, too, which are accepted in Python */
        equal = memchr(record + digits + 1, '=', length - digits - 2);
        if (!equal || equal == record + digits + 1 || memchr(record, 0, (size_t)(equal - record)))
            return DECLINED;
        outcome = keep_record(run, first, records,
                              (struct piece){record + digits + 1, (size_t)(equal - record) - digits - 1},
                              (struct piece){equal + 1, length - (size_t)(equal - record) - 2});
        if (outcome != DONE)
            return outcome;
        at += length;
    }
    return DONE;
}
