/* The softmax of training: losses, and the gradient of the logits in their place. */

#include "team.h"

struct loss {
    void *logits;          /* (N, V), in fp32 or bf16, without the bias; becomes p - (1 - ε) onehot - ε / V */
    int64_t half;          /* whether in bf16 */
    const int64_t *target; /* (N,) */
    int64_t rows, vocab;
    float smoothing;      /* ε */
    float *plain, *summed; /* (N,) -log p of the target, and Σ_v log p_v */
    const float *bias;     /* (V,), added to the logits of each row */
    float *of_bias;        /* (threads, V), 0: the sums of the gradient, each thread's own */
};

struct shared {
    const struct loss *l;
    struct team *team;
};

typedef uint16_t vh __attribute__((vector_size(LANES * 2)));

ALWAYS vf get(const void *logits, int64_t at, const int half) {
    if (!half) return load((const float *)logits + at);
    vh x;
    memcpy(&x, (const uint16_t *)logits + at, sizeof x);
    return (vf)(__builtin_convertvector(x, vi) << 16);
}

ALWAYS void put(void *logits, int64_t at, const int half, vf x) {
    if (!half) {
        store((float *)logits + at, x);
        return;
    }
    const vi bits = (vi)x;
    const vh rounded = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, vh);
    memcpy((uint16_t *)logits + at, &rounded, sizeof rounded);
}

/* Of one logit. */
ALWAYS float get_one(const void *logits, int64_t at, const int half) {
    float one[LANES] = {0};
    memcpy(half ? (char *)one + 2 : (char *)one, (const char *)logits + at * (half ? 2 : 4), half ? 2 : 4);
    return one[0];
}

ALWAYS void put_one(void *logits, int64_t at, const int half, float x) {
    float lanes[LANES] = {x};
    uint32_t put_there[LANES];
    put(put_there, 0, half, load(lanes));
    memcpy((char *)logits + at * (half ? 2 : 4), put_there, half ? 2 : 4);
}

ALWAYS void rows_of(const struct loss *l, int64_t from, int64_t to, float *of_bias, const int half) {
    const int64_t n = l->vocab, whole = n - n % LANES;
    const float even = l->smoothing / (float)n, to_powers = 1.44269504f;
    for (int64_t row = from; row < to; row++) {
        char *logits = (char *)l->logits + row * n * (half ? 2 : 4);
#define LOGITS(v) (get(logits, v, half) + load(l->bias + (v)))
#define LOGIT(v) (get_one(logits, v, half) + l->bias[v])
        vf most = splat(-INFINITY), sums = {0};
        for (int64_t v = 0; v < whole; v += LANES) {
            const vf one = LOGITS(v);
            most = largest(one, most);
            sums += one;
        }
        float top = maximum(most), all = sum(sums), powers;
        for (int64_t v = whole; v < n; v++) {
            const float one = LOGIT(v);
            top = one > top ? one : top;
            all += one;
        }
        vf mass = {0};
        for (int64_t v = 0; v < whole; v += LANES)
            mass += half ? coarse_power((LOGITS(v) - top) * to_powers)
                         : power(largest((LOGITS(v) - top) * to_powers, splat(-126.0f)));
        powers = sum(mass);
        for (int64_t v = whole; v < n; v++) powers += expf(LOGIT(v) - top);
        const int64_t target = l->target[row];
        /* If a logit is no number, nor is the loss, whatever powers and maxima make of it. */
        const float lse = top + logf(powers) + (all - all), share = 1.0f / powers;
        l->plain[row] = lse - LOGIT(target);
        l->summed[row] = all - (float)n * lse;
        const float certain = expf(-l->plain[row]) - even - (1.0f - l->smoothing);
        for (int64_t v = 0; v < whole; v += LANES) {
            const vf beside = (LOGITS(v) - top) * to_powers;
            const vf p = (half ? coarse_power(beside) : power(largest(beside, splat(-126.0f)))) * share - even;
            put(logits, v, half, p);
            store(of_bias + v, load(of_bias + v) + p);
        }
        for (int64_t v = whole; v < n; v++) {
            const float p = expf(LOGIT(v) - top) * share - even;
            put_one(logits, v, half, p);
            of_bias[v] += p;
        }
        put_one(logits, target, half, certain);
        of_bias[target] -= 1.0f - l->smoothing;
#undef LOGITS
#undef LOGIT
    }
}

static void work(void *what) {
    const struct shared *s = what;
    const struct loss *l = s->l;
    const int threads = threads_of(s->team), me = number_in(s->team);
    const int64_t from = l->rows * me / threads, to = l->rows * (me + 1) / threads;
    if (l->half)
        rows_of(l, from, to, l->of_bias + me * l->vocab, 1);
    else
        rows_of(l, from, to, l->of_bias + me * l->vocab, 0);
}

EXPORT void s2s_softmax_loss(const struct loss *l, struct team *team) {
    struct shared s = {l, team};
    together(team, work, &s);
}
