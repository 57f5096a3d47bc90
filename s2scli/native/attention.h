/* Attention: equations 1-3, each hypothesis with its own sentence. */

#ifndef S2S_ATTENTION_H
#define S2S_ATTENTION_H

#include "vector.h"

struct memory {
    const void *keys, *values;  /* (A, S, h), in fp32 or bf16 */
    int64_t half;               /* whether in bf16 */
    const int64_t *length;      /* of each sentence */
    const float *position;      /* (S,) added to the scores of this step, times 1 / ln 2; or NULL */
    int64_t width, units;       /* S, h */
    float scale;                /* of the scores, times 1 / ln 2 */
};

/* For so many rows of one sentence, which read its keys and values together; weights have `stride`. */
ALWAYS void attend_together(const int rows, const int half, const struct memory *m, int64_t sentence,
                            const float *query, float *weight, int64_t stride, float *value) {
    const int64_t length = m->length[sentence], h = m->units, begin = sentence * m->width * h;
    for (int64_t i = 0; i < length; i++) {
        vf sums[8] = {{0}};
        for (int64_t d = 0; d < h; d += LANES) {
            vf k = get(m->keys, begin + i * h + d, half);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) sums[r] += k * load(query + r * h + d);
        }
        const float bias = m->position ? m->position[i] : 0.0f;
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) weight[r * stride + i] = sum(sums[r]) * m->scale + bias;
    }
    for (int r = 0; r < rows; r++) {
        float *w = weight + r * stride, most = w[0], all = 0.0f;
        for (int64_t i = length; i < stride; i++) w[i] = -INFINITY;
        for (int64_t i = 1; i < length; i++) most = w[i] > most ? w[i] : most;
        for (int64_t i = 0; i < length; i += LANES) store(w + i, cut_power(load(w + i) - most, 0.0f));
        for (int64_t i = 0; i < length; i++) all += w[i];
        for (int64_t i = 0; i < length; i++) w[i] /= all;
        for (int64_t i = length; i < stride; i++) w[i] = 0.0f;
    }
    for (int64_t d = 0; d < h; d += LANES) {
        vf sums[8] = {{0}};
        for (int64_t i = 0; i < length; i++) {
            vf v = get(m->values, begin + i * h + d, half);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) sums[r] += v * weight[r * stride + i];
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) store(value + r * h + d, sums[r]);
    }
}

ALWAYS void attend_some(const int half, const struct memory *m, int64_t rows, const int64_t *sentence,
                        const float *query, float *weight, int64_t stride, float *value) {
    for (int64_t row = 0; row < rows;) {
        const int64_t s = sentence[row];
        int together = 1;
        while (together < 8 && row + together < rows && sentence[row + together] == s) together++;
        const float *q = query + row * m->units;
        float *w = weight + row * stride, *v = value + row * m->units;
        switch (together) {
        case 1: attend_together(1, half, m, s, q, w, stride, v); break;
        case 2: attend_together(2, half, m, s, q, w, stride, v); break;
        case 3: attend_together(3, half, m, s, q, w, stride, v); break;
        case 4: attend_together(4, half, m, s, q, w, stride, v); break;
        case 5: attend_together(5, half, m, s, q, w, stride, v); break;
        case 6: attend_together(6, half, m, s, q, w, stride, v); break;
        case 7: attend_together(7, half, m, s, q, w, stride, v); break;
        default: attend_together(8, half, m, s, q, w, stride, v);
        }
        row += together;
    }
}

/* query (N, h) to weight (N, stride) and value (N, h); `sentence` (N,) in ascending order.
   stride: S filled up to a multiple of 16. */
EXPORT void s2s_attend(const struct memory *m, int64_t rows, const int64_t *sentence, const float *query,
                       float *weight, int64_t stride, float *value) {
    if (m->half)
        attend_some(1, m, rows, sentence, query, weight, stride, value);
    else
        attend_some(0, m, rows, sentence, query, weight, stride, value);
}

#endif
