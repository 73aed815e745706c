// Rows of a matrix in shared memory, laid out so that ldmatrix and the copies meet no bank conflict,
// and the ways in and out.
#pragma once

#include "ptx.cuh"

struct bf16 {
    unsigned short bits;
};

// Row r, 16-byte chunk c. 8 chunks fill all banks once. ldmatrix reads one chunk c of rows r to r + 7, the
// copies write 8 chunks in the order of rows: both need 8 different places modulo 8. With 1, 2, 4 or a
// multiple of 8 chunks per row, c is xored with the number of the 128-byte line; else (D 72: 9 of its own)
// an odd number per row does it. The emulator counts: no conflict in bf16. f32 has some, and at D
// 128 is not xored at all: each bit doubles the addresses that are kept in registers, and sums spilled.
template <class T, int D>
struct Tile {
    static constexpr int PER_CHUNK = 16 / sizeof(T);
    static constexpr int CHUNKS = D / PER_CHUNK;
    static constexpr bool XORED = CHUNKS % 8 == 0 || 8 % CHUNKS == 0;
    static constexpr int LINE = CHUNKS < 8 ? 8 / CHUNKS : 1, MASK = CHUNKS < 8 ? CHUNKS - 1 : CHUNKS > 16 ? 0 : 7;
    static constexpr int STRIDE = XORED ? CHUNKS : CHUNKS | 1;
    static constexpr int ROW_BYTES = STRIDE * 16;

    unsigned base;

    __device__ __forceinline__ unsigned chunk(int row, int c) const {
        return base + (row * STRIDE + (XORED ? c ^ (row / LINE & MASK) : c)) * 16;
    }
    __device__ __forceinline__ unsigned element(int row, int column) const {
        return chunk(row, column / PER_CHUNK) + column % PER_CHUNK * sizeof(T);
    }
};

// Asks for rows `first` to `first + ROWS` of the D columns at `head`; rows from `end` on are zeros.
// `first` is below `end`.
template <int ROWS, int THREADS, class T, int D>
__device__ __forceinline__ void load_tile(Tile<T, D> tile, const T* head, int stride, int first, int end) {
    constexpr int CHUNKS = Tile<T, D>::CHUNKS;
    // Not unrolled: the addresses of all rounds at once would cost the registers the sums need.
    UNROLL_NOT
    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
        int row = i / CHUNKS, c = i % CHUNKS;
        bool valid = first + row < end;
        const T* from = head + static_cast<long long>(valid ? first + row : first) * stride;
        cp_async16(tile.chunk(row, c), from + c * Tile<T, D>::PER_CHUNK, valid);
    }
}

// Two neighbours of one row; the pointer only names the type.
__device__ __forceinline__ void write_pair(const bf16*, unsigned at, float x, float y) {
    shared_write<unsigned>(at, pack_bf16(x, y));
}
__device__ __forceinline__ void write_pair(const float*, unsigned at, float x, float y) {
    shared_write<float2>(at, float2{x, y});
}

// The 16 rows of this warp's accumulators, row g times `scale[0]` and row g + 8 times `scale[1]`, to rows
// `first` and on of global memory, those before `end` only. By way of `stage` (rows `row` and on, which
// no other warp uses), so that global memory is written by whole chunks.
template <class T, int D>
__device__ __forceinline__ void store_rows(float (&acc)[D / 8][4], const float (&scale)[2], Tile<T, D> stage,
                                           int row, T* head, int stride, int first, int end) {
    constexpr int CHUNKS = Tile<T, D>::CHUNKS;
    int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    UNROLL
    for (int j = 0; j < D / 8; ++j) {
        UNROLL
        for (int h = 0; h < 2; ++h)
            write_pair(static_cast<const T*>(nullptr), stage.element(row + g + 8 * h, 8 * j + 2 * t), acc[j][2 * h] * scale[h],
                       acc[j][2 * h + 1] * scale[h]);
    }
    __syncwarp();
    UNROLL_NOT
    for (int i = lane; i < 16 * CHUNKS; i += 32) {
        int r = i / CHUNKS, c = i % CHUNKS;
        if (first + r >= end) continue;
        uint4 chunk = shared_read<uint4>(stage.chunk(row + r, c));
        T* to = head + static_cast<long long>(first + r) * stride + c * Tile<T, D>::PER_CHUNK;
        *reinterpret_cast<uint4*>(to) = chunk;
    }
}

// 16 bytes of a row as f32: their number is Tile::PER_CHUNK.
__device__ __forceinline__ void widen(const bf16* from, float* x) {
    uint4 c = *reinterpret_cast<const uint4*>(from);
    const unsigned words[4] = {c.x, c.y, c.z, c.w};
    UNROLL
    for (int i = 0; i < 4; ++i) {
        x[2 * i] = bits_to_float(words[i] << 16);
        x[2 * i + 1] = bits_to_float(words[i] & 0xffff0000u);
    }
}
__device__ __forceinline__ void widen(const float* from, float* x) {
    float4 c = *reinterpret_cast<const float4*>(from);
    x[0] = c.x, x[1] = c.y, x[2] = c.z, x[3] = c.w;
}
