/* Fuzz target of tar-split lines: what is decoded is in the arena, and fills no more memory than was planned. */
#include "../src/decode.h"
#include "../src/fill.h"

#include <stdlib.h>

int ls_fuzz_pieces(const uint8_t *data, size_t size);

static void demand(int holds)
{
    if (!holds)
        abort();
}

/* Fill memory of exactly the planned size: no file is opened, as there is no directory. */
static void check_fill(const struct ls_pieces *pieces, size_t room)
{
    for (size_t first = 0; first < pieces->count;) {
        size_t planned, filled;
        const size_t last = ls_plan(pieces, first, room, &planned);
        demand(last >= first && last <= pieces->count && planned <= room);
        uint8_t *const memory = malloc(planned + 1);
        struct ls_source *const sources = malloc((last - first + 1) * sizeof *sources);
        demand(memory && sources);
        const size_t done = ls_fill(pieces, first, last, -1, memory, planned, sources, &filled);
        demand(done >= first && done <= last && filled <= planned && (done < last || filled == planned));
        free(memory);
        free(sources);
        first = done + 1;
    }
}

int ls_fuzz_pieces(const uint8_t *data, size_t size)
{
    struct ls_pieces pieces;

    for (size_t position = 0; position < size; position = pieces.next) {
        demand(ls_decode(data, size, position, &pieces) == 0);
        demand(position <= pieces.end && pieces.end <= size && pieces.end <= pieces.next && pieces.next > position);
        demand(pieces.used <= size && pieces.count <= pieces.lines);
        uint64_t sum = 0;
        for (size_t number = 0; number < pieces.count; number++) {
            const struct ls_piece *const piece = &pieces.piece[number];
            demand(piece->segment <= pieces.used && piece->segment_length <= pieces.used - piece->segment);
            demand(piece->name <= pieces.used && piece->name_length <= pieces.used - piece->name);
            demand(piece->name_length || !piece->size);
            sum += piece->segment_length + piece->size;
        }
        demand(sum == pieces.size);
        check_fill(&pieces, 4096);
        const size_t next = pieces.next;
        ls_free_pieces(&pieces);
        pieces.next = next;
    }
    return 0;
}
