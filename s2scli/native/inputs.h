/* What is multiplied: matrices, and rows of inputs as the products read them. */

#ifndef S2S_INPUTS_H
#define S2S_INPUTS_H

#include "vector.h"

#define PANEL 64
#define BLOCK 16 /* rows that are finished together */
#define PARTS 3

/* BYTES: 8 bits, inputs of known bounds. OWN: 8 bits, each row of inputs with a scale of its own. HALF: bf16.
   HALVES: each number as the sum of two in bf16, which have 16 bits of it together. */
enum { FP32, BYTES, OWN, HALF, HALVES };

struct matrix {
    int64_t kind, columns, inputs; /* columns: filled up to a multiple of 64, and so are inputs but in FP32 */
    const void *weights;
    const float *scale;    /* in 8 bits: of each column, in BYTES that of inputs included */
    const int32_t *offset; /* OWN: 128 times the sum of each column's weights; in BYTES the bias has it */
    const float *bias;     /* of each column */
    float steps[PARTS];    /* BYTES: 127 / the bound of each part of the inputs */
};

/* Rows of inputs: tensors beside each other; row i of a tensor is index[i] of it, i without index. */
struct input {
    int64_t rows;
    const float *x[PARTS];
    const int64_t *index[PARTS];
    int64_t width[PARTS], stride[PARTS];
    void *laid;   /* room for the rows as the product reads them, filled up to BLOCK of them */
    float *scale; /* OWN: room for what one step of each row is worth */
};

/* Ask for memory before it is needed. */
ALWAYS void ask(const float *from, int count) {
    for (int i = 0; i < count; i += 16) __builtin_prefetch(from + i);
}

ALWAYS void ask_to_write(const float *to, int count) {
    for (int i = 0; i < count; i += 16) __builtin_prefetch(to + i, 1);
}

/* Rounds n numbers to bytes; those of AVX512 are the same, 16 at a time. */
ALWAYS void to_bytes(const float *from, int64_t n, float steps, uint8_t *to) {
    int64_t j = 0;
#if defined(__AVX512F__)
    const __m512 times = _mm512_set1_ps(steps), zero = _mm512_set1_ps(128.5f);
    for (; j + 16 <= n; j += 16) {
        __m512i whole = _mm512_cvttps_epi32(_mm512_fmadd_ps(_mm512_loadu_ps(from + j), times, zero));
        _mm_storeu_si128((__m128i *)(to + j), _mm512_cvtepi32_epi8(whole));
    }
#endif
    for (; j < n; j++) to[j] = (uint8_t)(int32_t)fmaf(from[j], steps, 128.5f);
}

#if defined(__AVX512BF16__)
/* Rounds n numbers, a multiple of 16, to bf16; what that leaves of each is rounded too, if there is a place for it. */
ALWAYS void to_halves(const float *from, int64_t n, uint16_t *to, uint16_t *rest) {
    for (int64_t j = 0; j < n; j += 16) {
        const __m512 x = _mm512_loadu_ps(from + j);
        const __m256i half = (__m256i)_mm512_cvtneps_pbh(x);
        _mm256_storeu_si256((__m256i *)(to + j), half);
        if (rest) {
            const __m512 whole = (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
            _mm256_storeu_si256((__m256i *)(rest + j), (__m256i)_mm512_cvtneps_pbh(_mm512_sub_ps(x, whole)));
        }
    }
}
#endif

ALWAYS float magnitude(const float *from, int64_t n) {
    vf most = {0};
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        vf x = load(from + j);
        most = largest(largest(x, -x), most);
    }
    float found = maximum(most);
    for (; j < n; j++) found = fabsf(from[j]) > found ? fabsf(from[j]) : found;
    return found;
}

#define SOON 4 /* rows after which one is laid that is asked for now */

ALWAYS const float *part_of(const struct input *in, int p, int64_t row) {
    return in->x[p] + (in->index[p] ? in->index[p][row] : row) * in->stride[p];
}

ALWAYS void lay_rows(const int kind, const struct matrix *m, const struct input *in) {
    for (int64_t i = 0; i < in->rows; i++) {
        const float *part[PARTS] = {NULL};
        for (int p = 0; p < PARTS && in->x[p]; p++) {
            part[p] = part_of(in, p, i);
            if (in->index[p] && i + SOON < in->rows) ask(part_of(in, p, i + SOON), (int)in->width[p]);
        }
        if (kind == FP32) {
            float *to = (float *)in->laid + i * m->inputs;
            for (int p = 0; p < PARTS && part[p]; to += in->width[p], p++)
                memcpy(to, part[p], (size_t)in->width[p] * sizeof(float));
            continue;
        }
#if defined(__AVX512BF16__)
        if (kind == HALF || kind == HALVES) {
            uint16_t *to = (uint16_t *)in->laid + i * m->inputs * (kind - HALF + 1), *end = to + m->inputs;
            for (int p = 0; p < PARTS && part[p]; to += in->width[p], p++)
                to_halves(part[p], in->width[p], to, kind == HALVES ? to + m->inputs : NULL);
            if (to < end) {
                memset(to, 0, (size_t)(end - to) * sizeof *to);
                if (kind == HALVES) memset(to + m->inputs, 0, (size_t)(end - to) * sizeof *to);
            }
            continue;
        }
#endif
        uint8_t *to = (uint8_t *)in->laid + i * m->inputs, *end = to + m->inputs;
        float own = 0;
        if (kind == OWN) {
            float most = 1e-12f;
            for (int p = 0; p < PARTS && part[p]; p++) {
                float size = magnitude(part[p], in->width[p]);
                most = size > most ? size : most;
            }
            own = 127.0f / most;
            in->scale[i] = 1.0f / own;
        }
        for (int p = 0; p < PARTS && part[p]; to += in->width[p], p++)
            to_bytes(part[p], in->width[p], kind == OWN ? own : m->steps[p], to);
        if (to < end) memset(to, 0, (size_t)(end - to)); /* meets weights of 0 */
    }
}

#endif
