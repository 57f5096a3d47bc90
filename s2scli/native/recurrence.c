/* The recurrence of an LSTM in training: all steps of a batch, forward and backward.

   What does not wait for the step before (the input's share of the gates, the gradients of the weights) is left
   to large products elsewhere. Of what does, each thread of a team has some units of its own, in all rows: its
   part of the weights stays in its cache from step to step, and the team meets after each.

   Products are made with tiles in bf16, sums and cells are fp32. Rows are read in pairs of tiles, at times beyond
   the last: the caller leaves room for PAIR rows behind `hidden` and `slopes`. */

#include "team.h"
#include "tiles.h"

#if HAS_HALF

#define PAIR 32  /* rows of two tiles */
#define PANEL 64 /* sums of a row that lie side by side */
#define UNITS 16 /* whose gates are finished together */
#define DEEP 32  /* inputs of a tile */
#define TILE 512 /* numbers of a tile of weights */

struct recurrence {
    int64_t steps, rows, units; /* T, B, h: a multiple of 32 */
    const uint16_t *weight;     /* (4h, h), gates i, f, g, o */
    uint16_t *packed;           /* room for as much */
    uint16_t *gates;            /* (T, B, 4h) the input's share of the sums, of which forward makes the gates */
    uint16_t *hidden;           /* (T + 1, B, h), the first of them given */
    float *cell;                /* (T + 1, B, h), the first of them given */
    const uint16_t *outer;      /* backward: (T, B, h) the gradient of the hidden states */
    uint16_t *slopes;           /* backward: (T, B, 4h) that of the sums */
    float *carried;             /* backward: (B, h) that of the cells; of the last given, of the first found */
};

struct shared {
    const struct recurrence *r;
    struct team *team;
};

/* How rows are divided into pairs of tiles: all pairs alike, the last may reach beyond. */
struct pairs {
    int64_t count, high, upper; /* rows of a pair, and of the first of its tiles */
};

static struct pairs pairs_of(int64_t rows) {
    struct pairs p = {.count = (rows + PAIR - 1) / PAIR};
    p.high = (rows + p.count - 1) / p.count;
    p.upper = (p.high + 1) / 2;
    return p;
}

/* Tiles 0 to 3 are sums, 4 and 5 inputs of the upper and lower rows, 6 and 7 weights. */
static void shape_tiles(struct pairs p) {
    struct tiles ours = {.palette = 1};
    for (int i = 0; i < 8; i++) ours.bytes[i] = 64, ours.rows[i] = 16;
    ours.rows[0] = ours.rows[1] = ours.rows[4] = (uint8_t)p.upper;
    ours.rows[2] = ours.rows[3] = ours.rows[5] = (uint8_t)(p.high - p.upper ? p.high - p.upper : 1);
    load_shapes(&ours);
}

/* Rows whose sums are there: first… of a step, for 16 or 32 units. */
struct block {
    int64_t step, unit, first;
};

/* A pair of rows times 32 columns, whose weights lie as they are needed. */
ALWAYS void multiply_pair(struct pairs p, const uint16_t *x, int64_t inputs, const uint16_t *w, float *raw) {
    const uint16_t *lower = x + p.upper * inputs;
    const int two = p.high > p.upper;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = 0; k < inputs; k += DEEP, w += 2 * TILE) {
        _tile_loadd(6, w, 64);
        _tile_loadd(4, x + k, 2 * inputs);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, w + TILE, 64);
        _tile_dpbf16ps(1, 4, 7);
        if (two) {
            _tile_loadd(5, lower + k, 2 * inputs);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, raw, 4 * PANEL);
    _tile_stored(1, raw + 16, 4 * PANEL);
    if (two) {
        _tile_stored(2, raw + p.upper * PANEL, 4 * PANEL);
        _tile_stored(3, raw + p.upper * PANEL + 16, 4 * PANEL);
    }
}

ALWAYS vf load_half(const uint16_t *from) {
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16);
}

ALWAYS void store_half(uint16_t *to, vf x) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)x));
}

ALWAYS vf sigmoid(vf x) { return inverse(1.0f + coarse_power(smallest(x * -1.442695041f, splat(60.0f)))); }

ALWAYS vf tanh_of(vf x) { return bent(x * -2.885390082f); }

/* Which units are a thread's own. */
static void divide(int64_t units, int threads, int me, int64_t *from, int64_t *to) {
    const int64_t blocks = units / 32;
    *from = blocks * me / threads * 32;
    *to = blocks * (me + 1) / threads * 32;
}

/* Weights of 16 units and two gates, [input / 32] tiles of each by turns. */
static void pack_forward(const struct recurrence *r, int64_t from, int64_t to) {
    const int64_t h = r->units;
    const __m512i rows = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                            _mm512_set1_epi32((int)h / 2));
    for (int64_t unit = from; unit < to; unit += UNITS) {
        uint16_t *at = r->packed + unit * 4 * h;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t k = 0; k < h; k += DEEP)
                for (int gate = 2 * pass; gate < 2 * pass + 2; gate++)
                    for (int pair = 0; pair < 16; pair++, at += 32)
                        _mm512_storeu_si512(
                            at, _mm512_i32gather_epi32(rows, r->weight + (gate * h + unit) * h + k + 2 * pair, 4));
    }
}

/* Weights of 32 units of the step before, [sum / 32] tiles of 16 of them by turns. */
static void pack_backward(const struct recurrence *r, int64_t from, int64_t to) {
    const int64_t h = r->units;
    for (int64_t unit = from; unit < to; unit += 32) {
        uint16_t *at = r->packed + unit * 4 * h;
        for (int64_t k = 0; k < 4 * h; k += DEEP)
            for (int half = 0; half < 32; half += 16)
                for (int pair = 0; pair < 16; pair++, at += 32) {
                    const uint16_t *w = r->weight + (k + 2 * pair) * h + unit + half;
                    const __m512i even = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)w));
                    const __m512i odd = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(w + h)));
                    _mm512_storeu_si512(at, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
                }
    }
}

/* c = σ(f) c + σ(i) tanh(g), h = σ(o) tanh(c). */
ALWAYS void gates_of(const struct recurrence *r, struct block b, int64_t row, const float *sums) {
    const int64_t h = r->units, place = b.step * r->rows + b.first + row, at = place * h + b.unit, next = at + r->rows * h;
    uint16_t *gate = r->gates + place * 4 * h + b.unit;
    const vf i = sigmoid(load(sums) + load_half(gate)), f = sigmoid(load(sums + 16) + load_half(gate + h));
    const vf g = tanh_of(load(sums + 32) + load_half(gate + 2 * h));
    const vf o = sigmoid(load(sums + 48) + load_half(gate + 3 * h));
    const vf c = f * load(r->cell + at) + i * g;
    store_half(gate, i);
    store_half(gate + h, f);
    store_half(gate + 2 * h, g);
    store_half(gate + 3 * h, o);
    store(r->cell + next, c);
    store_half(r->hidden + next, o * tanh_of(c));
}

/* The gradient of the four sums, from that of h (of the outer and of the next step) and of c. */
ALWAYS void slopes_of(const struct recurrence *r, struct block b, int64_t row, const float *sums) {
    for (int half = 0; half < 32; half += UNITS) {
        const int64_t h = r->units, unit = b.unit + half, place = b.step * r->rows + b.first + row, at = place * h + unit;
        const uint16_t *gate = r->gates + place * 4 * h + unit;
        uint16_t *slope = r->slopes + place * 4 * h + unit;
        float *carried = r->carried + (b.first + row) * h + unit;
        const vf i = load_half(gate), f = load_half(gate + h), g = load_half(gate + 2 * h), o = load_half(gate + 3 * h);
        const vf bent = tanh_of(load(r->cell + at + r->rows * h)), dh = load_half(r->outer + at) + load(sums + half);
        const vf dc = load(carried) + dh * o * (1.0f - bent * bent);
        store_half(slope, dc * g * i * (1.0f - i));
        store_half(slope + h, dc * load(r->cell + at) * f * (1.0f - f));
        store_half(slope + 2 * h, dc * i * (1.0f - g * g));
        store_half(slope + 3 * h, dh * bent * o * (1.0f - o));
        store(carried, dc * f);
    }
}

/* All steps, by one of a team. */
ALWAYS void all_steps(const struct shared *s, const int back) {
    const struct recurrence *r = s->r;
    const int threads = threads_of(s->team), me = number_in(s->team);
    const struct pairs p = pairs_of(r->rows);
    const int64_t h = r->units, wide = back ? 32 : UNITS;
    int64_t from, to;
    float raw[PAIR * PANEL] __attribute__((aligned(64)));
    struct tiles others;
    divide(h, threads, me, &from, &to);
    if (back)
        pack_backward(r, from, to);
    else
        pack_forward(r, from, to);
    store_shapes(&others);
    shape_tiles(p);
    memset(raw, 0, sizeof raw); /* after the last step there is nothing to go back from */
    for (int64_t i = 0; i < r->steps; i++) {
        const int64_t step = back ? r->steps - 1 - i : i;
        for (int64_t unit = from; unit < to; unit += wide)
            for (int64_t pair = 0; pair < p.count; pair++) {
                const int64_t first = pair * p.high, rows = r->rows - first < p.high ? r->rows - first : p.high;
                const struct block block = {step, unit, first};
                const uint16_t *w = r->packed + unit * 4 * h;
                if (!back) {
                    const uint16_t *x = r->hidden + (step * r->rows + first) * h;
                    multiply_pair(p, x, h, w, raw);
                    multiply_pair(p, x, h, w + 2 * UNITS * h, raw + 32);
                    for (int64_t row = 0; row < rows; row++) gates_of(r, block, row, raw + row * PANEL);
                } else {
                    if (i) multiply_pair(p, r->slopes + ((step + 1) * r->rows + first) * 4 * h, 4 * h, w, raw);
                    for (int64_t row = 0; row < rows; row++) slopes_of(r, block, row, raw + row * PANEL);
                }
            }
        meet(s->team, threads);
    }
    load_shapes(&others);
}

static void forward(void *what) { all_steps(what, 0); }

static void backward(void *what) { all_steps(what, 1); }

EXPORT void s2s_lstm_forward(const struct recurrence *r, struct team *team) {
    struct shared s = {.r = r, .team = team};
    together(team, forward, &s);
}

EXPORT void s2s_lstm_backward(const struct recurrence *r, struct team *team) {
    struct shared s = {.r = r, .team = team};
    together(team, backward, &s);
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

/* 32 rows of 32 columns, which is all of the lines that they are in: pairs of rows by turns, then each column of
   such pairs is gathered. */
static void turn_tile(const struct turning *t, int64_t row, int64_t column) {
    const __m512i apart = _mm512_slli_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), 5);
    const int64_t high = t->rows - row < 32 ? t->rows - row : 32, wide = t->columns - column < 32 ? t->columns - column : 32;
    const __mmask32 there = 0xffffffff >> (32 - wide), filled = 0xffffffff >> (32 - high);
    uint16_t room[2 * TILE] __attribute__((aligned(64))) = {0};
    for (int64_t i = 0; i < high; i += 2) {
        const uint16_t *from = t->from + (row + i) * t->columns + column;
        const __m512i even = _mm512_maskz_loadu_epi16(there, from);
        const __m512i odd = _mm512_maskz_loadu_epi16(i + 1 < high ? there : 0, from + t->columns);
        for (int half = 0; half < 2; half++) {
            const __m512i low = _mm512_cvtepu16_epi32(half ? _mm512_extracti64x4_epi64(even, 1) : _mm512_castsi512_si256(even));
            const __m512i up = _mm512_cvtepu16_epi32(half ? _mm512_extracti64x4_epi64(odd, 1) : _mm512_castsi512_si256(odd));
            _mm512_store_si512(room + i * 32 + half * 32, _mm512_or_si512(low, _mm512_slli_epi32(up, 16)));
        }
    }
    for (int64_t i = 0; i < wide; i++)
        _mm512_mask_storeu_epi16(t->to + (column + i) * t->rows + row, filled, _mm512_i32gather_epi32(apart, room + 2 * i, 4));
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
