/* Large products of training: those in fp32 with tiles, and the transposes that those in bf16 want.

   For the tiles a number in fp32 is the sum of two in bf16. Both factors are laid out for them, so many inputs at a
   time that they stay in the cache: in panels of 32 rows of the left one and of 32 columns of the right one, each
   panel as parts of 32 inputs. A part is four tiles: the numbers of one half of the panel, what they leave, and
   likewise of the other half. */

#include "team.h"
#include "tiles.h"

#if HAS_HALF

#define SIDE 32                        /* rows or columns of a panel */
#define BLOCK 512                      /* inputs laid out at a time */
#define PART (4 * TILE)                /* numbers in bf16 */
#define PANEL (BLOCK / DEEP * PART)
#define NEAR 16                        /* panels of columns that rows are multiplied with while these are in the cache */

/* The rows of the left factor, or the columns of the right one. */
struct factor {
    const float *x;
    int64_t length;
    int64_t next, deep; /* numbers from one to the next, and from an input to the next; one of them is 1 */
    uint16_t *laid;     /* room for its panels */
};

struct product {
    struct factor left, right;
    int64_t inputs;
    const float *bias; /* (columns,), added to each row, or NULL */
    float *out;        /* (rows, columns) */
};

struct shared {
    const struct product *p;
    struct team *team;
    struct parts parts;
};

static int64_t panels(const struct factor *f) { return (f->length + SIDE - 1) / SIDE; }

ALWAYS __mmask16 first_of(int64_t count) { return count >= 16 ? 0xffff : count <= 0 ? 0 : (1 << count) - 1; }

/* 16 rows of 16 numbers of 32 bits, a number from each row becoming a row. */
static void turn_square(__m512i row[16]) {
    __m512i pairs[16], fours[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        pairs[i] = _mm512_unpacklo_epi32(row[i], row[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(row[i], row[i + 1]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            fours[i + 2 * j] = _mm512_unpacklo_epi64(pairs[i + j], pairs[i + j + 2]);
            fours[i + 2 * j + 1] = _mm512_unpackhi_epi64(pairs[i + j], pairs[i + j + 2]);
        }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        const __m512i even = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0x88);
        const __m512i odd = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0xdd);
        const __m512i later_even = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0x88);
        const __m512i later_odd = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0xdd);
        row[j] = _mm512_shuffle_i32x4(even, later_even, 0x88);
        row[4 + j] = _mm512_shuffle_i32x4(odd, later_odd, 0x88);
        row[8 + j] = _mm512_shuffle_i32x4(even, later_even, 0xdd);
        row[12 + j] = _mm512_shuffle_i32x4(odd, later_odd, 0xdd);
    }
}

/* A tile of 16 rows of 16 pairs becomes one of 16 pairs of as many columns, and back. */
static void turn_pairs(uint16_t *tile) {
    __m512i row[16];
    for (int i = 0; i < 16; i++) row[i] = _mm512_load_si512(tile + i * 32);
    turn_square(row);
    for (int i = 0; i < 16; i++) _mm512_store_si512(tile + i * 32, row[i]);
}

/* 32 inputs of 16 rows or columns: two tiles. What is beyond the factor is 0. */
static void lay_tiles(const struct factor *f, int64_t first, int64_t input, int64_t inputs, uint16_t *to) {
    for (int64_t i = 0; i < 16; i++, to += 32) {
        if (f->deep == 1) { /* a row */
            const float *x = f->x + (first + i) * f->next + input;
            const int64_t there = first + i < f->length ? inputs - input : 0;
            const vf low = (vf)_mm512_maskz_loadu_ps(first_of(there), x);
            const vf high = (vf)_mm512_maskz_loadu_ps(first_of(there - 16), x + 16);
            _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
            _mm512_store_si512(to + TILE, (__m512i)_mm512_cvtne2ps_pbh((__m512)rest(high), (__m512)rest(low)));
            continue;
        }
        const float *x = f->x + (input + 2 * i) * f->deep + first;
        const __mmask16 there = first_of(f->length - first);
        const vf even = (vf)_mm512_maskz_loadu_ps(input + 2 * i < inputs ? there : 0, x);
        const vf odd = (vf)_mm512_maskz_loadu_ps(input + 2 * i + 1 < inputs ? there : 0, x + f->deep);
        pack_row(to, even, odd, 1);
    }
}

/* A thread's share of the panels, of the inputs from `input` on. The tiles have the inputs of a row side by side, and
   pairs of inputs of columns below each other: if they lie in memory otherwise, they are turned. */
static void lay(const struct factor *f, int64_t input, int64_t inputs, int rows, int threads, int me) {
    const int64_t all = panels(f), from = all * me / threads, own = all * (me + 1) / threads - from;
    const int64_t parts = ((inputs - input < BLOCK ? inputs - input : BLOCK) + DEEP - 1) / DEEP;
    const int along = f->deep == 1; /* in the order of memory: part by part of a panel, or panel by panel */
    for (int64_t i = 0; i < own * parts; i++) {
        const int64_t panel = from + (along ? i / parts : i % own), part = along ? i % parts : i / own;
        uint16_t *to = f->laid + panel * PANEL + part * PART;
        for (int half = 0; half < SIDE; half += 16, to += 2 * TILE) {
            lay_tiles(f, panel * SIDE + half, input + part * DEEP, inputs, to);
            if (rows != along) turn_pairs(to), turn_pairs(to + TILE);
        }
    }
}

/* 32 rows times 32 columns, onto what is there of the inputs before. */
static void multiply_panels(const struct product *p, int64_t row, int64_t column, int64_t input) {
    static const float nothing[SIDE];
    const int64_t n = p->right.length, high = p->left.length - row, wide = n - column;
    const int inside = high >= SIDE && wide >= SIDE;
    const uint16_t *x = p->left.laid + row / SIDE * PANEL, *w = p->right.laid + column / SIDE * PANEL;
    const float *begin = input ? p->out + row * n + column : p->bias ? p->bias + column : nothing;
    const int64_t apart = input ? n : 0; /* the first sums of all rows are the bias */
    float edge[SIDE * SIDE] __attribute__((aligned(64)));
    float *out = inside ? p->out + row * n + column : edge;
    const int64_t from_row = inside ? apart : SIDE, to_row = inside ? n : SIDE;
    if (!inside) {
        for (int64_t i = 0; i < SIDE; i++)
            for (int64_t j = 0; j < SIDE; j++)
                edge[i * SIDE + j] = i < high && j < wide && begin != nothing ? begin[i * apart + j] : 0;
        begin = edge;
    }
    written();
    _tile_loadd(0, begin, 4 * from_row);
    _tile_loadd(1, begin + 16, 4 * from_row);
    _tile_loadd(2, begin + 16 * from_row, 4 * from_row);
    _tile_loadd(3, begin + 16 * from_row + 16, 4 * from_row);
    for (int64_t k = input; k < p->inputs && k < input + BLOCK; k += DEEP, x += PART, w += PART)
        times_whole(x, x + 2 * TILE, TILE, DEEP, w, 1);
    _tile_stored(0, out, 4 * to_row);
    _tile_stored(1, out + 16, 4 * to_row);
    _tile_stored(2, out + 16 * to_row, 4 * to_row);
    _tile_stored(3, out + 16 * to_row + 16, 4 * to_row);
    if (!inside)
        for (int64_t i = 0; i < SIDE && i < high; i++)
            memcpy(p->out + (row + i) * n + column, edge + i * SIDE, 4 * (wide < SIDE ? wide : SIDE));
}

static void multiply_all(void *what) {
    struct shared *s = what;
    const struct product *p = s->p;
    const int threads = threads_of(s->team), me = number_in(s->team);
    const int64_t rows = panels(&p->left), columns = panels(&p->right);
    struct tiles others, ours = {.palette = 1};
    for (int i = 0; i < 8; i++) ours.bytes[i] = 64, ours.rows[i] = 16;
    store_shapes(&others);
    load_shapes(&ours);
    int64_t input = 0;
    do { /* once without any inputs, too: then all sums are the bias */
        lay(&p->left, input, p->inputs, 1, threads, me);
        lay(&p->right, input, p->inputs, 0, threads, me);
        meet(s->team, threads);
        int64_t item;
        while ((item = take(&s->parts, rows * ((columns + NEAR - 1) / NEAR), input / BLOCK, threads, me)) >= 0)
            for (int64_t near = item / rows * NEAR, column = near; column < columns && column < near + NEAR; column++)
                multiply_panels(p, item % rows * SIDE, column * SIDE, input);
        meet(s->team, threads);
        input += BLOCK;
    } while (input < p->inputs);
    load_shapes(&others);
}

EXPORT void s2s_dense(const struct product *p, struct team *team) {
    struct shared s = {.p = p, .team = team};
    together(team, multiply_all, &s);
}

/* A matrix turned, as the products that sum over its rows want it. */

struct turning {
    const uint16_t *from; /* (rows, columns) */
    uint16_t *to;         /* (columns, rows) */
    int64_t rows, columns;
};

struct shared_turning {
    const struct turning *t;
    struct team *team;
};

/* 32 rows of 32 columns, which is all of the lines that they are in: pairs of rows by turns, which are turned. */
static void turn_tile(const struct turning *t, int64_t row, int64_t column) {
    const int64_t high = t->rows - row < 32 ? t->rows - row : 32, wide = t->columns - column < 32 ? t->columns - column : 32;
    const __mmask32 there = 0xffffffff >> (32 - wide), filled = 0xffffffff >> (32 - high);
    __m512i square[2][16];
    for (int64_t i = 0; i < 32; i += 2) {
        const uint16_t *from = t->from + (row + i) * t->columns + column;
        const __m512i even = _mm512_maskz_loadu_epi16(i < high ? there : 0, from);
        const __m512i odd = _mm512_maskz_loadu_epi16(i + 1 < high ? there : 0, from + t->columns);
        for (int half = 0; half < 2; half++) {
            const __m512i low = _mm512_cvtepu16_epi32(half ? _mm512_extracti64x4_epi64(even, 1) : _mm512_castsi512_si256(even));
            const __m512i up = _mm512_cvtepu16_epi32(half ? _mm512_extracti64x4_epi64(odd, 1) : _mm512_castsi512_si256(odd));
            square[half][i / 2] = _mm512_or_si512(low, _mm512_slli_epi32(up, 16));
        }
    }
    /* Meanwhile the lines of the next 32 rows are fetched, and those that they will be written to. */
    for (int64_t i = 0; i < 32 && row + 32 + i < t->rows; i++)
        __builtin_prefetch(t->from + (row + 32 + i) * t->columns + column);
    turn_square(square[0]);
    turn_square(square[1]);
    for (int64_t i = 0; i < wide; i++) {
        uint16_t *to = t->to + (column + i) * t->rows + row;
        __builtin_prefetch(to + 32, 1);
        _mm512_mask_storeu_epi16(to, filled, square[i / 16][i % 16]);
    }
}

static void turn(void *what) {
    const struct shared_turning *s = what;
    const struct turning *t = s->t;
    const int64_t strips = (t->columns + 31) / 32;
    const int threads = threads_of(s->team), me = number_in(s->team);
    for (int64_t strip = strips * me / threads; strip < strips * (me + 1) / threads; strip++)
        for (int64_t row = 0; row < t->rows; row += 32) turn_tile(t, row, strip * 32);
}

EXPORT void s2s_turn(const struct turning *t, struct team *team) {
    struct shared_turning s = {.t = t, .team = team};
    together(team, turn, &s);
}

#endif
