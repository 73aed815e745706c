// dQ = scale dS K for one tile of query rows and one head, where dS = P (dO V^T - delta) and
// delta = rowsum(dO O), which is written for the dK and dV kernel (FlashAttention-2, algorithm 2, turned
// round: a block owns its query rows and walks over the keys). One block writes each element, in one
// order: no atomics, the result is the same bits each time.
//
// Grid: (Hq, query tiles). q, o, d_o, d_q: [N, Hq D]; k, v: [N, Hkv D]; lse, delta: [Hq, N].
#pragma once

#include "forward.cuh"

template <class T, int D>
__device__ __forceinline__ void attention_backward_query(const T* q, const T* k, const T* v, const T* o,
                                                         const T* d_o, const float* lse, T* d_q, float* delta,
                                                         const int* words) {
    typedef Shape<T, D> S;
    constexpr int THREADS = S::THREADS, ROWS = S::ROWS, KEYS = S::BACKWARD_KEYS;
    constexpr int ROW_BYTES = Tile<T, D>::ROW_BYTES, OWN = 2 * ROWS * ROW_BYTES;
    constexpr int STAGE = 2 * KEYS * ROW_BYTES, STAGES_AT = S::IN_REGISTERS ? 0 : OWN;
    constexpr int BYTES = STAGES_AT + S::STAGES * STAGE;
    SHARED_BYTES(memory, BYTES > OWN ? BYTES : OWN);
    unsigned base = shared_address(memory);
    Tile<T, D> q_tile{base}, do_tile{base + ROWS * ROW_BYTES};

    Plan plan{words};
    Work work(plan, 0, blockIdx.y);
    int head = blockIdx.x, kv_head = head / plan.group();
    bool causal = plan.causal();
    float scale = plan.scale() * LOG2_E;
    int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    int row = work.first + warp * 16 + g;
    int keys_end = causal ? min(work.end, work.first + ROWS) : work.end;
    q += head * D, k += kv_head * D, v += kv_head * D, o += head * D, d_o += head * D;

    load_tile<ROWS, THREADS>(q_tile, q, plan.q_stride(), work.first, work.end);
    load_tile<ROWS, THREADS>(do_tile, d_o, plan.do_stride(), work.first, work.end);
    cp_async_commit();

    // Rows from the end on are zeros in Q and dO; with these two zero their dS is, too.
    float lse_of[2] = {0.0f, 0.0f}, delta_of[2] = {0.0f, 0.0f};
    UNROLL
    for (int h = 0; h < 2; ++h) {
        long long r = row + 8 * h;
        if (r < work.end) {
            lse_of[h] = lse[static_cast<long long>(head) * plan.rows() + r];
            for (int c = t; c < Tile<T, D>::CHUNKS; c += 4) {
                float x[Tile<T, D>::PER_CHUNK], y[Tile<T, D>::PER_CHUNK];
                widen(o + r * plan.o_stride() + c * Tile<T, D>::PER_CHUNK, x);
                widen(d_o + r * plan.do_stride() + c * Tile<T, D>::PER_CHUNK, y);
                UNROLL
                for (int i = 0; i < Tile<T, D>::PER_CHUNK; ++i) delta_of[h] += x[i] * y[i];
            }
        }
        delta_of[h] = row_sum(delta_of[h]);
        if (t == 0 && r < work.end) delta[static_cast<long long>(head) * plan.rows() + r] = delta_of[h];
    }

    RowsA<T, D, S::IN_REGISTERS> q_rows, do_rows;
    cp_async_wait<0>();
    __syncthreads();
    q_rows.take(q_tile, warp * 16);
    do_rows.take(do_tile, warp * 16);
    if (S::IN_REGISTERS) __syncthreads();  // their place is now free

    float acc[D / 8][4];
    UNROLL
    for (int j = 0; j < D / 8; ++j) acc[j][0] = acc[j][1] = acc[j][2] = acc[j][3] = 0.0f;

    auto load = [&](int key, int stage) {
        Tile<T, D> k_tile{base + STAGES_AT + stage * STAGE}, v_tile{k_tile.base + KEYS * ROW_BYTES};
        load_tile<KEYS, THREADS>(k_tile, k, plan.k_stride(), key, work.end);
        load_tile<KEYS, THREADS>(v_tile, v, plan.v_stride(), key, work.end);
    };
    load(work.start, 0);
    cp_async_commit();
    int stage = 0;
    for (int key = work.start; key < keys_end; key += KEYS) {
        int next = key + KEYS;
        if (S::STAGES == 2) {
            if (next < keys_end) load(next, stage ^ 1);
            cp_async_commit();
            cp_async_wait<1>();
        } else {
            cp_async_wait<0>();
        }
        __syncthreads();
        Tile<T, D> k_tile{base + STAGES_AT + stage * STAGE}, v_tile{k_tile.base + KEYS * ROW_BYTES};
        float s[KEYS / 8][4], d_p[KEYS / 8][4];
        rows_by_rows<KEYS>(s, q_rows, k_tile);
        rows_by_rows<KEYS>(d_p, do_rows, v_tile);
        if (key + KEYS > work.end || (causal && key + KEYS - 1 > work.first + warp * 16))
            hide<KEYS>(s, row, key, work.end, causal);
        UNROLL
        for (int j = 0; j < KEYS / 8; ++j) {
            UNROLL
            for (int i = 0; i < 4; ++i) {
                float p = exp2_fast(s[j][i] * scale - lse_of[i / 2]);
                s[j][i] = p * (d_p[j][i] - delta_of[i / 2]);
            }
        }
        add_product<KEYS>(acc, s, k_tile);
        __syncthreads();  // the next tile but one goes where this one was
        if (S::STAGES == 2) {
            stage ^= 1;
        } else if (next < keys_end) {
            load(next, 0);
            cp_async_commit();
        }
    }
    cp_async_wait<0>();
    const float scales[2] = {plan.scale(), plan.scale()};
    store_rows(acc, scales, Tile<T, D>{base}, warp * 16, d_q + head * D, plan.dq_stride(),
               work.first + warp * 16, work.end);
}
