/* Large products of training with tiles, in bf16 or in fp32.

   Of a `whole` product, in fp32, each number is for the tiles the sum of two in bf16. Both factors are laid out for
   them, so many inputs at a time that they stay in the cache: in panels of 32 rows of the left one and of 32 columns of
   the right one, each panel as parts of 32 inputs. A part is a tile for each half of the panel, whole two of them: the
   numbers and what they leave. Rows in bf16 that are in panels of 32 inputs already are read where they lie. */

#include "team.h"
#include "tiles.h"

#if HAS_HALF

#define SIDE 32              /* rows or columns of a panel */
#define PANEL (SIDE * 1024)  /* numbers in bf16 of what is laid out of a panel at a time */
#define SUMS (SIDE * SIDE)   /* of two panels */
#define NEAR 1048576         /* bytes of panels of columns that rows are multiplied with while they are in the cache */

/* The rows of the left factor, or the columns of the right one. */
struct factor {
    const void *x;
    int64_t length;
    int64_t next, deep; /* numbers from one to the next, and from an input to the next; one of them is 1, */
    int64_t aside;      /* but 32 of those further this many */
    uint16_t *laid;     /* room for its panels */
};

struct product {
    struct factor left, right;
    int64_t inputs;
    int64_t whole;
    const float *bias; /* (columns,), added to each row, or NULL */
    void *out;         /* (rows, columns), */
    int64_t next;      /* numbers from a row to the next, */
    int64_t aside;     /* and from 32 columns to the next */
    float *sums;       /* room for those of all panels, where not all inputs are laid out at a time */
};

struct shared {
    const struct product *p;
    struct team *team;
    struct parts parts;
};

static int64_t panels(const struct factor *f) { return (f->length + SIDE - 1) / SIDE; }

ALWAYS int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Inputs laid out at a time, and numbers in bf16 of a part. */
ALWAYS int64_t block_of(const int whole) { return PANEL / SIDE / (1 + whole); }

ALWAYS int64_t part_of(const int whole) { return 2 * TILE * (1 + whole); }

/* Panels of rows of which all parts are tiles where they lie. */
ALWAYS int64_t ready(const struct factor *f, int64_t inputs, const int whole) {
    return !whole && f->deep == 1 && f->next == DEEP && inputs % DEEP == 0 ? f->length / SIDE : 0;
}

ALWAYS __mmask16 first_of(int64_t count) { return count >= 16 ? 0xffff : count <= 0 ? 0 : (1 << count) - 1; }

ALWAYS vf some(const void *x, int64_t at, __mmask16 there, const int whole) {
    if (whole) return (vf)_mm512_maskz_loadu_ps(there, (const float *)x + at);
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, (const uint16_t *)x + at)), 16);
}

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

/* 32 inputs of 16 rows or columns: a tile, whole two. What is beyond the factor is 0. */
ALWAYS void lay_tiles(const struct factor *f, int64_t first, int64_t input, int64_t inputs, uint16_t *to,
                      const int along, const int whole) {
    for (int64_t i = 0; i < 16; i++, to += 32) {
        if (along) { /* a row */
            const int64_t at = (first + i) * f->next + input / SIDE * f->aside;
            const int64_t there = first + i < f->length ? inputs - input : 0;
            const vf low = some(f->x, at, first_of(there), whole);
            const vf high = some(f->x, at + 16, first_of(there - 16), whole);
            _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
            if (!whole) continue;
            _mm512_store_si512(to + TILE, (__m512i)_mm512_cvtne2ps_pbh((__m512)rest(high), (__m512)rest(low)));
            continue;
        }
        const int64_t at = (input + 2 * i) * f->deep + first / SIDE * f->aside + first % SIDE;
        const __mmask16 there = first_of(f->length - first);
        const vf even = some(f->x, at, input + 2 * i < inputs ? there : 0, whole);
        const vf odd = some(f->x, at + f->deep, input + 2 * i + 1 < inputs ? there : 0, whole);
        pack_row(to, even, odd, whole);
    }
}

/* A thread's share of the panels, of the inputs from `input` on. The tiles have the inputs of a row side by side, and
   pairs of inputs of columns below each other: if they lie in memory otherwise, they are turned. */
ALWAYS void lay_as(const struct factor *f, int64_t input, int64_t inputs, int rows, int threads, int me,
                   const int along, const int whole) {
    const int64_t lying = rows ? ready(f, inputs, whole) : 0, all = panels(f) - lying;
    const int64_t from = lying + all * me / threads, own = lying + all * (me + 1) / threads - from;
    const int64_t parts = (least(inputs - input, block_of(whole)) + DEEP - 1) / DEEP;
    for (int64_t i = 0; i < own * parts; i++) { /* in the order of memory: part by part of a panel, or panel by panel */
        const int64_t panel = from + (along ? i / parts : i % own), part = along ? i % parts : i / own;
        uint16_t *to = f->laid + panel * PANEL + part * part_of(whole);
        for (int half = 0; half < SIDE; half += 16, to += part_of(whole) / 2) {
            lay_tiles(f, panel * SIDE + half, input + part * DEEP, inputs, to, along, whole);
            if (rows == along) continue;
            turn_pairs(to);
            if (whole) turn_pairs(to + TILE);
        }
    }
}

ALWAYS void lay(const struct factor *f, int64_t input, int64_t inputs, int rows, int threads, int me, const int whole) {
    if (f->deep == 1)
        lay_as(f, input, inputs, rows, threads, me, 1, whole);
    else
        lay_as(f, input, inputs, rows, threads, me, 0, whole);
}

/* 32 inputs of 32 rows times 32 columns, onto tiles 0 to 3. */
ALWAYS void times_half(const uint16_t *x, const uint16_t *w) {
    _tile_loadd(4, x, 64);
    _tile_loadd(6, w, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, w + TILE, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, x + TILE, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

/* Of an output; `column` is the first of a panel. */
ALWAYS int64_t place(const struct product *p, int64_t row, int64_t column) {
    return row * p->next + column / SIDE * p->aside;
}

/* The sums of 32 rows and columns, as far as there are so many, go where they belong. */
ALWAYS void finish(const struct product *p, const float *sums, int64_t row, int64_t column, const int whole) {
    const int64_t n = p->right.length;
    const __mmask16 low = first_of(n - column), high = first_of(n - column - 16);
    vf bias[2] = {{0}};
    if (p->bias) bias[0] = some(p->bias, column, low, 1), bias[1] = some(p->bias, column + 16, high, 1);
    for (int64_t i = row; i < row + SIDE && i < p->left.length; i++, sums += SIDE) {
        const vf first = load(sums) + bias[0], second = load(sums + 16) + bias[1];
        const int64_t at = place(p, i, column);
        if (whole) {
            _mm512_mask_storeu_ps((float *)p->out + at, low, (__m512)first);
            _mm512_mask_storeu_ps((float *)p->out + at + 16, high, (__m512)second);
            continue;
        }
        _mm512_mask_storeu_epi16((uint16_t *)p->out + at, (__mmask32)high << 16 | low,
                                 (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first));
    }
}

/* 32 rows times 32 columns, onto what is there of the inputs before. */
ALWAYS void multiply_panels(const struct product *p, int64_t row, int64_t column, int64_t input, const int whole) {
    const uint16_t *x = p->left.laid + row / SIDE * PANEL, *w = p->right.laid + column / SIDE * PANEL;
    int64_t next = part_of(whole); /* from a part of the rows to the next */
    if (row / SIDE < ready(&p->left, p->inputs, whole)) {
        next = p->left.aside;
        x = (const uint16_t *)p->left.x + input / DEEP * next + row * p->left.next;
    }
    const int64_t end = least(input + block_of(whole), p->inputs);
    float here[SUMS] __attribute__((aligned(64))), *sums = here;
    if (p->sums) sums = p->sums + (row / SIDE * panels(&p->right) + column / SIDE) * SUMS;
    written();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    if (input) {
        _tile_loadd(0, sums, 4 * SIDE);
        _tile_loadd(1, sums + 16, 4 * SIDE);
        _tile_loadd(2, sums + SUMS / 2, 4 * SIDE);
        _tile_loadd(3, sums + SUMS / 2 + 16, 4 * SIDE);
    }
    /* Meanwhile the lines are fetched that the sums will be written to. */
    for (int64_t i = row; end == p->inputs && i < row + SIDE && i < p->left.length; i++) {
        const char *to = (const char *)p->out + place(p, i, column) * (whole ? 4 : 2);
        __builtin_prefetch(to, 1);
        if (whole) __builtin_prefetch(to + 64, 1);
    }
    for (int64_t k = input; k < end; k += DEEP, x += next, w += part_of(whole))
        if (whole)
            times_whole(x, x + 2 * TILE, TILE, w, 1);
        else
            times_half(x, w);
    _tile_stored(0, sums, 4 * SIDE);
    _tile_stored(1, sums + 16, 4 * SIDE);
    _tile_stored(2, sums + SUMS / 2, 4 * SIDE);
    _tile_stored(3, sums + SUMS / 2 + 16, 4 * SIDE);
    if (end == p->inputs) finish(p, sums, row, column, whole);
}

ALWAYS void multiply_as(struct shared *s, const int whole) {
    const struct product *p = s->p;
    const int threads = threads_of(s->team), me = number_in(s->team);
    const int64_t rows = panels(&p->left), columns = panels(&p->right);
    const int64_t fitting = NEAR / (least(p->inputs + 1, block_of(whole)) * SIDE * 2 * (1 + whole));
    const int64_t groups = (columns + fitting - 1) / fitting; /* of panels of columns, nearly alike */
    int64_t input = 0, turn = 0, item;
    do { /* once without any inputs, too: then all sums are the bias */
        lay(&p->left, input, p->inputs, 1, threads, me, whole);
        lay(&p->right, input, p->inputs, 0, threads, me, whole);
        meet(s->team, threads);
        while ((item = take(&s->parts, rows * groups, turn, threads, me)) >= 0) {
            const int64_t group = item / rows, row = item % rows;
            for (int64_t column = columns * group / groups; column < columns * (group + 1) / groups; column++)
                multiply_panels(p, row * SIDE, column * SIDE, input, whole);
        }
        meet(s->team, threads);
        input += block_of(whole), turn++;
    } while (input < p->inputs);
}

static void multiply_all(void *what) {
    struct shared *s = what;
    struct tiles others, ours = {.palette = 1};
    for (int i = 0; i < 8; i++) ours.bytes[i] = 64, ours.rows[i] = 16;
    store_shapes(&others);
    load_shapes(&ours);
    if (s->p->whole)
        multiply_as(s, 1);
    else
        multiply_as(s, 0);
    load_shapes(&others);
}

EXPORT void s2s_dense(const struct product *p, struct team *team) {
    struct shared s = {.p = p, .team = team};
    together(team, multiply_all, &s);
}

#endif
