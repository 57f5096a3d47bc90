/* An update of all weights: Adam with decay (Kingma and Ba 2015; Loshchilov and Hutter 2019), the gradient clipped.

   Weights are many numbers of which each is used once: what an update costs is bringing them from memory. So while a
   weight is there it is also taken into the average, and copied in the format in which the model is computed. */

#include "team.h"

#define CHUNK 8192 /* numbers that a thread takes on at a time */

struct weights {
    float *weight;
    const void *gradient;  /* NULL: there is none, and without any rows the weight stays as it is */
    int64_t half;          /* whether the gradient is in bf16 */
    const uint16_t *rows;  /* (many, width) in bf16, */
    const int64_t *where;  /* (many,): what rows of the weight they are added to, in ascending order, */
    const int64_t *which;  /* (many,): and which of them that is */
    int64_t many, width;
    float *first, *second; /* moments of the gradient */
    float *average;        /* or NULL */
    uint16_t *copy;        /* in bf16, or NULL */
    int64_t count, begin;  /* numbers, and chunks of the weights before */
};

struct adam {
    const struct weights *all;
    int64_t number, chunks;
    float keep1, keep2;   /* β1 and β2 */
    float rate, decay;    /* the rate by 1 - β1^t, and what is left of a weight */
    float shrink, epsilon; /* √(1 - β2^t) */
    float limit, share;   /* of the gradient's norm; what the average takes of a weight */
    float *squares;       /* (chunks,) */
    float norm;           /* found */
};

struct shared {
    struct adam *a;
    struct team *team;
    struct parts parts;
};

/* Whose chunk it is, and where it begins and ends. */
ALWAYS const struct weights *find(const struct adam *a, int64_t chunk, int64_t *from, int64_t *count) {
    const struct weights *w = a->all;
    while (w + 1 < a->all + a->number && w[1].begin <= chunk) w++;
    *from = (chunk - w->begin) * CHUNK;
    *count = w->count - *from < CHUNK ? w->count - *from : CHUNK;
    return w;
}

ALWAYS int moves(const struct weights *w) { return w->gradient || w->many; }

ALWAYS float wide(uint16_t x) {
    const uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, 4);
    return y;
}

/* Add the rows that lie in a chunk, as far as they do. */
static void add_rows(const struct weights *w, int64_t from, int64_t count, float *restrict room) {
    int64_t i = 0, end = w->many;
    while (i < end) { /* the first one that does not end before it */
        const int64_t middle = (i + end) / 2;
        if ((w->where[middle] + 1) * w->width <= from)
            i = middle + 1;
        else
            end = middle;
    }
    for (; i < w->many && w->where[i] * w->width < from + count; i++) {
        const int64_t begin = w->where[i] * w->width - from; /* of the row, in the chunk */
        const int64_t first = begin < 0 ? 0 : begin, last = begin + w->width < count ? begin + w->width : count;
        const uint16_t *restrict row = w->rows + w->which[i] * w->width;
        for (int64_t j = first; j < last; j++) room[j] += wide(row[j - begin]);
    }
}

/* A chunk of the gradient in fp32: where it lies, or in the room for it. */
static const float *gradient_of(const struct weights *w, int64_t from, int64_t count, float *restrict room) {
    const uint16_t *restrict half = w->half ? (const uint16_t *)w->gradient + from : NULL;
    const float *restrict whole = w->half || !w->gradient ? NULL : (const float *)w->gradient + from;
    if (whole && !w->many) return whole;
    for (int64_t i = 0; i < count; i++) room[i] = half ? wide(half[i]) : whole ? whole[i] : 0;
    add_rows(w, from, count, room);
    return room;
}

static float squares_of(const float *x, int64_t count) {
    vf sums[4] = {{0}};
    int64_t i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES)
        for (int k = 0; k < 4; k++) sums[k] += load(x + i + k * LANES) * load(x + i + k * LANES);
    float rest = 0;
    for (; i < count; i++) rest += x[i] * x[i];
    return sum((sums[0] + sums[1]) + (sums[2] + sums[3])) + rest;
}

/* Plain loops, of which the compiler makes vectors. */
static void move(const struct adam *a, float shrunk, int64_t count, float *restrict weight, const float *restrict gradient,
                 float *restrict first, float *restrict second) {
    for (int64_t i = 0; i < count; i++) {
        const float g = gradient[i] * shrunk;
        const float m = first[i] + (1.0f - a->keep1) * (g - first[i]);
        const float v = second[i] * a->keep2 + (1.0f - a->keep2) * g * g;
        first[i] = m;
        second[i] = v;
        weight[i] = weight[i] * a->decay - a->rate * m / (sqrtf(v) / a->shrink + a->epsilon);
    }
}

static void take_in(float share, int64_t count, const float *restrict weight, float *restrict average) {
    if (share == 1.0f) {
        memcpy(average, weight, 4 * count);
        return;
    }
    for (int64_t i = 0; i < count; i++) average[i] += share * (weight[i] - average[i]);
}

static void copy(int64_t count, const float *restrict weight, uint16_t *restrict to) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, weight + i, 4);
        to[i] = weight[i] == weight[i] ? (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) : 0x7fc0;
    }
}

static void update(void *what) {
    struct shared *s = what;
    struct adam *a = s->a;
    const int threads = threads_of(s->team), me = number_in(s->team);
    int64_t chunk, from, count;
    double squares = 0;
    float room[CHUNK];
    while ((chunk = take(&s->parts, a->chunks, 0, threads, me)) >= 0) {
        const struct weights *w = find(a, chunk, &from, &count);
        a->squares[chunk] = moves(w) ? squares_of(gradient_of(w, from, count, room), count) : 0;
    }
    meet(s->team, threads);
    for (int64_t i = 0; i < a->chunks; i++) squares += a->squares[i]; /* in one order, whoever made them */
    const float norm = (float)sqrt(squares), shrunk = norm <= a->limit ? 1.0f : a->limit / (norm + 1e-6f);
    if (me == 0) a->norm = norm;
    while ((chunk = take(&s->parts, a->chunks, 1, threads, me)) >= 0) {
        const struct weights *w = find(a, chunk, &from, &count);
        if (moves(w))
            move(a, shrunk, count, w->weight + from, gradient_of(w, from, count, room), w->first + from,
                 w->second + from);
        if (w->average) take_in(a->share, count, w->weight + from, w->average + from);
        if (w->copy) copy(count, w->weight + from, w->copy + from);
    }
}

EXPORT void s2s_adam(struct adam *a, struct team *team) {
    struct shared s = {.a = a, .team = team};
    together(team, update, &s);
}
