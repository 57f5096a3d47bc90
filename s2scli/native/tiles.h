/* The matrix unit of processors with AMX: eight registers of 16 rows of 64 bytes, tiles, and their shapes. */

#ifndef S2S_TILES_H
#define S2S_TILES_H

#include <stdint.h>

#if defined(__AMX_INT8__)
#include <immintrin.h>

#define HAS_HALF 1 /* processors with tiles for bytes have them for bf16 */
#define TURNS 4    /* parts of a product, between which something else is done */

struct tiles {
    uint8_t palette, start, zero[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} __attribute__((aligned(64)));

/* Unlike the compiler's own, they tell it that all of the memory is meant. */
ALWAYS void load_shapes(const struct tiles *from) { __asm__ volatile("ldtilecfg %0" ::"m"(*from) : "memory"); }

ALWAYS void store_shapes(struct tiles *to) { __asm__ volatile("sttilecfg %0" : "=m"(*to)::"memory"); }

/* Before tiles are loaded from what has been written: compilers may not know that loading reads memory. */
ALWAYS void written(void) { __asm__ volatile("" ::: "memory"); }

#define DEEP 32  /* inputs of a tile in bf16 */
#define TILE 512 /* numbers of a tile in bf16 */

/* Numbers in bf16, each in the lower half of 32 bits, and what they leave. */
ALWAYS __m512i rounded(vf x) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)x)); }

ALWAYS vf rest(vf x) { return x - (vf)_mm512_slli_epi32(rounded(x), 16); }

/* A row of a tile of weights, 16 numbers of two inputs by turns; whole, what they leave is in the next tile. */
ALWAYS void pack_row(uint16_t *at, vf even, vf odd, const int whole) {
    _mm512_storeu_si512(at, _mm512_or_si512(rounded(even), _mm512_slli_epi32(rounded(odd), 16)));
    if (whole)
        _mm512_storeu_si512(at + TILE, _mm512_or_si512(rounded(rest(even)), _mm512_slli_epi32(rounded(rest(odd)), 16)));
}

/* 32 inputs of two tiles of rows times 32 columns, onto tiles 0 to 3, by way of the others. Each number is the sum of
   two, the second so many after the first: number · number + number · rest + rest · number. */
ALWAYS void times_whole(const uint16_t *upper, const uint16_t *lower, int64_t second, const uint16_t *w, int two) {
#define INPUTS(from)                         \
    _tile_loadd(4, upper + (from), 64);      \
    if (two) _tile_loadd(5, lower + (from), 64)
#define TIMES(weights, upper_sum, lower_sum)              \
    _tile_dpbf16ps(upper_sum, 4, weights);                \
    if (two) _tile_dpbf16ps(lower_sum, 5, weights)
    INPUTS(0);
    _tile_loadd(6, w, 64);
    TIMES(6, 0, 2);
    _tile_loadd(7, w + 3 * TILE, 64);
    TIMES(7, 1, 3);
    _tile_loadd(7, w + TILE, 64);
    TIMES(7, 0, 2);
    _tile_loadd(7, w + 2 * TILE, 64);
    TIMES(7, 1, 3);
    INPUTS(second);
    TIMES(6, 0, 2);
    TIMES(7, 1, 3);
#undef INPUTS
#undef TIMES
}
#else
#define HAS_HALF 0
#endif

#endif
