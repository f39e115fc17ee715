/* Scan of a tar: the twin of `TarScanner.next_entry`, for entries that are plain. What is accepted has exactly the
 * result that the twin has. Everything else is declined: the run ends before it. The formats are in header.c and
 * records.c. */
#include "scan.h"

#include <stdlib.h>

enum { MAX_META = 1 << 20 };

/* An entry while it is read. */
struct reading {
    struct header header;
    struct records records;
    struct piece long_name, long_link;
    int64_t size, uid, gid, seconds;
    uint32_t nanoseconds;
};

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

        *end = *at + LS_BLOCK;
        if (*at > run->length || run->length - *at < LS_BLOCK)
            return TOO_SHORT;
        if (!ls_read_header(run->buffer + *at, header))
            return DECLINED;
        *at += LS_BLOCK;
        if (header->flag != 'x' && header->flag != 'L' && header->flag != 'K')
            return DONE;
        if (header->size > MAX_META)
            return DECLINED;
        data = (struct piece){run->buffer + *at, (size_t)header->size};
        *end = *at + (data.length + LS_BLOCK - 1) / LS_BLOCK * LS_BLOCK + LS_BLOCK; /* another header follows */
        if (*end > run->length)
            return TOO_SHORT;
        *at = *end - LS_BLOCK;
        if (header->flag == 'x') {
            if (has_records) /* only the last one of several counts */
                return DECLINED;
            has_records = true;
            outcome = ls_read_records(run, first, data, &reading->records);
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
    return !((records->size.length && (!ls_read_decimal(records->size, &reading->size) || reading->size < 0)) ||
             (records->uid.length && !ls_read_decimal(records->uid, &reading->uid)) ||
             (records->gid.length && !ls_read_decimal(records->gid, &reading->gid)) ||
             (records->mtime.length && !ls_read_time(records->mtime, &reading->seconds, &reading->nanoseconds)));
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
        outcome = ls_keep_text(run, &entry->name, reading->long_name, none, none);
    else if (records->path.length)
        outcome = ls_keep_text(run, &entry->name, until_nul(records->path.data, records->path.length), none, none);
    else
        outcome = ls_keep_text(run, &entry->name, header->prefix, header->prefix.length ? slash : none, header->name);
    if (outcome == DONE)
        outcome = ls_keep_text(run, &entry->link, link, none, none);
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
        char *arena = ls_make_room(run->arena, run->arena_length, &run->arena_room, entry->path.length + 1, 1);
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
    run->padding = (LS_BLOCK - entry->size % LS_BLOCK) % LS_BLOCK;
    return DONE;
}

static bool make_room_for_entry(struct ls_run *run)
{
    struct ls_entry *entries = ls_make_room(run->entries, run->count, &run->room, 1, sizeof *entries);

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
