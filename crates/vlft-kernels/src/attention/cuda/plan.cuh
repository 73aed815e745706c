// What the host says about one call: a header of numbers, then the tiles to work on. Written by
// `Plan::new` in plan.rs, which has the same list.
#pragma once

#include "ptx.cuh"

struct Plan {
    const int* words;

    __device__ __forceinline__ int rows() const { return words[0]; }  // N
    __device__ __forceinline__ int group() const { return words[1]; }  // Hq / Hkv
    __device__ __forceinline__ bool causal() const { return words[2] != 0; }
    __device__ __forceinline__ float scale() const { return bits_to_float(words[3]); }  // above 0
    // Elements from one row to the next.
    __device__ __forceinline__ int q_stride() const { return words[4]; }
    __device__ __forceinline__ int k_stride() const { return words[5]; }
    __device__ __forceinline__ int v_stride() const { return words[6]; }
    __device__ __forceinline__ int o_stride() const { return words[7]; }
    __device__ __forceinline__ int do_stride() const { return words[8]; }
    __device__ __forceinline__ int dq_stride() const { return words[9]; }
    __device__ __forceinline__ int dkv_stride() const { return words[10]; }
};

// Consecutive rows of one segment, the work of one block. The host lists them with the most work first,
// once for query rows and once for key rows: a causal query tile has the more keys the later it is,
// a key tile the more queries the earlier.
struct Work {
    int start, end;  // the segment
    int first;       // row of the tile; it ends where the segment does at the latest

    __device__ __forceinline__ Work(const Plan& plan, int list, int index) {
        const int* at = plan.words + 16 + (list * gridDim.y + index) * 4;
        start = at[0], end = at[1], first = at[2];
    }
};
