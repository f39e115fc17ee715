/* Scan of a tar: the twin of `TarScanner.next_entry`, for entries that are plain.
 *
 * Formats: POSIX.1-2017, `pax`, "ustar Interchange Format" and "pax Extended Header"; the GNU tar manual, "Basic Tar
 * Format"; star's `SCHILY.xattr.` keys. What is accepted has exactly the result that the twin has. Everything else is
 * declined: the run ends before it.
 */
#include "run.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 512, MAX_META = 1 << 20, MAX_ARENA = 1 << 30 };

/* What became of an attempt to read something. */
enum outcome { DONE, DECLINED, TOO_SHORT, NO_MEMORY };

struct piece {
    const uint8_t *data; /* NULL: there is none */
    size_t length;
};

struct header {
    struct piece name, prefix, link;
    int64_t uid, gid, size, seconds;
    uint16_t mode;
    uint8_t flag;
};

/* Values of the records of a PAX header that change an entry. */
struct records {
    struct piece path, link, size, mtime, uid, gid;
};

/* An entry while it is read. */
struct reading {
    struct header header;
    struct records records;
    struct piece long_name, long_link;
    int64_t size, uid, gid, seconds;
    uint32_t nanoseconds;
};

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

/* Return a text field without its first NUL and what follows. */
static struct piece until_nul(const uint8_t *data, size_t length)
{
    const uint8_t *end = length ? memchr(data, 0, length) : NULL;

    return (struct piece){data, end ? (size_t)(end - data) : length};
}

/* Numbers of headers */

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

/* Headers */

static bool has_right_checksum(const uint8_t *block)
{
    int64_t stored;
    uint32_t sum = 8 * ' '; /* it counts its own eight bytes as spaces */

    for (size_t at = 0; at < BLOCK; at++)
        sum += block[at];
    for (size_t at = 148; at < 156; at++)
        sum -= block[at];
    return read_octal(block + 148, 8, &stored) && stored == sum;
}

/* Read a header of ustar or GNU; decline those of v7 and star, and all that is malformed. */
static bool read_header(const uint8_t *block, struct header *header)
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

/* Records of PAX headers */

static bool read_decimal(struct piece text, int64_t *value)
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

/* Read a time in seconds with an optional fraction. Digits beyond nanoseconds are discarded. */
static bool read_time(struct piece text, int64_t *seconds, uint32_t *nanoseconds)
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

/* Return room for `count` more elements of `size` bytes in an array; NULL if there is no memory. */
static void *make_room(void *array, size_t used, size_t *room, size_t count, size_t size)
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

/* Copy up to three pieces into the arena, one after another, with a NUL at the end. */
static enum outcome keep_text(struct ls_run *run, struct ls_text *text, struct piece first, struct piece second,
                              struct piece third)
{
    size_t length = first.length + second.length + third.length;
    char *arena, *to;

    if (length >= MAX_ARENA - run->arena_length)
        return DECLINED;
    arena = make_room(run->arena, run->arena_length, &run->arena_room, length + 1, 1);
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
    xattrs = make_room(run->xattrs, run->xattr_count, &run->xattr_room, 1, sizeof *xattrs);
    if (!xattrs)
        return NO_MEMORY;
    run->xattrs = xattrs;
    outcome = keep_text(run, &text, name, (struct piece){0}, (struct piece){0});
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
static enum outcome read_records(struct ls_run *run, size_t first, struct piece data, struct records *records)
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

/* Entries */

/* Read what comes before the payload of an entry; `*at` is where the first header is, and then where the payload is.
 * `*end`: if the outcome is TOO_SHORT, up to where the buffer has to reach. */
static enum outcome read_headers(struct ls_run *run, struct reading *reading, size_t *at, size_t *end)
{
    size_t first = run->xattr_count;
    bool has_records = false;

    for (;;) {
        struct header *header = &reading->header;
        struct piece data;
        enum outcome outcome;

        *end = *at + BLOCK;
        if (*at > run->length || run->length - *at < BLOCK)
            return TOO_SHORT;
        if (!read_header(run->buffer + *at, header))
            return DECLINED;
        *at += BLOCK;
        if (header->flag != 'x' && header->flag != 'L' && header->flag != 'K')
            return DONE;
        if (header->size > MAX_META)
            return DECLINED;
        data = (struct piece){run->buffer + *at, (size_t)header->size};
        *end = *at + (data.length + BLOCK - 1) / BLOCK * BLOCK + BLOCK; /* another header follows */
        if (*end > run->length)
            return TOO_SHORT;
        *at = *end - BLOCK;
        if (header->flag == 'x') {
            if (has_records) /* only the last one of several counts */
                return DECLINED;
            has_records = true;
            outcome = read_records(run, first, data, &reading->records);
            if (outcome != DONE)
                return outcome;
        } else {
            struct piece *text = header->flag == 'L' ? &reading->long_name : &reading->long_link;
            if (text->data)
                return DECLINED;
            *text = until_nul(data.data, data.length);
        }
    }
}

/* Apply the records that are numbers. An empty value changes nothing. */
static bool apply_numbers(struct reading *reading)
{
    const struct records *records = &reading->records;

    reading->size = reading->header.size;
    reading->uid = reading->header.uid;
    reading->gid = reading->header.gid;
    reading->seconds = reading->header.seconds;
    reading->nanoseconds = 0;
    return !((records->size.length && (!read_decimal(records->size, &reading->size) || reading->size < 0)) ||
             (records->uid.length && !read_decimal(records->uid, &reading->uid)) ||
             (records->gid.length && !read_decimal(records->gid, &reading->gid)) ||
             (records->mtime.length && !read_time(records->mtime, &reading->seconds, &reading->nanoseconds)));
}

/* Where the cleaned name and its last component are in a name. */
struct place {
    size_t path, base, end;
};

/* Find the cleaned name in a name: without a `./` before it, and a directory's slash after it. Decline a name that has
 * to be cleaned in another way, and one that has a whiteout's name in it. */
static bool find_path(const char *name, size_t length, bool directory, struct place *place)
{
    size_t end = length, at = length >= 2 && name[0] == '.' && name[1] == '/' ? 2 : 0;

    if (directory && end && name[end - 1] == '/')
        end--;
    *place = (struct place){at, at, end};
    while (at < end) {
        const char *component = name + at, *slash = memchr(component, '/', end - at);
        size_t size = slash ? (size_t)(slash - component) : end - at;

        if (!size)
            return false;
        if (component[0] == '.' && (size == 1 || (size == 2 && component[1] == '.') ||
                                    (size >= 4 && memcmp(component, ".wh.", 4) == 0)))
            return false;
        place->base = at;
        if (!slash)
            return true;
        at += size + 1;
    }
    return false; /* it is empty, or ends with a slash */
}

static enum outcome keep_names(struct ls_run *run, const struct reading *reading, struct ls_entry *entry)
{
    const struct header *header = &reading->header;
    const struct records *records = &reading->records;
    struct piece none = {0}, slash = {(const uint8_t *)"/", 1};
    struct piece link = reading->long_link.length ? reading->long_link
                        : records->link.length    ? until_nul(records->link.data, records->link.length)
                                                  : header->link;
    struct place place;
    enum outcome outcome;
    uint32_t start;

    if (reading->long_name.length)
        outcome = keep_text(run, &entry->name, reading->long_name, none, none);
    else if (records->path.length)
        outcome = keep_text(run, &entry->name, until_nul(records->path.data, records->path.length), none, none);
    else
        outcome = keep_text(run, &entry->name, header->prefix, header->prefix.length ? slash : none, header->name);
    if (outcome == DONE)
        outcome = keep_text(run, &entry->link, link, none, none);
    if (outcome != DONE)
        return outcome;
    if (entry->name.length > LS_MAX_NAME || entry->link.length > LS_MAX_NAME)
        return DECLINED;
    if ((entry->type == LS_SYMLINK || entry->type == LS_HARDLINK) && !entry->link.length)
        return DECLINED;
    if (!find_path(ls_text(run, entry->name), entry->name.length, entry->type == LS_DIRECTORY, &place))
        return DECLINED;
    start = entry->name.at + (uint32_t)place.path;
    entry->path = (struct ls_text){start, (uint32_t)(place.end - place.path)};
    if (place.end != entry->name.length) { /* the path is a text of its own: it needs a NUL in place of the slash */
        char *arena = make_room(run->arena, run->arena_length, &run->arena_room, entry->path.length + 1, 1);
        if (!arena)
            return NO_MEMORY;
        run->arena = arena;
        entry->path.at = (uint32_t)run->arena_length;
        memcpy(arena + entry->path.at, arena + start, entry->path.length);
        arena[entry->path.at + entry->path.length] = 0;
        run->arena_length += entry->path.length + 1;
    }
    entry->base = (struct ls_text){entry->path.at + (uint32_t)(place.base - place.path),
                                   (uint32_t)(place.end - place.base)};
    return DONE;
}

/* Find the kind of an entry, or add it. */
static bool keep_kind(struct ls_run *run, const struct reading *reading, struct ls_entry *entry)
{
    struct ls_kind wanted = {reading->uid, reading->gid, 1, reading->header.mode, entry->type};
    size_t number = run->kind_count;

    while (number--) {
        struct ls_kind *kind = &run->kinds[number];
        if (kind->uid == wanted.uid && kind->gid == wanted.gid && kind->mode == wanted.mode &&
            kind->type == wanted.type) {
            kind->count++;
            entry->kind = (uint32_t)number;
            return true;
        }
    }
    if (run->kind_count == LS_MAX_KINDS)
        return false;
    entry->kind = (uint32_t)run->kind_count;
    run->kinds[run->kind_count++] = wanted;
    return true;
}

static bool find_type(uint8_t flag, uint8_t *type)
{
    switch (flag) {
    case '0': *type = LS_FILE; return true;
    case '1': *type = LS_HARDLINK; return true;
    case '2': *type = LS_SYMLINK; return true;
    case '5': *type = LS_DIRECTORY; return true;
    default: return false;
    }
}

/* Find out whether the payload that begins at `at` is where it has to be: in the buffer; or, if `outside` is its size,
 * elsewhere, so that the headers end the buffer. */
static enum outcome check_payload(const struct ls_run *run, const struct reading *reading, size_t at, size_t *end,
                                  const uint64_t *outside)
{
    uint64_t size = (uint64_t)reading->size;

    if (outside)
        return at == run->length && size == *outside && size <= SIZE_MAX ? DONE : DECLINED;
    if (size <= run->length - at)
        return DONE;
    if (size > SIZE_MAX - at)
        return DECLINED;
    *end = at + (size_t)size;
    return TOO_SHORT;
}

/* Read the entry that follows, and make it the run's last one. */
static enum outcome read_entry(struct ls_run *run, uint64_t offset, size_t *end, const uint64_t *outside)
{
    struct reading reading = {0};
    struct ls_entry *entry = &run->entries[run->count];
    size_t at = run->position + run->padding;
    enum outcome outcome;

    *entry = (struct ls_entry){.offset = offset + at, .segment = run->position, .xattrs = (uint32_t)run->xattr_count};
    outcome = read_headers(run, &reading, &at, end);
    if (outcome != DONE)
        return outcome;
    if (!find_type(reading.header.flag, &entry->type) || !apply_numbers(&reading))
        return DECLINED;
    if (entry->type != LS_FILE && reading.size) /* what it means has to be found out */
        return DECLINED;
    outcome = check_payload(run, &reading, at, end, outside);
    if (outcome == DONE)
        outcome = keep_names(run, &reading, entry);
    if (outcome != DONE)
        return outcome;
    if (!keep_kind(run, &reading, entry))
        return DECLINED;
    entry->payload = at;
    entry->size = (size_t)reading.size;
    entry->seconds = reading.seconds;
    entry->nanoseconds = reading.nanoseconds;
    entry->xattr_count = (uint32_t)run->xattr_count - entry->xattrs;
    run->size += entry->type == LS_SYMLINK ? entry->link.length : entry->size;
    run->count++;
    run->position = at + (outside ? 0 : entry->size);
    run->padding = (BLOCK - entry->size % BLOCK) % BLOCK;
    return DONE;
}

static bool make_room_for_entry(struct ls_run *run)
{
    struct ls_entry *entries = make_room(run->entries, run->count, &run->room, 1, sizeof *entries);

    if (entries)
        run->entries = entries;
    return entries != NULL;
}

int ls_scan(struct ls_run *run, const uint8_t *buffer, size_t length, size_t position, size_t padding, uint64_t offset,
            size_t max_entries, size_t max_bytes)
{
    *run = (struct ls_run){.buffer = buffer, .length = length, .position = position, .padding = padding};
    while (run->count < max_entries && run->position - position <= max_bytes) {
        size_t xattr_count = run->xattr_count, arena_length = run->arena_length, end = 0;
        enum outcome outcome = make_room_for_entry(run) ? read_entry(run, offset, &end, NULL) : NO_MEMORY;

        if (outcome == DONE)
            continue;
        run->xattr_count = xattr_count;
        run->arena_length = arena_length;
        if (outcome == NO_MEMORY)
            return -1;
        if (outcome == TOO_SHORT)
            run->needed = end - run->position;
        break;
    }
    return 0;
}

int ls_scan_headers(struct ls_run *run, const uint8_t *segment, size_t length, size_t padding, uint64_t size)
{
    size_t end;
    enum outcome outcome;

    run->buffer = segment;
    run->length = length;
    run->padding = padding;
    run->position = run->needed = run->count = run->kind_count = run->xattr_count = run->arena_length = 0;
    run->size = 0;
    outcome = make_room_for_entry(run) ? read_entry(run, 0, &end, &size) : NO_MEMORY;
    return outcome == NO_MEMORY ? -1 : outcome == DONE;
}

void ls_run_free(struct ls_run *run)
{
    free(run->entries);
    free(run->xattrs);
    free(run->arena);
    run->entries = NULL;
    run->xattrs = NULL;
    run->arena = NULL;
}
