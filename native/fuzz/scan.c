/* Fuzz target of the scan of a tar: nothing that it returns is outside the buffer or the arena, and one entry is read as
 * in a run. */
#include "../src/run.h"

#include <stdlib.h>
#include <string.h>

int ls_fuzz_scan(const uint8_t *data, size_t size);

static void demand(int holds)
{
    if (!holds)
        abort();
}

static void check_text(const struct ls_run *run, struct ls_text text)
{
    demand(text.at < run->arena_length && text.length < run->arena_length - text.at);
    demand(ls_text(run, text)[text.length] == 0);
}

static void check_entry(const struct ls_run *run, const struct ls_entry *entry)
{
    check_text(run, entry->name);
    check_text(run, entry->path);
    check_text(run, entry->base);
    check_text(run, entry->link);
    demand(entry->base.length > 0 && entry->base.at >= entry->path.at);
    demand(entry->base.at + entry->base.length == entry->path.at + entry->path.length);
    demand(strchr(ls_text(run, entry->base), '/') == NULL);
    demand(strcmp(ls_text(run, entry->base), "..") != 0 && strcmp(ls_text(run, entry->base), ".") != 0);
    demand(entry->segment < entry->payload && entry->payload <= run->length);
    demand(entry->kind < run->kind_count && run->kinds[entry->kind].type == entry->type);
    demand(entry->nanoseconds < 1000000000);
    demand(entry->xattrs <= run->xattr_count && entry->xattr_count <= run->xattr_count - entry->xattrs);
    for (size_t number = 0; number < entry->xattr_count; number++) {
        const struct ls_xattr *xattr = &run->xattrs[entry->xattrs + number];
        check_text(run, xattr->name);
        demand(xattr->value <= run->length && xattr->length <= run->length - xattr->value);
    }
}

static void check_payload(const struct ls_run *run, const struct ls_entry *entry)
{
    check_entry(run, entry);
    demand(entry->size <= run->length - entry->payload);
}

/* The headers of each entry by themselves say the same; anything else must not be read beyond its end. */
static void check_headers(const struct ls_run *run, const uint8_t *data, size_t size)
{
    struct ls_run one = {0};

    for (size_t number = 0; number < run->count; number++) {
        const struct ls_entry *entry = &run->entries[number], *found;
        size_t length = entry->payload - entry->segment;

        demand(ls_scan_headers(&one, run->buffer + entry->segment, length, length % 512, entry->size) == 1);
        found = one.entries;
        check_entry(&one, found);
        demand(found->type == entry->type && found->seconds == entry->seconds && found->size == entry->size);
        demand(strcmp(ls_text(&one, found->path), ls_text(run, entry->path)) == 0);
        demand(ls_scan_headers(&one, run->buffer + entry->segment, length, length % 512, entry->size + 1) == 0);
        demand(ls_scan_headers(&one, run->buffer + entry->segment, length - 1, length % 512, entry->size) == 0);
    }
    if (ls_scan_headers(&one, data, size, size % 512, 0) == 1)
        check_entry(&one, one.entries);
    ls_run_free(&one);
}

int ls_fuzz_scan(const uint8_t *data, size_t size)
{
    struct ls_run run;
    size_t position = 0, padding = 0;

    for (;;) {
        demand(ls_scan(&run, data, size, position, padding, 1000, 8, 1 << 16) == 0);
        demand(run.position >= position && run.position <= size && run.padding < 512);
        for (size_t number = 0; number < run.count; number++)
            check_payload(&run, &run.entries[number]);
        check_headers(&run, data, size);
        position = run.position;
        padding = run.padding;
        ls_run_free(&run);
        if (!run.count)
            return 0;
    }
}
