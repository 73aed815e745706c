// dV = P^T dO and dK = scale dS^T Q for one tile of keys and one key head: the block walks over the query
// tiles of all query heads of its group, in one order, and alone writes its rows. No atomics: the result
// is the same bits each time. Works on the transposed scores, so that a warp's keys are rows of its
// accumulators, and P^T and dS^T are operands as they stand.
//
// Grid: (Hkv, key tiles). q, d_o: [N, Hq D]; k, v, d_k, d_v: [N, Hkv D]; lse, delta: [Hq, N].
#pragma once

#include "forward.cuh"

template <class T, int D>
__device__ __forceinline__ void attention_backward_key(const T* q, const T* k, const T* v, const T* d_o,
                                                       const float* lse, const float* delta, T* d_k, T* d_v,
                                                       const int* words) {
    typedef Shape<T, D> S;
    constexpr int THREADS = S::THREADS, ROWS = S::ROWS, QUERIES = S::QUERIES;
    constexpr int ROW_BYTES = Tile<T, D>::ROW_BYTES, TILE = ROWS * ROW_BYTES;
    // What stays in shared memory lies behind the stages; what goes to registers comes by way of them.
    constexpr int STAGE = 2 * QUERIES * ROW_BYTES, STAGES = S::STAGES * STAGE;
    constexpr int K_AT = S::IN_REGISTERS ? 0 : STAGES;
    constexpr int V_AT = S::V_IN_REGISTERS ? TILE : S::IN_REGISTERS ? STAGES : STAGES + TILE;
    constexpr int BYTES = S::V_IN_REGISTERS ? STAGES : V_AT + TILE;
    static_assert(STAGES >= (S::V_IN_REGISTERS ? 2 : S::IN_REGISTERS ? 1 : 0) * TILE, "room on the way");
    SHARED_BYTES(memory, BYTES);
    unsigned base = shared_address(memory);

    Plan plan{words};
    Work work(plan, 1, blockIdx.y);
    int kv_head = blockIdx.x, group = plan.group();
    bool causal = plan.causal();
    float scale = plan.scale() * LOG2_E;
    int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    int row = work.first + warp * 16 + g;  // a key, and row + 8
    int first_head = kv_head * group;

    Tile<T, D> k_tile{base + K_AT}, v_tile{base + V_AT};
    load_tile<ROWS, THREADS>(k_tile, k + kv_head * D, plan.k_stride(), work.first, work.end);
    load_tile<ROWS, THREADS>(v_tile, v + kv_head * D, plan.v_stride(), work.first, work.end);
    cp_async_commit();
    RowsA<T, D, S::IN_REGISTERS> k_rows;
    RowsA<T, D, S::V_IN_REGISTERS> v_rows;
    cp_async_wait<0>();
    __syncthreads();
    k_rows.take(k_tile, warp * 16);
    v_rows.take(v_tile, warp * 16);
    if (S::IN_REGISTERS) __syncthreads();  // their place is now free

    float d_key[D / 8][4], d_value[D / 8][4];
    UNROLL
    for (int j = 0; j < D / 8; ++j) {
        UNROLL
        for (int i = 0; i < 4; ++i) d_key[j][i] = d_value[j][i] = 0.0f;
    }

    // A causal query sees the keys up to itself: queries before the tile's first key see none of it.
    int queries_start = causal ? work.first : work.start;
    auto load = [&](int head, int query, int stage) {
        Tile<T, D> q_tile{base + stage * STAGE}, do_tile{q_tile.base + QUERIES * ROW_BYTES};
        load_tile<QUERIES, THREADS>(q_tile, q + (first_head + head) * D, plan.q_stride(), query, work.end);
        load_tile<QUERIES, THREADS>(do_tile, d_o + (first_head + head) * D, plan.do_stride(), query, work.end);
    };
    load(0, queries_start, 0);
    cp_async_commit();
    int stage = 0;
    for (int head = 0, query = queries_start; head < group;) {
        int next_head = head, next_query = query + QUERIES;
        if (next_query >= work.end) next_head += 1, next_query = queries_start;
        if (S::STAGES == 2) {
            if (next_head < group) load(next_head, next_query, stage ^ 1);
            cp_async_commit();
            cp_async_wait<1>();
        } else {
            cp_async_wait<0>();
        }
        __syncthreads();
        // In steps of 16 queries, one after the other: with all at once the sums would not fit the registers.
        UNROLL_NOT
        for (int step = 0; step < QUERIES; step += 16) {
            int first = query + step;
            // Hidden from all queries of the step (and zeros behind the end).
            if (first >= work.end || (causal && first + 15 < work.first + warp * 16)) continue;
            Tile<T, D> q_tile{base + stage * STAGE + step * ROW_BYTES}, do_tile{q_tile.base + QUERIES * ROW_BYTES};
            // Queries are columns here. Those from the end on are zeros in Q and dO; with these two zero they
            // add nothing.
            float lse_of[2][2], delta_of[2][2];
            long long at = static_cast<long long>(first_head + head) * plan.rows() + first;
            UNROLL
            for (int j = 0; j < 2; ++j) {
                UNROLL
                for (int i = 0; i < 2; ++i) {
                    int column = 8 * j + 2 * t + i;
                    bool valid = first + column < work.end;
                    lse_of[j][i] = valid ? lse[at + column] : 0.0f;
                    delta_of[j][i] = valid ? delta[at + column] : 0.0f;
                }
            }
            float p[2][4], d_s[2][4];
            rows_by_rows<16>(p, k_rows, q_tile);
            rows_by_rows<16>(d_s, v_rows, do_tile);
            bool partly = causal && first < work.first + warp * 16 + 15;
            UNROLL
            for (int j = 0; j < 2; ++j) {
                UNROLL
                for (int i = 0; i < 4; ++i) {
                    p[j][i] = exp2_fast(p[j][i] * scale - lse_of[j][i % 2]);
                    if (partly && row + i / 2 * 8 > first + 8 * j + 2 * t + i % 2) p[j][i] = 0.0f;
                    d_s[j][i] = p[j][i] * (d_s[j][i] - delta_of[j][i % 2]);
                }
            }
            add_product<16>(d_value, p, do_tile);
            add_product<16>(d_key, d_s, q_tile);
        }
        __syncthreads();  // the next tile but one goes where this one was
        head = next_head, query = next_query;
        if (S::STAGES == 2) {
            stage ^= 1;
        } else if (head < group) {
            load(head, query, 0);
            cp_async_commit();
        }
    }
    cp_async_wait<0>();
    // Each warp sends its 16 rows out by way of the same place, one gradient after the other.
    const float ones[2] = {1.0f, 1.0f}, scales[2] = {plan.scale(), plan.scale()};
    int first = work.first + warp * 16;
    store_rows(d_value, ones, Tile<T, D>{base}, warp * 16, d_v + kv_head * D, plan.dkv_stride(), first, work.end);
    __syncwarp();
    store_rows(d_key, scales, Tile<T, D>{base}, warp * 16, d_k + kv_head * D, plan.dkv_stride(), first, work.end);
}
