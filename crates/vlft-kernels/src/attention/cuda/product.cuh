// Products of 16 rows per warp with a tile, in the register layout of mma.m16n8k16. g is lane / 4, t is
// lane % 4; a lane holds of an accumulator (16 x 8) the elements (g, 2t), (g, 2t+1), (g+8, 2t),
// (g+8, 2t+1); of A (16 x 16) those four and the same of columns 8 to 15; of B (16 x 8) rows 2t, 2t+1,
// 2t+8, 2t+9 of column g. An accumulator pair therefore is an A operand as it stands.
//
// bf16 goes to the tensor cores. f32 keeps the layout and multiplies by FMA, operands passed round by
// shuffles: it is slow, and there to compare f32 runs through the same kernels.
#pragma once

#include "tile.cuh"

template <class T>
struct Registers;
template <>
struct Registers<bf16> {
    typedef unsigned Type;
    static constexpr int PAIR = 1;  // registers for two elements
};
template <>
struct Registers<float> {
    typedef float Type;
    static constexpr int PAIR = 2;
};

template <class T>
struct FragmentA {
    typename Registers<T>::Type r[4 * Registers<T>::PAIR];
};
// Two neighbouring B operands.
template <class T>
struct FragmentB2 {
    typename Registers<T>::Type r[4 * Registers<T>::PAIR];
    __device__ __forceinline__ const typename Registers<T>::Type* half(int i) const {
        return r + 2 * Registers<T>::PAIR * i;
    }
};

// --- bf16 ---

// Rows `row` to `row + 15`, columns 16 `step` and the next 15 (7 when TAIL).
template <bool TAIL, int D>
__device__ __forceinline__ void load_a(FragmentA<bf16>& a, Tile<bf16, D> tile, int row, int step) {
    int lane = threadIdx.x % 32, i = lane / 8, r = row + i % 2 * 8 + lane % 8;
    if (TAIL) ldmatrix2(a.r, tile.chunk(r, 2 * step));
    else ldmatrix4(a.r, tile.chunk(r, 2 * step + i / 2));
}

// The transposed of rows `row` to `row + 15`, columns as in load_a: two B operands, the rows are columns
// of B. For TAIL the operands lie in r[0] and r[1].
template <bool TAIL, int D>
__device__ __forceinline__ void load_b_rows(FragmentB2<bf16>& b, Tile<bf16, D> tile, int row, int step) {
    int lane = threadIdx.x % 32, i = lane / 8;
    if (TAIL) ldmatrix2(b.r, tile.chunk(row + i % 2 * 8 + lane % 8, 2 * step));
    else ldmatrix4(b.r, tile.chunk(row + i / 2 * 8 + lane % 8, 2 * step + i % 2));
}

// Rows `row` to `row + 15`, columns 8 `j` and the next 15 (7 when SINGLE) as they stand.
template <bool SINGLE, int D>
__device__ __forceinline__ void load_b_columns(FragmentB2<bf16>& b, Tile<bf16, D> tile, int row, int j) {
    int lane = threadIdx.x % 32, i = lane / 8, r = row + i % 2 * 8 + lane % 8;
    if (SINGLE) ldmatrix2_transposed(b.r, tile.chunk(r, j));
    else ldmatrix4_transposed(b.r, tile.chunk(r, j + i / 2));
}

template <bool TAIL>
__device__ __forceinline__ void multiply(float (&c)[4], const FragmentA<bf16>& a, const FragmentB2<bf16>& b,
                                         int half) {
    if (TAIL) mma8(c, a.r, b.r + half);
    else mma16(c, a.r, b.half(half));
}

__device__ __forceinline__ void pack(FragmentA<bf16>& a, const float (&c0)[4], const float (&c1)[4]) {
    a.r[0] = pack_bf16(c0[0], c0[1]);
    a.r[1] = pack_bf16(c0[2], c0[3]);
    a.r[2] = pack_bf16(c1[0], c1[1]);
    a.r[3] = pack_bf16(c1[2], c1[3]);
}

// --- f32 ---

template <bool TAIL, int D>
__device__ __forceinline__ void load_a(FragmentA<float>& a, Tile<float, D> tile, int row, int step) {
    int lane = computed_again(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    UNROLL
    for (int i = 0; i < (TAIL ? 2 : 4); ++i) {
        float2 pair = shared_read<float2>(tile.element(row + g + i % 2 * 8, 16 * step + i / 2 * 8 + 2 * t));
        a.r[2 * i] = pair.x, a.r[2 * i + 1] = pair.y;
    }
}
template <bool TAIL, int D>
__device__ __forceinline__ void load_b_rows(FragmentB2<float>& b, Tile<float, D> tile, int row, int step) {
    int lane = computed_again(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    UNROLL
    for (int n = 0; n < 2; ++n) {
        UNROLL
        for (int i = 0; i < (TAIL ? 1 : 2); ++i) {
            float2 pair = shared_read<float2>(tile.element(row + 8 * n + g, 16 * step + 8 * i + 2 * t));
            b.r[4 * n + 2 * i] = pair.x, b.r[4 * n + 2 * i + 1] = pair.y;
        }
    }
}
template <bool SINGLE, int D>
__device__ __forceinline__ void load_b_columns(FragmentB2<float>& b, Tile<float, D> tile, int row, int j) {
    int lane = computed_again(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    UNROLL
    for (int n = 0; n < (SINGLE ? 1 : 2); ++n) {
        UNROLL
        for (int i = 0; i < 4; ++i)
            b.r[4 * n + i] = shared_read<float>(tile.element(row + i / 2 * 8 + 2 * t + i % 2, 8 * (j + n) + g));
    }
}
template <bool TAIL>
__device__ __forceinline__ void multiply(float (&c)[4], const FragmentA<float>& a, const FragmentB2<float>& b,
                                         int half) {
    int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const float* column = b.half(half);
    // 4: f32 blocks have 64 threads. Known as 4, ptxas unrolls it for sm_90 all the same, and sums spill.
    int holders = blockDim.x / 16;
    UNROLL_NOT
    for (int holder = 0; holder < holders; ++holder) {
        UNROLL
        for (int k = 0; k < (TAIL ? 2 : 4); ++k) {  // of the columns 8 (k / 2) + 2 holder + k % 2
            float a0 = __shfl_sync(0xffffffffu, a.r[k / 2 * 4 + k % 2], g * 4 + holder);
            float a1 = __shfl_sync(0xffffffffu, a.r[k / 2 * 4 + 2 + k % 2], g * 4 + holder);
            float b0 = __shfl_sync(0xffffffffu, column[k], 2 * t * 4 + holder);
            float b1 = __shfl_sync(0xffffffffu, column[k], (2 * t + 1) * 4 + holder);
            c[0] += a0 * b0, c[1] += a0 * b1, c[2] += a1 * b0, c[3] += a1 * b1;
        }
    }
}
__device__ __forceinline__ void pack(FragmentA<float>& a, const float (&c0)[4], const float (&c1)[4]) {
    UNROLL
    for (int i = 0; i < 4; ++i) a.r[i] = c0[i], a.r[4 + i] = c1[i];
}

// --- either ---

// 16 rows of length D as A operands: in registers for the whole kernel, or read again from their tile.
template <class T, int D, bool IN_REGISTERS>
struct RowsA;
template <class T, int D>
struct RowsA<T, D, true> {
    static constexpr int STEPS = D / 16, TAIL = D % 16 / 8;
    FragmentA<T> a[STEPS + TAIL];
    __device__ __forceinline__ void take(Tile<T, D> tile, int row) {
        UNROLL
        for (int s = 0; s < STEPS; ++s) load_a<false>(a[s], tile, row, s);
        if (TAIL) load_a<true>(a[STEPS + TAIL - 1], tile, row, STEPS);
    }
    template <bool IS_TAIL>
    __device__ __forceinline__ void get(FragmentA<T>& out, int step) const {
        out = a[step];
    }
};
template <class T, int D>
struct RowsA<T, D, false> {
    Tile<T, D> tile;
    int row;
    __device__ __forceinline__ void take(Tile<T, D> from, int first) { tile = from, row = first; }
    template <bool IS_TAIL>
    __device__ __forceinline__ void get(FragmentA<T>& out, int step) const {
        load_a<IS_TAIL>(out, tile, row, step);
    }
};

// c = A tile^T: the products of 16 rows with the N rows of `tile`.
template <int N, class T, int D, bool R>
__device__ __forceinline__ void rows_by_rows(float (&c)[N / 8][4], const RowsA<T, D, R>& rows, Tile<T, D> tile) {
    UNROLL
    for (int j = 0; j < N / 8; ++j) c[j][0] = c[j][1] = c[j][2] = c[j][3] = 0.0f;
    FragmentA<T> a;
    FragmentB2<T> b;
    UNROLL
    for (int s = 0; s < D / 16; ++s) {
        rows.template get<false>(a, s);
        UNROLL
        for (int j = 0; j < N / 8; j += 2) {
            load_b_rows<false>(b, tile, 8 * j, s);
            multiply<false>(c[j], a, b, 0);
            multiply<false>(c[j + 1], a, b, 1);
        }
    }
    if (D % 16) {
        rows.template get<true>(a, D / 16);
        UNROLL
        for (int j = 0; j < N / 8; j += 2) {
            load_b_rows<true>(b, tile, 8 * j, D / 16);
            multiply<true>(c[j], a, b, 0);
            multiply<true>(c[j + 1], a, b, 1);
        }
    }
}

// acc += x tile: x is 16 x N as accumulators, rounded to T here; `tile` has N rows.
template <int N, class T, int D>
__device__ __forceinline__ void add_product(float (&acc)[D / 8][4], const float (&x)[N / 8][4], Tile<T, D> tile) {
    FragmentA<T> a;
    FragmentB2<T> b;
    UNROLL
    for (int k = 0; k < N / 16; ++k) {
        pack(a, x[2 * k], x[2 * k + 1]);
        UNROLL
        for (int j = 0; j + 1 < D / 8; j += 2) {
            load_b_columns<false>(b, tile, 16 * k, j);
            multiply<false>(acc[j], a, b, 0);
            multiply<false>(acc[j + 1], a, b, 1);
        }
        if (D % 16) {
            load_b_columns<true>(b, tile, 16 * k, D / 8 - 1);
            multiply<false>(acc[D / 8 - 1], a, b, 0);
        }
    }
}

// Over the four lanes that hold one row.
__device__ __forceinline__ float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ __forceinline__ float row_sum(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
