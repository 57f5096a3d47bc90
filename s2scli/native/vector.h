/* Vectors of floats as wide as the processor's registers, and the functions that gates are made of.

   Written with the compiler's vector types, so that one source serves AVX512, AVX2 and others. */

#ifndef S2S_VECTOR_H
#define S2S_VECTOR_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif

#define EXPORT __attribute__((visibility("default")))
#define ALWAYS static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));

ALWAYS vf load(const float *from) {
    vf x;
    memcpy(&x, from, sizeof x);
    return x;
}

ALWAYS vi load_whole(const int32_t *from) {
    vi x;
    memcpy(&x, from, sizeof x);
    return x;
}

ALWAYS void store(float *to, vf x) { memcpy(to, &x, sizeof x); }

typedef uint16_t vh __attribute__((vector_size(LANES * 2)));

/* Numbers in bf16 or fp32. */
ALWAYS vf get(const void *from, int64_t at, const int half) {
    if (!half) return load((const float *)from + at);
    vh x;
    memcpy(&x, (const uint16_t *)from + at, sizeof x);
#if defined(__AVX512F__) /* of the compiler's own conversion some make five instructions */
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)x), 16);
#else
    return (vf)(__builtin_convertvector(x, vi) << 16);
#endif
}

ALWAYS void put(void *to, int64_t at, const int half, vf x) {
    if (!half) {
        store((float *)to + at, x);
        return;
    }
#if defined(__AVX512BF16__)
    _mm256_storeu_si256((__m256i *)((uint16_t *)to + at), (__m256i)_mm512_cvtneps_pbh((__m512)x));
#else
    const vi bits = (vi)x;
    const vh rounded = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, vh);
    memcpy((uint16_t *)to + at, &rounded, sizeof rounded);
#endif
}

ALWAYS vf splat(float x) { return x - (vf){0}; }

ALWAYS vf choose(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }

ALWAYS vf largest(vf a, vf b) {
#if defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return choose(a > b, a, b);
#endif
}

ALWAYS vf smallest(vf a, vf b) {
#if defined(__AVX512F__)
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return choose(a < b, a, b);
#endif
}

/* A bit for each lane in which a > b. */
ALWAYS unsigned above(vf a, vf b) {
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ);
#elif defined(__AVX2__)
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GT_OQ));
#else
    unsigned mask = 0;
    for (int i = 0; i < LANES; i++) mask |= (unsigned)(a[i] > b[i]) << i;
    return mask;
#endif
}

/* Lanes are added in halves, so the order does not depend on anything but their number. */
ALWAYS float sum(vf x) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)x);
#else
    float lane[LANES];
    store(lane, x);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) lane[i] += lane[i + half];
    return lane[0];
#endif
}

ALWAYS float maximum(vf x) {
    float lane[LANES];
    store(lane, x);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
    return lane[0];
}

/* 2^x with a relative error of 2^-22 or so, for -127 < x < 128.

   x = k + r with a whole k and |r| <= 1/2; the polynomial has the least relative error of all of degree 5. */
ALWAYS vf power(vf x) {
    const float magic = 12582912.0f; /* 1.5 · 2^23: added, it leaves the nearest whole number in the last bits */
    vf k = x + magic;
    vi exponent = (vi)k << 23;
    vf r = x - (k - magic);
    vf p = r * 1.3276472e-3f + 9.67554148e-3f;
    p = p * r + 5.55071327e-2f;
    p = p * r + 2.40221197e-1f;
    p = p * r + 6.93146967e-1f;
    p = p * r + 1.00000007f;
    return (vf)((vi)p + exponent);
}

/* The same for any x <= 127, and coarser: with a relative error of 2^-13. Far below it is 0. */
ALWAYS vf coarse_power(vf x) {
#if defined(__AVX512F__)
    const float magic = 12582912.0f;
    vf k = (x + magic) - magic, r = x - k;
    vf p = r * 5.51716694e-2f + 2.42611131e-1f;
    p = p * r + 6.93260986e-1f;
    p = p * r + 9.99928073e-1f;
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)k);
#else
    return power(largest(x, splat(-126.0f)));
#endif
}

/* 2^x for any x; what is below 2^-126 or above 2^bound is cut. */
ALWAYS vf cut_power(vf x, float bound) { return power(largest(smallest(x, splat(bound)), splat(-126.0f))); }

/* 1 / x, for x that are no denormal numbers. */
ALWAYS vf inverse(vf x) {
#if defined(__AVX512F__)
    vf y = (vf)_mm512_rcp14_ps((__m512)x);
    return y * (2.0f - x * y);
#else
    return 1.0f / x;
#endif
}

/* tanh of a number that is given times -2 / ln 2: (1 - E) / (1 + E) with E = e^-2a. */
ALWAYS vf bent(vf x) {
    vf e = cut_power(x, 40.0f);
    return (1.0f - e) * inverse(1.0f + e);
}

#endif
