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
#else
#define HAS_HALF 0
#endif

#endif
