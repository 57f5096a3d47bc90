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

#define MOST 64 /* threads of a team */

/* How much of its part each thread of a team has taken on. */
struct parts {
    struct {
        atomic_llong taken;
        char apart[56]; /* from what others write */
    } of[MOST];
} __attribute__((aligned(64)));

/* The next item of a thread's own part, which mostly is in its cache, or where nothing is left of it of another's: cores
   need not be equally fast. -1 if all is taken on. Of turns, between which the team meets, each has the same items. */
ALWAYS int64_t take(struct parts *p, int64_t items, int64_t turn, int threads, int me) {
    for (int k = 0; k < threads; k++) {
        const int whose = (me + k) % threads;
        const int64_t from = items * whose / threads, own = items * (whose + 1) / threads - from;
        long long taken = atomic_load_explicit(&p->of[whose].taken, memory_order_relaxed);
        while (taken < (turn + 1) * own)
            if (atomic_compare_exchange_weak_explicit(&p->of[whose].taken, &taken, taken + 1, memory_order_relaxed,
                                                      memory_order_relaxed))
                return from + taken - turn * own;
    }
    return -1;
}

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
