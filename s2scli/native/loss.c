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
    float *room;           /* (threads, V) for a row in fp32, each thread's own */
};

struct shared {
    const struct loss *l;
    struct team *team;
};

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

ALWAYS void rows_of(const struct loss *l, int64_t from, int64_t to, int thread, const int half) {
    const int64_t n = l->vocab, whole = n - n % LANES;
    const float even = l->smoothing / (float)n, to_powers = 1.44269504f;
    float *of_bias = l->of_bias + thread * n, *x = l->room + thread * n; /* logits, then their powers */
    for (int64_t row = from; row < to; row++) {
        char *logits = (char *)l->logits + row * n * (half ? 2 : 4);
        vf most = splat(-INFINITY), sums = {0}, mass = {0};
        for (int64_t v = 0; v < whole; v += LANES) {
            const vf one = get(logits, v, half) + load(l->bias + v);
            store(x + v, one);
            most = largest(one, most);
            sums += one;
        }
        float top = maximum(most), all = sum(sums), powers;
        for (int64_t v = whole; v < n; v++) {
            x[v] = get_one(logits, v, half) + l->bias[v];
            top = x[v] > top ? x[v] : top;
            all += x[v];
        }
        const int64_t target = l->target[row];
        const float wanted = x[target];
        for (int64_t v = 0; v < whole; v += LANES) {
            const vf beside = (load(x + v) - top) * to_powers;
            const vf p = half ? coarse_power(beside) : power(largest(beside, splat(-126.0f)));
            store(x + v, p);
            mass += p;
        }
        powers = sum(mass);
        for (int64_t v = whole; v < n; v++) powers += x[v] = expf(x[v] - top);
        /* If a logit is no number, nor is the loss, whatever powers and maxima make of it. */
        const float lse = top + logf(powers) + (all - all), share = 1.0f / powers;
        l->plain[row] = lse - wanted;
        l->summed[row] = all - (float)n * lse;
        const float certain = expf(-l->plain[row]) - even - (1.0f - l->smoothing);
        for (int64_t v = 0; v < whole; v += LANES) {
            const vf p = load(x + v) * share - even;
            put(logits, v, half, p);
            store(of_bias + v, load(of_bias + v) + p);
        }
        for (int64_t v = whole; v < n; v++) {
            const float p = x[v] * share - even;
            put_one(logits, v, half, p);
            of_bias[v] += p;
        }
        put_one(logits, target, half, certain);
        of_bias[target] -= 1.0f - l->smoothing;
    }
}

static void work(void *what) {
    const struct shared *s = what;
    const struct loss *l = s->l;
    const int threads = threads_of(s->team), me = number_in(s->team);
    const int64_t from = l->rows * me / threads, to = l->rows * (me + 1) / threads;
    if (l->half)
        rows_of(l, from, to, me, 1);
    else
        rows_of(l, from, to, me, 0);
}

EXPORT void s2s_softmax_loss(const struct loss *l, struct team *team) {
    struct shared s = {l, team};
    together(team, work, &s);
}
