/* The steps of a search: what model/stepper.py computes, each product with all that follows it.

   Everything is single-threaded and keeps nothing between calls: threads call it side by side, each with
   rows of its own. Sizes h and e are multiples of 16; the caller sees to that. */

#include "attention.h"
#include "product.h"

#if defined(__AMX_INT8__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define UNITS 16 /* of a panel of gates, which holds four gates of each */

#ifndef SOURCES
#define SOURCES 0
#endif

/* Of which sources this was built (hatch_build.py). */
EXPORT int64_t s2s_sources(void) { return SOURCES; }

/* Whether the system lets the process use the processor so. */
EXPORT int64_t s2s_ready(void) {
#if defined(__AMX_INT8__)
    const long request = 0x1023, tile_data = 18; /* ARCH_REQ_XCOMP_PERM: tiles are kept only for who asks for it */
    return syscall(SYS_arch_prctl, request, tile_data) == 0;
#else
    return 1;
#endif
}

/* Whether there are products in 8 bits. */
EXPORT int64_t s2s_int8(void) { return HAS_INT8; }

/* Whether there are some in bf16. */
EXPORT int64_t s2s_half(void) { return HAS_HALF; }

/* Recurrent layers. The sums of gates come times -1 / ln 2, those inside a tanh times -2 / ln 2, so that
   E = 2^sum is e^-x or e^-2x, and σ(x) = 1 / (1 + E), tanh(x) = (1 - E) / (1 + E). */

struct layer {
    const float *table;   /* (V, columns): the gates' share of each token's embedding and the bias; or NULL */
    const int64_t *token; /* of each row, if there is a table */
    const float *state;   /* what is carried on: an LSTM's cells, a GRU's hidden states */
    const int64_t *parent; /* of each row, which row of these it continues; NULL: its own */
    const int64_t *place;  /* of each row, where its hidden state is written; NULL: in its own row */
    float *hidden, *cell;
    int64_t units, state_stride, hidden_stride;
};

ALWAYS void ask_layer(const struct matrix *m, int64_t panel, int64_t first, int64_t rows, const void *what) {
    const struct layer *l = what;
    for (int64_t row = first; row < first + rows; row++) {
        if (l->table) ask(l->table + l->token[row] * m->columns + panel * PANEL, PANEL);
        ask(l->state + (l->parent ? l->parent[row] : row) * l->state_stride + panel * UNITS, UNITS);
        ask_to_write(l->hidden + (l->place ? l->place[row] : row) * l->hidden_stride + panel * UNITS, UNITS);
        if (l->cell) ask_to_write(l->cell + row * l->units + panel * UNITS, UNITS);
    }
}

/* i, f, g, o: c = σ(f) c + σ(i) tanh(g), h = σ(o) tanh(c), with one division for each of both. */
ALWAYS void lstm(const void *raw, const struct matrix *m, const struct input *in, int64_t panel, int64_t first,
                 int64_t rows, int kind, void *what) {
    const struct layer *l = what;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = first + r, before = l->parent ? l->parent[row] : row;
        const float *add = (l->table ? l->table + l->token[row] * m->columns : m->bias) + panel * PANEL;
        const float *state = l->state + before * l->state_stride + panel * UNITS;
        float *hidden = l->hidden + (l->place ? l->place[row] : row) * l->hidden_stride + panel * UNITS;
        float *cell = l->cell + row * l->units + panel * UNITS;
        for (int j = 0; j < UNITS; j += LANES) {
            vf gate[4];
#pragma GCC unroll 4
            for (int g = 0; g < 4; g++)
                gate[g] = total(raw, m, in, panel, row, r, g * UNITS + j, kind, add + g * UNITS + j);
            /* Cut so that a product of three stays finite; what is cut is below 1e-10. */
            vf i = 1.0f + cut_power(gate[0], 36.0f), f = 1.0f + cut_power(gate[1], 36.0f);
            vf g = cut_power(gate[2], 36.0f), o = 1.0f + cut_power(gate[3], 36.0f);
            vf ig = i * (1.0f + g);
            vf c = (load(state + j) * ig + (1.0f - g) * f) * inverse(f * ig);
            vf e = cut_power(c * -2.885390082f, 36.0f);
            store(cell + j, c);
            store(hidden + j, (1.0f - e) * inverse(o * (1.0f + e)));
        }
    }
}

/* r, z and the two halves of n: n = tanh(given + r own), h = n + z (h - n). */
ALWAYS void gru(const void *raw, const struct matrix *m, const struct input *in, int64_t panel, int64_t first,
                int64_t rows, int kind, void *what) {
    const struct layer *l = what;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = first + r, before = l->parent ? l->parent[row] : row;
        const float *add = (l->table ? l->table + l->token[row] * m->columns : m->bias) + panel * PANEL;
        const float *state = l->state + before * l->state_stride + panel * UNITS;
        float *hidden = l->hidden + (l->place ? l->place[row] : row) * l->hidden_stride + panel * UNITS;
        for (int j = 0; j < UNITS; j += LANES) {
            vf gate[4];
#pragma GCC unroll 4
            for (int g = 0; g < 4; g++)
                gate[g] = total(raw, m, in, panel, row, r, g * UNITS + j, kind, add + g * UNITS + j);
            vf reset = inverse(1.0f + cut_power(gate[0], 40.0f)), z = inverse(1.0f + cut_power(gate[1], 40.0f));
            vf n = bent(gate[3] + reset * gate[2]);
            store(hidden + j, n + z * (load(state + j) - n));
        }
    }
}

EXPORT void s2s_lstm(const struct matrix *m, const struct input *in, struct layer *l) { multiply(m, in, ask_layer, lstm, l); }

EXPORT void s2s_gru(const struct matrix *m, const struct input *in, struct layer *l) { multiply(m, in, ask_layer, gru, l); }

/* Plain products. */

struct plain {
    const float *onto; /* (N, m) added to the product; or NULL */
    float *out;        /* (N, stride) */
    int64_t columns, stride;
    int64_t bend; /* whether tanh is wanted, of sums that come times -2 / ln 2 */
};

ALWAYS void ask_plain(const struct matrix *m, int64_t panel, int64_t first, int64_t rows, const void *what) {
    const struct plain *p = what;
    (void)m;
    for (int64_t row = first; row < first + rows; row++) {
        if (p->onto) ask(p->onto + row * p->stride + panel * PANEL, PANEL);
        ask_to_write(p->out + row * p->stride + panel * PANEL, PANEL);
    }
}

ALWAYS void plainly(const void *raw, const struct matrix *m, const struct input *in, int64_t panel, int64_t first,
                    int64_t rows, int kind, void *what) {
    const struct plain *p = what;
    const int64_t left = p->columns - panel * PANEL, columns = left < PANEL ? left : PANEL;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = first + r, at = row * p->stride + panel * PANEL;
        for (int64_t c = 0; c < columns; c += LANES) {
            vf x = total(raw, m, in, panel, row, r, (int)c, kind, m->bias + panel * PANEL + c);
            if (p->onto) x += load(p->onto + at + c);
            store(p->out + at + c, p->bend ? bent(x) : x);
        }
    }
}

EXPORT void s2s_product(const struct matrix *m, const struct input *in, struct plain *p) {
    multiply(m, in, ask_plain, plainly, p);
}

/* The output layer: log p of the k best tokens and of the end, without a log p of every token in memory.
   Logits come times 1 / ln 2. */

struct best {
    const float *allowed;    /* (A, columns) added to the logits of each sentence, 0 or NEVER; or NULL */
    const int64_t *sentence; /* of each row, if some are not allowed */
    int64_t k, end;          /* `end` is the token that ends a hypothesis, and no continuation of it */
    int64_t never[2];        /* tokens that do not continue one either */
    float *value;            /* (N, k) log p, best first; -inf where there are no more */
    int64_t *token;          /* (N, k) */
    float *ending;           /* (N,) log p of the end */
    float *about, *mass;     /* (N,) and (N, 16): Σ 2^(logit - about) = Σ mass, so far */
};

/* The logit of what must not be: in sums and powers it behaves, as an infinite one would not. */
#define NEVER -1e30f

ALWAYS void insert(float *value, int64_t *token, int64_t k, float x, int64_t which) {
    int64_t at = k - 1;
    for (; at > 0 && value[at - 1] < x; at--) value[at] = value[at - 1], token[at] = token[at - 1];
    value[at] = x, token[at] = which;
}

ALWAYS void ask_rank(const struct matrix *m, int64_t panel, int64_t first, int64_t rows, const void *what) {
    const struct best *b = what;
    for (int64_t row = first; row < first + rows; row++) {
        ask(b->mass + row * 16, 16);
        ask(b->value + row * b->k, 1);
        if (b->allowed) ask(b->allowed + b->sentence[row] * m->columns + panel * PANEL, PANEL);
    }
}

ALWAYS void rank(const void *raw, const struct matrix *m, const struct input *in, int64_t panel, int64_t first,
                 int64_t rows, int kind, void *what) {
    const struct best *b = what;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = first + r, k = b->k;
        float *value = b->value + row * k, *mass = b->mass + row * 16;
        vf x[PANEL / LANES], most = splat(NEVER);
        for (int j = 0; j < PANEL / LANES; j++) {
            const int64_t at = panel * PANEL + j * LANES;
            x[j] = total(raw, m, in, panel, row, r, j * LANES, kind, m->bias + at);
            if (b->allowed) x[j] += load(b->allowed + b->sentence[row] * m->columns + at);
            most = largest(x[j], most);
        }
        vf all = {0};
        if (panel == 0) {
            const float top = maximum(most);
            b->about[row] = top > NEVER ? top : NEVER;
        } else {
            all = load(mass);
            if (above(most, splat(b->about[row] + 40.0f))) { /* far beyond what came before */
                const float top = maximum(most);
                all *= exp2f(b->about[row] - top);
                b->about[row] = top;
            }
        }
        for (int j = 0; j < PANEL / LANES; j++) {
            const vf beside = x[j] - b->about[row];
            all += kind == FP32 ? power(largest(beside, splat(-126.0f))) : coarse_power(beside);
        }
        store(mass, all);
        float logit[PANEL];
        if (panel == 0) {
            for (int j = 0; j < PANEL / LANES; j++) store(logit + j * LANES, x[j]);
            b->ending[row] = logit[b->end];
            logit[b->end] = logit[b->never[0]] = logit[b->never[1]] = NEVER;
            for (int64_t i = 0; i < k; i++) value[i] = NEVER, b->token[row * k + i] = 0;
        } else {
            if (!above(most, splat(value[k - 1]))) continue;
            for (int j = 0; j < PANEL / LANES; j++) store(logit + j * LANES, x[j]);
        }
        for (int c = 0; c < PANEL; c += LANES) {
            unsigned better = above(load(logit + c), splat(value[k - 1]));
            for (; better; better &= better - 1) {
                const int lane = c + __builtin_ctz(better);
                if (logit[lane] > value[k - 1])
                    insert(value, b->token + row * k, k, logit[lane], panel * PANEL + lane);
            }
        }
    }
}

EXPORT void s2s_best(const struct matrix *m, const struct input *in, struct best *b) {
    multiply(m, in, ask_rank, rank, b);
    const float nats = 0.69314718056f;
    for (int64_t row = 0; row < in->rows; row++) {
        const float all = b->about[row] + log2f(sum(load(b->mass + row * 16)));
        b->ending[row] = (b->ending[row] - all) * nats;
        for (int64_t j = 0; j < b->k; j++) {
            float *value = b->value + row * b->k + j;
            *value = *value > NEVER / 2 ? (*value - all) * nats : -INFINITY;
        }
    }
}
