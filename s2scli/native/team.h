/* The threads that share the caller's operations, led by the library that torch has for it. */

#ifndef S2S_TEAM_H
#define S2S_TEAM_H

#include <sched.h>
#include <stdatomic.h>

#include "vector.h"

struct team {
    void (*parallel)(void (*work)(void *), void *what, unsigned threads, unsigned flags); /* or NULL: alone */
    int (*threads)(void);
    int (*number)(void);
    int64_t wanted;
    atomic_int arrived, met; /* 0 */
};

/* Let all of the team do the work, each knowing which of them it is. */
ALWAYS void together(struct team *t, void (*work)(void *), void *what) {
    if (t->parallel && t->wanted > 1)
        t->parallel(work, what, (unsigned)t->wanted, 0);
    else
        work(what);
}

/* There may be fewer than were wanted. */
ALWAYS int threads_of(const struct team *t) { return t->parallel && t->wanted > 1 ? t->threads() : 1; }

ALWAYS int number_in(const struct team *t) { return t->parallel && t->wanted > 1 ? t->number() : 0; }

/* Wait for all of the team. */
static inline void meet(struct team *t, int threads) {
    const int met = atomic_load_explicit(&t->met, memory_order_acquire);
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) == threads - 1) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&t->met, met + 1, memory_order_release);
        return;
    }
    for (int turns = 0; atomic_load_explicit(&t->met, memory_order_acquire) == met; turns++) {
#if defined(__x86_64__)
        if (turns < 20000) {
            __builtin_ia32_pause();
            continue;
        }
#endif
        sched_yield(); /* the others may be waiting for this very core */
    }
}

#endif
