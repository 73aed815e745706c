// O = softmax(scale Q K^T) V for one tile of query rows and one head, keys in tiles with a running
// maximum and sum (FlashAttention-2, Dao 2023, algorithm 1). Also the logarithm to base 2 of each row's sum of
// exponentials, from which the backward gets the probabilities again.
//
// Grid: (Hq, query tiles). q, o: [N, Hq D]; k, v: [N, Hkv D]; lse: [Hq, N].
#pragma once

#include "plan.cuh"
#include "product.cuh"
#include "shape.cuh"

// Scores that may not be seen become minus infinity. `row` is that of accumulator rows g, `key` of the
// first column.
template <int N>
__device__ __forceinline__ void hide(float (&s)[N / 8][4], int row, int key, int end, bool causal) {
    int t = threadIdx.x % 4;
    UNROLL
    for (int h = 0; h < 2; ++h) {
        int limit = causal ? min(end, row + 8 * h + 1) : end;
        UNROLL
        for (int j = 0; j < N / 8; ++j) {
            UNROLL
            for (int i = 0; i < 2; ++i)
                if (key + 8 * j + 2 * t + i >= limit) s[j][2 * h + i] = bits_to_float(0xff800000u);
        }
    }
}

template <class T, int D>
__device__ __forceinline__ void attention_forward(const T* q, const T* k, const T* v, T* o, float* lse,
                                                  const int* words) {
    typedef Shape<T, D> S;
    constexpr int THREADS = S::THREADS, ROWS = S::ROWS, KEYS = S::KEYS;
    constexpr int ROW_BYTES = Tile<T, D>::ROW_BYTES;
    // In registers: K, V; Q comes by way of V's place. Else Q, K, V.
    constexpr int K_AT = S::IN_REGISTERS ? 0 : ROWS * ROW_BYTES, V_AT = K_AT + KEYS * ROW_BYTES;
    static_assert(!S::IN_REGISTERS || KEYS >= ROWS, "Q has room where V will be");
    SHARED_BYTES(memory, V_AT + KEYS * ROW_BYTES);
    unsigned base = shared_address(memory);
    Tile<T, D> k_tile{base + K_AT}, v_tile{base + V_AT}, q_tile{S::IN_REGISTERS ? v_tile.base : base};

    Plan plan{words};
    Work work(plan, 0, blockIdx.y);
    int head = blockIdx.x, kv_head = head / plan.group();
    bool causal = plan.causal();
    float scale = plan.scale() * LOG2_E;
    int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    int row = work.first + warp * 16 + g;  // and row + 8
    int keys_end = causal ? min(work.end, work.first + ROWS) : work.end;
    k += kv_head * D, v += kv_head * D;

    load_tile<ROWS, THREADS>(q_tile, q + head * D, plan.q_stride(), work.first, work.end);
    cp_async_commit();
    load_tile<KEYS, THREADS>(k_tile, k, plan.k_stride(), work.start, work.end);
    cp_async_commit();
    RowsA<T, D, S::IN_REGISTERS> rows;
    cp_async_wait<1>();
    __syncthreads();
    rows.take(q_tile, warp * 16);

    float acc[D / 8][4];
    UNROLL
    for (int j = 0; j < D / 8; ++j) acc[j][0] = acc[j][1] = acc[j][2] = acc[j][3] = 0.0f;
    float top[2], sum[2] = {0.0f, 0.0f};  // of rows g and g + 8; the sum is of this lane's columns
    top[0] = top[1] = bits_to_float(0xff800000u);

    for (int key = work.start; key < keys_end; key += KEYS) {
        cp_async_wait<0>();
        __syncthreads();  // K is here, nobody reads V any more
        load_tile<KEYS, THREADS>(v_tile, v, plan.v_stride(), key, work.end);
        cp_async_commit();

        float s[KEYS / 8][4];
        rows_by_rows<KEYS>(s, rows, k_tile);
        if (key + KEYS > work.end || (causal && key + KEYS - 1 > work.first + warp * 16))
            hide<KEYS>(s, row, key, work.end, causal);

        UNROLL
        for (int h = 0; h < 2; ++h) {
            // A row sees the first key of its segment at least, so the maximum is a number.
            float best = top[h];
            UNROLL
            for (int j = 0; j < KEYS / 8; ++j) best = fmaxf(best, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
            best = row_max(best);
            float shrink = exp2_fast((top[h] - best) * scale);
            top[h] = best;
            sum[h] *= shrink;
            UNROLL
            for (int j = 0; j < KEYS / 8; ++j) {
                UNROLL
                for (int i = 2 * h; i < 2 * h + 2; ++i) {
                    s[j][i] = exp2_fast((s[j][i] - best) * scale);
                    sum[h] += s[j][i];
                }
            }
            UNROLL
            for (int j = 0; j < D / 8; ++j) acc[j][2 * h] *= shrink, acc[j][2 * h + 1] *= shrink;
        }

        cp_async_wait<0>();
        __syncthreads();  // V is here, nobody reads K any more
        if (key + KEYS < keys_end) load_tile<KEYS, THREADS>(k_tile, k, plan.k_stride(), key + KEYS, work.end);
        cp_async_commit();
        add_product<KEYS>(acc, s, v_tile);
    }

    float inverse[2];
    UNROLL
    for (int h = 0; h < 2; ++h) {
        float total = row_sum(sum[h]);
        inverse[h] = 1.0f / total;
        if (t == 0 && row + 8 * h < work.end)
            lse[static_cast<long long>(head) * plan.rows() + row + 8 * h] = top[h] * scale + log2_fast(total);
    }
    // K's place (Q's, if it is in shared memory) has not been read since the last barrier.
    cp_async_wait<0>();
    store_rows(acc, inverse, Tile<T, D>{base}, warp * 16, o + head * D, plan.o_stride(), work.first + warp * 16,
               work.end);
}
