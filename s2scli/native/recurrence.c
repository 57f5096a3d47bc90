/* The recurrence of an LSTM in training: all steps of a batch, forward and backward.

   What does not wait for the step before (the input's share of the gates, the gradients of the weights) is left
   to large products elsewhere. Of what does, each thread of a team has some units of its own, in all rows: its
   part of the weights stays in its cache from step to step, and the team meets after each. One that is done before
   the others helps them.

   Products are made with tiles in bf16, sums and cells are fp32. All else is in bf16; or `whole`, in fp32, and each
   number is for the tiles the sum of two in bf16, the number rounded and what that leaves of it.

   What only kernels read is in panels, 32 columns of all rows after the other: so a tile is read from where it lies
   side by side, and the gates of some units are one stretch for each of the four. (Rows of 4h numbers would begin
   whole pages apart, and so share a few places of the cache.) Rows are read in pairs of tiles, at times beyond the last:
   the caller leaves room for PAIR rows of a panel behind `slopes` and `laid`. */

#include "team.h"
#include "tiles.h"

#if HAS_HALF

#define PAIR 32  /* rows of two tiles */
#define SIDE 32  /* columns of a panel */
#define PANEL 64 /* sums of a row that lie side by side */
#define UNITS 16 /* whose gates are finished together */

struct recurrence {
    int64_t steps, rows, units; /* T, B, h: a multiple of 32 */
    int64_t whole;
    const void *weight; /* (4h, h), gates i, f, g, o */
    uint16_t *packed;   /* room for as much, whole for twice as much */
    void *gates;        /* panels of (T, B, 4h), the input's share of the sums, of which forward makes the gates */
    void *hidden;       /* (T + 1, B, h), the first of them given */
    float *cell;        /* panels of (T + 1, B, h), the first of them given */
    const void *outer;  /* backward: (T, B, h) the gradient of the hidden states */
    void *slopes;       /* backward: panels of (T, B, 4h), that of the sums */
    float *carried;     /* backward: panels of (B, h), that of the cells; of the last given, of the first found */
    float *bias;        /* backward: (4h), onto which the slopes of all steps and rows are added */
    uint16_t *laid;     /* what tiles read of two steps by turns, in panels: forward the hidden states, and of a `whole`
                           recurrence two panels for each, backward too; backward in bf16 they read the slopes */
};

struct shared {
    const struct recurrence *r;
    struct team *team;
    struct parts parts;
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

/* The place of a column of a row, of so many rows. */
ALWAYS int64_t in_panels(int64_t rows, int64_t row, int64_t column) {
    return (column / SIDE * rows + row) * SIDE + column % SIDE;
}

/* Numbers of what tiles read of a step. */
ALWAYS int64_t laid_step(const struct recurrence *r, int64_t inputs, const int whole) {
    return inputs * r->rows * (1 + whole);
}

/* What tiles read of a step from a column on; whole, the second panel follows. */
ALWAYS uint16_t *laid_at(const struct recurrence *r, int64_t step, int64_t inputs, int64_t row, int64_t column,
                         const int whole) {
    const int64_t panel = column / SIDE * (1 + whole);
    return r->laid + (step & 1) * laid_step(r, inputs, whole) + (panel * r->rows + row) * SIDE + column % SIDE;
}

ALWAYS void lay(uint16_t *to, int64_t second, vf x, const int whole) {
    put(to, 0, 1, x);
    if (whole) put(to, second, 1, rest(x));
}

/* Weights of 16 units and two gates, [input / 32] tiles of each by turns. */
ALWAYS void pack_forward(const struct recurrence *r, int64_t from, int64_t to, const int whole) {
    const int64_t h = r->units;
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i rows = _mm512_mullo_epi32(lanes, _mm512_set1_epi32((int)(whole ? h : h / 2)));
    uint16_t *at = r->packed + from * 4 * h * (1 + whole);
    for (int64_t unit = from; unit < to; unit += UNITS)
        for (int pass = 0; pass < 2; pass++)
            for (int64_t k = 0; k < h; k += DEEP)
                for (int gate = 2 * pass; gate < 2 * pass + 2; gate++, at += TILE * (1 + whole))
                    for (int pair = 0; pair < 16; pair++) {
                        const int64_t place = (gate * h + unit) * h + k + 2 * pair;
                        const char *w = (const char *)r->weight + place * (whole ? 4 : 2);
                        const __m512i both = _mm512_i32gather_epi32(rows, w, 4);
                        const vf even = whole ? (vf)both : (vf)_mm512_slli_epi32(both, 16);
                        const vf odd = whole ? (vf)_mm512_i32gather_epi32(rows, w + 4, 4)
                                             : (vf)_mm512_andnot_si512(_mm512_set1_epi32(0xffff), both);
                        pack_row(at + pair * 32, even, odd, whole);
                    }
}

/* Weights of 32 units of the step before, [sum / 32] tiles of 16 of them by turns. */
ALWAYS void pack_backward(const struct recurrence *r, int64_t from, int64_t to, const int whole) {
    const int64_t h = r->units;
    uint16_t *at = r->packed + from * 4 * h * (1 + whole);
    for (int64_t unit = from; unit < to; unit += 32)
        for (int64_t k = 0; k < 4 * h; k += DEEP)
            for (int half = 0; half < 32; half += 16, at += TILE * (1 + whole))
                for (int pair = 0; pair < 16; pair++) {
                    const int64_t place = (k + 2 * pair) * h + unit + half;
                    pack_row(at + pair * 32, get(r->weight, place, !whole), get(r->weight, place + h, !whole), whole);
                }
}

/* A pair of rows, whose panels are `next` numbers apart, times 32 columns. */
ALWAYS void multiply_pair(struct pairs p, const uint16_t *x, int64_t inputs, int64_t next, const uint16_t *w,
                          float *raw, const int whole) {
    const int64_t lower = p.upper * SIDE;
    const int two = p.high > p.upper;
    written();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = 0; k < inputs; k += DEEP, x += next, w += 2 * TILE * (1 + whole)) {
        if (whole) {
            times_whole(x, x + lower, next / 2, w, two);
            continue;
        }
        _tile_loadd(6, w, 64);
        _tile_loadd(4, x, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, w + TILE, 64);
        _tile_dpbf16ps(1, 4, 7);
        if (two) {
            _tile_loadd(5, x + lower, 64);
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

ALWAYS vf sigmoid(vf x, const int whole) {
    x *= -1.442695041f;
    return inverse(1.0f + (whole ? cut_power(x, 60.0f) : coarse_power(smallest(x, splat(60.0f)))));
}

ALWAYS vf tanh_of(vf x) { return bent(x * -2.885390082f); }

/* Which units are a thread's own. */
static void divide(int64_t units, int threads, int me, int64_t *from, int64_t *to) {
    const int64_t blocks = units / 32;
    *from = blocks * me / threads * 32;
    *to = blocks * (me + 1) / threads * 32;
}

/* Of what there are sums: some rows of a step, and the first of 16 or 32 units. */
struct block {
    int64_t step, first, end, unit;
};

/* Where a number of either format is. */
ALWAYS void *numbers(const void *of, int64_t at, const int whole) { return (char *)of + at * (whole ? 4 : 2); }

/* c = σ(f) c + σ(i) tanh(g), h = σ(o) tanh(c). First c of all rows: meanwhile none waits for the tanh of another. */
ALWAYS void gates_of(const struct recurrence *r, struct block b, float *sums, const int whole) {
    const int64_t h = r->units, rows = r->rows, all = r->steps * rows, place = b.step * rows + b.first;
    const int64_t f = h * all, g = 2 * f, o = 3 * f, count = b.end - b.first; /* from a gate to that of another kind */
    void *gates = numbers(r->gates, in_panels(all, place, b.unit), whole);
    float *cell = r->cell + in_panels(all + rows, place, b.unit), *next = cell + rows * SIDE;
    for (int64_t i = 0; i < count; i++) {
        const int64_t at = i * SIDE;
        float *raw = sums + i * PANEL;
        const vf in = sigmoid(load(raw) + get(gates, at, !whole), whole);
        const vf forget = sigmoid(load(raw + 16) + get(gates, at + f, !whole), whole);
        const vf new = tanh_of(load(raw + 32) + get(gates, at + g, !whole));
        const vf out = sigmoid(load(raw + 48) + get(gates, at + o, !whole), whole);
        put(gates, at, !whole, in);
        put(gates, at + f, !whole, forget);
        put(gates, at + g, !whole, new);
        put(gates, at + o, !whole, out);
        store(next + at, forget * load(cell + at) + in * new);
        store(raw, out);
    }
    void *hidden = numbers(r->hidden, (place + rows) * h + b.unit, whole);
    uint16_t *laid = laid_at(r, b.step + 1, h, b.first, b.unit, whole);
    for (int64_t i = 0; i < count; i++) {
        const vf state = load(sums + i * PANEL) * tanh_of(load(next + i * SIDE));
        put(hidden, i * h, !whole, state);
        lay(laid + i * SIDE, rows * SIDE, state, whole);
    }
}

/* The gradient of the four sums, from that of h (of the outer and of the next step) and of c. */
ALWAYS void slopes_of(const struct recurrence *r, struct block b, float *sums, const int whole) {
    const int64_t h = r->units, rows = r->rows, all = r->steps * rows, place = b.step * rows + b.first;
    const int64_t count = b.end - b.first, other = h * all;
    for (int half = 0; half < 32; half += UNITS) {
        const int64_t unit = b.unit + half;
        const float *cell = r->cell + in_panels(all + rows, place, unit), *next = cell + rows * SIDE;
        const void *outer = numbers(r->outer, place * h + unit, whole);
        const void *gates = numbers(r->gates, in_panels(all, place, unit), whole);
        void *slopes = numbers(r->slopes, in_panels(all, place, unit), whole);
        float *carried = r->carried + in_panels(rows, b.first, unit), *raw = sums + half;
        uint16_t *laid = whole ? laid_at(r, b.step, 4 * h, b.first, unit, whole) : NULL;
        vf bias[4];
        for (int k = 0; k < 4; k++) bias[k] = load(r->bias + k * h + unit);
        for (int64_t i = 0; i < count; i++) store(raw + 32 + i * PANEL, tanh_of(load(next + i * SIDE)));
        for (int64_t i = 0; i < count; i++) {
            const int64_t at = i * SIDE;
            const vf in = get(gates, at, !whole), forget = get(gates, at + other, !whole);
            const vf new = get(gates, at + 2 * other, !whole), out = get(gates, at + 3 * other, !whole);
            const vf bent = load(raw + 32 + i * PANEL), dh = get(outer, i * h, !whole) + load(raw + i * PANEL);
            const vf dc = load(carried + at) + dh * out * (1.0f - bent * bent);
            const vf slope[4] = {dc * new * in * (1.0f - in), dc * load(cell + at) * forget * (1.0f - forget),
                                 dc * in * (1.0f - new * new), dh * bent * out * (1.0f - out)};
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                bias[k] += slope[k];
                put(slopes, at + k * other, !whole, slope[k]);
                if (whole) lay(laid + k * h * rows * 2 + at, rows * SIDE, slope[k], 1);
            }
            store(carried + at, dc * forget);
        }
        for (int k = 0; k < 4; k++) store(r->bias + k * h + unit, bias[k]);
    }
}

/* All steps, by one of a team. */
ALWAYS void all_steps(struct shared *s, const int back, const int whole) {
    const struct recurrence *r = s->r;
    const int threads = threads_of(s->team), me = number_in(s->team);
    const struct pairs p = pairs_of(r->rows);
    const int64_t h = r->units, wide = back ? 32 : UNITS, inputs = back ? 4 * h : h;
    const int slopes = back && !whole; /* are what the tiles read */
    const int64_t next = SIDE * (slopes ? r->steps * r->rows : r->rows * (1 + whole));
    int64_t from, to;
    float raw[PAIR * PANEL] __attribute__((aligned(64)));
    struct tiles others;
    divide(h, threads, me, &from, &to);
    if (back)
        pack_backward(r, from, to, whole);
    else
        pack_forward(r, from, to, whole);
    for (int64_t row = 0; !back && row < r->rows; row++)
        for (int64_t unit = from; unit < to; unit += UNITS)
            lay(laid_at(r, 0, h, row, unit, whole), r->rows * SIDE, get(r->hidden, row * h + unit, !whole), whole);
    meet(s->team, threads);
    store_shapes(&others);
    shape_tiles(p);
    for (int64_t i = 0; i < r->steps; i++) {
        const int64_t step = back ? r->steps - 1 - i : i, before = back ? step + 1 : step;
        int64_t item;
        while ((item = take(&s->parts, h / wide, i, threads, me)) >= 0) {
            const int64_t unit = item * wide;
            for (int64_t pair = 0; pair < p.count; pair++) {
                const int64_t first = pair * p.high, end = r->rows - first < p.high ? r->rows : first + p.high;
                const struct block block = {step, first, end, unit};
                const uint16_t *w = r->packed + unit * 4 * h * (1 + whole), *x = r->laid;
                if (slopes)
                    x = (const uint16_t *)r->slopes + (before * r->rows + first) * SIDE;
                else
                    x += (before & 1) * laid_step(r, inputs, whole) + first * SIDE;
                if (back && !i) /* after the last step there is nothing to go back from */
                    memset(raw, 0, sizeof raw);
                else
                    multiply_pair(p, x, inputs, next, w, raw, whole);
                if (!back) multiply_pair(p, x, inputs, next, w + 2 * UNITS * h * (1 + whole), raw + 32, whole);
                if (back)
                    slopes_of(r, block, raw, whole);
                else
                    gates_of(r, block, raw, whole);
            }
        }
        meet(s->team, threads);
    }
    load_shapes(&others);
}

static void forward(void *what) {
    struct shared *s = what;
    if (s->r->whole)
        all_steps(s, 0, 1);
    else
        all_steps(s, 0, 0);
}

static void backward(void *what) {
    struct shared *s = what;
    if (s->r->whole)
        all_steps(s, 1, 1);
    else
        all_steps(s, 1, 0);
}

EXPORT void s2s_lstm_forward(const struct recurrence *r, struct team *team) {
    struct shared s = {.r = r, .team = team};
    together(team, forward, &s);
}

EXPORT void s2s_lstm_backward(const struct recurrence *r, struct team *team) {
    struct shared s = {.r = r, .team = team};
    together(team, backward, &s);
}

#endif
