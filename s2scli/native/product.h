/* Products of matrices, 64 columns at a time, each of which goes to whatever finishes it while it is in the cache.

   A matrix (columns, inputs) lies in panels of 64 columns: in fp32 [panel][input][64], in 8 bits
   [panel][input / 4][64][4], both as the instructions read them. Inputs in 8 bits are x · steps + 128,
   unsigned; what the 128 add to a sum is taken off again. Each row is summed in the same order whatever
   stands beside it. */

#ifndef S2S_PRODUCT_H
#define S2S_PRODUCT_H

#include "inputs.h"
#include "tiles.h"

/* What becomes of rows first… of a panel: raw[row][PANEL], sums of floats or of whole numbers. */
typedef void (*finish)(const void *raw, const struct matrix *m, const struct input *in, int64_t panel,
                       int64_t first, int64_t rows, int kind, void *what);

/* Asks for the memory that `finish` will need for the same rows: the sums take long enough for it to come. */
typedef void (*ahead)(const struct matrix *m, int64_t panel, int64_t first, int64_t rows, const void *what);

/* The numbers that raw sums of a row stand for, with what is added to them. */
ALWAYS vf total(const void *raw, const struct matrix *m, const struct input *in, int64_t panel, int64_t row,
                int64_t r, int column, int kind, const float *add) {
    if (kind == FP32) return load((const float *)raw + r * PANEL + column) + load(add);
    const int64_t at = panel * PANEL + column;
    vi whole = load_whole((const int32_t *)raw + r * PANEL + column);
    if (kind == BYTES) return __builtin_convertvector(whole, vf) * load(m->scale + at) + load(add);
    whole -= load_whole(m->offset + at);
    return __builtin_convertvector(whole, vf) * (load(m->scale + at) * in->scale[row]) + load(add);
}

/* Registers hold so many vectors of a row, and so many rows, at a time. */
#if LANES == 16
#define WIDE 4
#else
#define WIDE (LANES == 8 ? 2 : 4)
#endif
#define HIGH 6

ALWAYS void block_fp32(const int rows, const float *x, int64_t inputs, const float *weights, float *raw) {
    for (int c = 0; c < PANEL; c += WIDE * LANES) {
        vf sums[HIGH][WIDE] = {{{0}}};
        for (int64_t k = 0; k < inputs; k++) {
            vf w[WIDE];
#pragma GCC unroll 4
            for (int j = 0; j < WIDE; j++) w[j] = load(weights + k * PANEL + c + j * LANES);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                vf one = splat(x[r * inputs + k]);
#pragma GCC unroll 4
                for (int j = 0; j < WIDE; j++) sums[r][j] += one * w[j];
            }
        }
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int j = 0; j < WIDE; j++) store(raw + r * PANEL + c + j * LANES, sums[r][j]);
    }
}

/* Of at most HIGH rows, each sum made in the same order for any number of them. */
ALWAYS void rows_fp32(int64_t rows, const float *x, int64_t inputs, const float *weights, float *raw) {
    switch (rows) {
    case 1: block_fp32(1, x, inputs, weights, raw); break;
    case 2: block_fp32(2, x, inputs, weights, raw); break;
    case 3: block_fp32(3, x, inputs, weights, raw); break;
    case 4: block_fp32(4, x, inputs, weights, raw); break;
    case 5: block_fp32(5, x, inputs, weights, raw); break;
    default: block_fp32(6, x, inputs, weights, raw);
    }
}

#if defined(__AMX_INT8__)
#define HAS_INT8 1

/* Eight tiles of 16 rows of 64 bytes: four of sums, one of inputs, three of weights by turns. */
ALWAYS void tiles_int8(int64_t from, int64_t to, const uint8_t *x, int64_t inputs, const int8_t *weights) {
    for (int64_t k = from; k < to; k += 64) {
        const int8_t *w = weights + k * PANEL;
        _tile_loadd(4, x + k, inputs);
        _tile_loadd(5, w, 4 * PANEL);
        _tile_dpbusd(0, 4, 5);
        _tile_loadd(6, w + 64, 4 * PANEL);
        _tile_dpbusd(1, 4, 6);
        _tile_loadd(7, w + 128, 4 * PANEL);
        _tile_dpbusd(2, 4, 7);
        _tile_loadd(5, w + 192, 4 * PANEL);
        _tile_dpbusd(3, 4, 5);
    }
}

/* The same in bf16, steps of 32 inputs: hi · hi, and with the rests also hi · rest + rest · hi. */
ALWAYS void tiles_half(int64_t from, int64_t to, const uint16_t *x, int64_t inputs, const uint16_t *weights) {
    for (int64_t k = from; k < to; k += 32) {
        const uint16_t *w = weights + k * PANEL;
        _tile_loadd(4, x + k, 2 * inputs);
        _tile_loadd(5, w, 4 * PANEL);
        _tile_dpbf16ps(0, 4, 5);
        _tile_loadd(6, w + 32, 4 * PANEL);
        _tile_dpbf16ps(1, 4, 6);
        _tile_loadd(7, w + 64, 4 * PANEL);
        _tile_dpbf16ps(2, 4, 7);
        _tile_loadd(5, w + 96, 4 * PANEL);
        _tile_dpbf16ps(3, 4, 5);
    }
}

ALWAYS void tiles_halves(int64_t from, int64_t to, const uint16_t *x, int64_t inputs, const uint16_t *weights) {
    for (int64_t k = from; k < to; k += 32) {
        const uint16_t *w = weights + k * PANEL, *rest = w + inputs * PANEL;
        _tile_loadd(4, x + k, 4 * inputs);
        _tile_loadd(5, x + inputs + k, 4 * inputs);
#define COLUMNS(tile)                            \
    _tile_loadd(6, w + 32 * tile, 4 * PANEL);    \
    _tile_dpbf16ps(tile, 4, 6);                  \
    _tile_loadd(7, rest + 32 * tile, 4 * PANEL); \
    _tile_dpbf16ps(tile, 5, 6);                  \
    _tile_dpbf16ps(tile, 4, 7)
        COLUMNS(0);
        COLUMNS(1);
        COLUMNS(2);
        COLUMNS(3);
#undef COLUMNS
    }
}

#elif defined(__AVX512VNNI__)
#define HAS_INT8 1

ALWAYS void block_int8(const int rows, const uint8_t *x, int64_t inputs, const int8_t *weights, int32_t *raw) {
    __m512i sums[HIGH][4];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) sums[r][j] = _mm512_setzero_si512();
    for (int64_t k = 0; k < inputs; k += 4) {
        __m512i w[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) w[j] = _mm512_loadu_si512(weights + k * PANEL + j * 64);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, x + r * inputs + k, 4);
            __m512i one = _mm512_set1_epi32(four);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) sums[r][j] = _mm512_dpbusd_epi32(sums[r][j], one, w[j]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) _mm512_storeu_si512(raw + r * PANEL + j * 16, sums[r][j]);
}

ALWAYS void rows_int8(int64_t rows, const uint8_t *x, int64_t inputs, const int8_t *weights, int32_t *raw) {
    switch (rows) {
    case 1: block_int8(1, x, inputs, weights, raw); break;
    case 2: block_int8(2, x, inputs, weights, raw); break;
    case 3: block_int8(3, x, inputs, weights, raw); break;
    case 4: block_int8(4, x, inputs, weights, raw); break;
    case 5: block_int8(5, x, inputs, weights, raw); break;
    default: block_int8(6, x, inputs, weights, raw);
    }
}

#else
#define HAS_INT8 0
#endif

/* Rows that are multiplied with one panel after the other, so that they stay in the cache. */
#define ROWS_FP32 384
#define TOGETHER 48 /* of these, rows that are finished together: a multiple of HIGH */
#define ROWS_BYTES 768

ALWAYS void multiply_as(const int kind, const struct matrix *m, const struct input *in, ahead before, finish with,
                        void *what) {
    const int64_t many = kind == FP32 ? ROWS_FP32 : ROWS_BYTES, panels = m->columns / PANEL;
    int32_t raw[TOGETHER * PANEL] __attribute__((aligned(64)));
    for (int64_t begin = 0; begin < in->rows; begin += many) {
        const int64_t end = in->rows < begin + many ? in->rows : begin + many;
        for (int64_t panel = 0; panel < panels; panel++)
            for (int64_t first = begin; first < end; first += TOGETHER) {
                const int64_t rows = end - first < TOGETHER ? end - first : TOGETHER;
                before(m, panel, first, rows, what);
                for (int64_t r = 0; r < rows; r += HIGH) {
                    const int64_t high = rows - r < HIGH ? rows - r : HIGH;
                    if (kind == FP32)
                        rows_fp32(high, (const float *)in->laid + (first + r) * m->inputs, m->inputs,
                                  (const float *)m->weights + panel * PANEL * m->inputs, (float *)raw + r * PANEL);
#if HAS_INT8 && !defined(__AMX_INT8__)
                    else
                        rows_int8(high, (const uint8_t *)in->laid + (first + r) * m->inputs, m->inputs,
                                  (const int8_t *)m->weights + panel * PANEL * m->inputs, raw + r * PANEL);
#endif
                }
                with(raw, m, in, panel, first, rows, kind, what);
            }
    }
}

#if defined(__AMX_INT8__)
/* The same with tiles, which a unit of its own multiplies: meanwhile, by turns, the block before is finished. */
ALWAYS void multiply_tiles(const int kind, const struct matrix *m, const struct input *in, ahead before, finish with,
                           void *what) {
    const int64_t panels = m->columns / PANEL, few = BLOCK / TURNS;
    const int64_t deep = kind < HALF ? 64 : 32, steps = m->inputs / deep; /* inputs that tiles hold at a time */
    const int64_t size = kind == HALVES ? 4 : kind == HALF ? 2 : 1, many = kind == HALVES ? ROWS_FP32 : ROWS_BYTES;
    const int finished = kind < HALF ? kind : FP32;
    int32_t raw[2][BLOCK * PANEL] __attribute__((aligned(64)));
    int64_t panel_before = 0, first_before = 0, rows_before = 0;
    int side = 0;
    struct tiles ours = {.palette = 1};
    for (int i = 0; i < 8; i++) ours.bytes[i] = 64, ours.rows[i] = 16;
    load_shapes(&ours);
    for (int64_t begin = 0; begin < in->rows; begin += many) {
        const int64_t end = in->rows < begin + many ? in->rows : begin + many;
        for (int64_t panel = 0; panel < panels; panel++)
            for (int64_t first = begin; first < end; first += BLOCK, side ^= 1) {
                const int64_t rows = end - first < BLOCK ? end - first : BLOCK;
                before(m, panel, first, rows, what);
                written();
                _tile_zero(0);
                _tile_zero(1);
                _tile_zero(2);
                _tile_zero(3);
                for (int turn = 0; turn < TURNS; turn++) {
                    const int64_t from = steps * turn / TURNS * deep, to = steps * (turn + 1) / TURNS * deep;
                    const void *x = (const char *)in->laid + first * m->inputs * size;
                    const void *weights = (const char *)m->weights + panel * PANEL * m->inputs * size;
                    if (kind == HALVES)
                        tiles_halves(from, to, x, m->inputs, weights);
                    else if (kind == HALF)
                        tiles_half(from, to, x, m->inputs, weights);
                    else
                        tiles_int8(from, to, x, m->inputs, weights);
                    const int64_t left = rows_before - turn * few;
                    if (left > 0)
                        with(raw[side ^ 1] + turn * few * PANEL, m, in, panel_before, first_before + turn * few,
                             left < few ? left : few, finished, what);
                }
                _tile_stored(0, raw[side], 4 * PANEL);
                _tile_stored(1, raw[side] + 16, 4 * PANEL);
                _tile_stored(2, raw[side] + 32, 4 * PANEL);
                _tile_stored(3, raw[side] + 48, 4 * PANEL);
                panel_before = panel, first_before = first, rows_before = rows;
            }
    }
    if (rows_before) with(raw[side ^ 1], m, in, panel_before, first_before, rows_before, finished, what);
}
#else
#define multiply_tiles multiply_as
#endif

ALWAYS void multiply(const struct matrix *m, const struct input *in, ahead before, finish with, void *what) {
    if (m->kind == FP32) {
        lay_rows(FP32, m, in);
        multiply_as(FP32, m, in, before, with, what);
        return;
    }
#if defined(__AMX_INT8__)
    struct tiles others; /* other libraries in this thread find the tiles as they left them */
    store_shapes(&others);
#endif
    switch (m->kind) {
#if HAS_HALF
    case HALVES: lay_rows(HALVES, m, in), multiply_tiles(HALVES, m, in, before, with, what); break;
    case HALF: lay_rows(HALF, m, in), multiply_tiles(HALF, m, in, before, with, what); break;
#endif
    case BYTES: lay_rows(BYTES, m, in), multiply_tiles(BYTES, m, in, before, with, what); break;
    default: lay_rows(OWN, m, in), multiply_tiles(OWN, m, in, before, with, what);
    }
#if defined(__AMX_INT8__)
    load_shapes(&others);
#endif
}

#endif
