#include "pack.h"

#include "walk.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BLOCK = 512,
    NAME_SIZE = 100,
    PREFIX_SIZE = 155,
    /* Longer paths are not plain. */
    MAX_PATH = 4096,
    MAX_ID = 07777777,
};
#define MAX_TIME 077777777777

/* An entry, as far as it is known before its header is written. */
struct pack {
    char path[MAX_PATH];
    size_t length;
    char link[NAME_SIZE + 1];
    struct stat status;
    char flag;
};

static size_t padded(size_t size)
{
    return (size + BLOCK - 1) / BLOCK * BLOCK;
}

static bool is_ascii(const char *text, size_t length)
{
    for (size_t at = 0; at < length; at++)
        if ((unsigned char)text[at] >= 0x80)
            return false;
    return true;
}

static void put_octal(uint8_t *field, size_t digits, uint64_t value)
{
    field[digits] = 0;
    while (digits--) {
        field[digits] = (uint8_t)('0' + (value & 7));
        value >>= 3;
    }
}

/* Split a path into ustar's name and prefix: return the index of the slash between them, 0 if there is no prefix, or -1
 * if it does not fit. */
static ptrdiff_t split(const char *path, size_t length)
{
    if (length <= NAME_SIZE)
        return 0;
    /* The slash at the end of a directory's name is no place to split. */
    size_t at = length - 1 < PREFIX_SIZE + 1 ? length - 1 : PREFIX_SIZE + 1;
    while (at-- > 1)
        if (path[at] == '/')
            return length - at - 1 <= NAME_SIZE ? (ptrdiff_t)at : -1;
    return -1;
}

/* Fill in a header block of zeros; the fields are those of POSIX's ustar. */
static void put_header(uint8_t *block, const struct stat *status, uint64_t size, char flag)
{
    unsigned sum = 0;

    put_octal(block + 100, 7, status->st_mode & 07777);
    put_octal(block + 108, 7, status->st_uid);
    put_octal(block + 116, 7, status->st_gid);
    put_octal(block + 124, 11, size);
    put_octal(block + 136, 11, (uint64_t)status->st_mtim.tv_sec);
    block[156] = (uint8_t)flag;
    memcpy(block + 257, "ustar\00000", 8);
    put_octal(block + 329, 7, 0);
    put_octal(block + 337, 7, 0);
    /* The checksum counts its own eight bytes as spaces. */
    memset(block + 148, ' ', 8);
    for (size_t at = 0; at < BLOCK; at++)
        sum += block[at];
    put_octal(block + 148, 6, sum);
}

/* Append a PAX record: its own length in decimal, a space, key=value, a newline. */
static size_t put_record(uint8_t *out, const char *key, const char *value, size_t length)
{
    size_t rest = strlen(key) + length + 3, all = rest;
    char digits[24];
    size_t count;

    for (;;) {
        count = (size_t)snprintf(digits, sizeof digits, "%zu", all);
        if (count + rest == all)
            break;
        all = count + rest;
    }
    memcpy(out, digits, count);
    out[count] = ' ';
    memcpy(out + count + 1, key, strlen(key));
    out[count + 1 + strlen(key)] = '=';
    memcpy(out + all - 1 - length, value, length);
    out[all - 1] = '\n';
    return all;
}

/* Write a PAX header with the time and the path, if ustar has no room for them; return its length, 0 for none. */
static size_t put_pax(uint8_t *out, const struct pack *pack, bool needs_path)
{
    static const struct stat nothing;
    uint8_t *data = out + BLOCK;
    size_t length = 0;

    if (pack->status.st_mtim.tv_nsec) {
        char text[40];
        size_t digits = (size_t)snprintf(text, sizeof text, "%lld.%09ld", (long long)pack->status.st_mtim.tv_sec,
                                         (long)pack->status.st_mtim.tv_nsec);
        while (text[digits - 1] == '0')
            digits--;
        length += put_record(data, "mtime", text, digits);
    }
    if (needs_path)
        length += put_record(data + length, "path", pack->path, pack->length);
    if (!length)
        return 0;
    memset(data + length, 0, padded(length) - length);
    memset(out, 0, BLOCK);
    memcpy(out, "PaxHeaders.0/entry", 18);
    put_header(out, &nothing, length, 'x');
    return BLOCK + padded(length);
}

/* Write all headers of an entry; return their length. */
static size_t put_headers(uint8_t *out, const struct pack *pack)
{
    ptrdiff_t at = split(pack->path, pack->length);
    size_t pax = put_pax(out, pack, at < 0);
    uint8_t *block = out + pax;
    size_t start = at > 0 ? (size_t)at + 1 : 0;
    size_t length = pack->length - start < NAME_SIZE ? pack->length - start : NAME_SIZE;

    memset(block, 0, BLOCK);
    memcpy(block, pack->path + start, length);
    memcpy(block + 157, pack->link, strlen(pack->link));
    if (at > 0)
        memcpy(block + 345, pack->path, (size_t)at);
    put_header(block, &pack->status, pack->flag == '0' ? (uint64_t)pack->status.st_size : 0, pack->flag);
    return pax + BLOCK;
}

/* Whether ustar and a PAX header with a time and a path are enough. */
static bool fits(const struct stat *status)
{
    return status->st_uid <= MAX_ID && status->st_gid <= MAX_ID && status->st_mtim.tv_sec >= 0 &&
           status->st_mtim.tv_sec <= MAX_TIME;
}

static bool has_no_xattrs(struct ls_attributed file, char *names)
{
    ptrdiff_t length = ls_list_xattrs(file, names);

    return length >= 0 && !ls_count_xattrs(names, length);
}

static bool is_unchanged(int file, const struct stat *before)
{
    struct stat now;

    return fstat(file, &now) == 0 && now.st_dev == before->st_dev && now.st_ino == before->st_ino &&
           now.st_size == before->st_size && now.st_mtim.tv_sec == before->st_mtim.tv_sec &&
           now.st_mtim.tv_nsec == before->st_mtim.tv_nsec && now.st_ctim.tv_sec == before->st_ctim.tv_sec &&
           now.st_ctim.tv_nsec == before->st_ctim.tv_nsec;
}

/* Write a regular file's entry; return its length, 0 if it was changed meanwhile, or cannot be read. */
static size_t pack_file(int file, struct pack *pack, uint8_t *room, char *names)
{
    size_t size = (size_t)pack->status.st_size;

    if (!has_no_xattrs((struct ls_attributed){file, NULL}, names))
        return 0;
    size_t used = put_headers(room, pack);
    /* One more byte than expected, to see that the file ends here. */
    if (size && read(file, room + used, size + 1) != (ssize_t)size)
        return 0;
    if (!is_unchanged(file, &pack->status))
        return 0;
    memset(room + used + size, 0, padded(size) - size);
    return used + padded(size);
}

/* Keep the path of the entry; return whether it is plain. */
static bool set_path(struct pack *pack, const char *above, const char *name)
{
    int length = snprintf(pack->path, sizeof pack->path, "%s%s%s", above, name, pack->flag == '5' ? "/" : "");

    if (length <= 0 || (size_t)length >= sizeof pack->path)
        return false;
    pack->length = (size_t)length;
    return is_ascii(pack->path, pack->length);
}

/* Read what a file is that is not opened; return whether it is plain. */
static bool look_at(int directory, const char *name, struct pack *pack, char *names)
{
    if (!has_no_xattrs((struct ls_attributed){directory, name}, names))
        return false;
    if (pack->flag == '5')
        return true;
    ssize_t length = readlinkat(directory, name, pack->link, sizeof pack->link);
    if (length <= 0 || length == sizeof pack->link)
        return false;
    pack->link[length] = 0;
    return is_ascii(pack->link, (size_t)length);
}

size_t ls_pack(int directory, const char *above, const char *name, uint8_t *room, char *names)
{
    struct pack pack = {.length = 0};
    struct stat *status = &pack.status;

    /* A name that means a deletion must not be packed. */
    if (!strncmp(name, ".wh.", 4) || fstatat(directory, name, status, AT_SYMLINK_NOFOLLOW) < 0 || !fits(status))
        return 0;
    pack.flag = S_ISREG(status->st_mode) ? '0' : S_ISLNK(status->st_mode) ? '2' : S_ISDIR(status->st_mode) ? '5' : 0;
    if (!pack.flag || (pack.flag != '5' && status->st_nlink > 1) || !set_path(&pack, above, name))
        return 0;
    if (pack.flag != '0')
        return look_at(directory, name, &pack, names) ? put_headers(room, &pack) : 0;
    if (status->st_size > LS_PACK_FILE)
        return 0;
    int file = ls_open_file(directory, name);
    if (file < 0)
        return 0;
    size_t used = pack_file(file, &pack, room, names);
    close(file);
    return used;
}
