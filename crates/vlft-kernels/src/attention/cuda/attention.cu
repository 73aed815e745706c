// The three kernels for one element type and head dimension, which are given as macros: ELEMENT (bf16 or
// float) and HEAD_DIM (a multiple of 8). ONLY, if given, is the number of the one that is wanted: CubeCL
// compiles each by itself, and what it keeps on disk it finds by the text. The number of blocks that shall
// fit on an SM bounds the registers.
#include "backward_key.cuh"
#include "backward_query.cuh"
#include "forward.cuh"

typedef Shape<ELEMENT, HEAD_DIM> OwnShape;

#if !defined(ONLY) || ONLY == 1
extern "C" __global__ void __launch_bounds__(OwnShape::THREADS, OwnShape::FORWARD_BLOCKS)
    attention_forward_kernel(const ELEMENT* q, const ELEMENT* k, const ELEMENT* v, ELEMENT* o, float* lse,
                             const int* plan) {
    attention_forward<ELEMENT, HEAD_DIM>(q, k, v, o, lse, plan);
}
#endif

#if !defined(ONLY) || ONLY == 2
extern "C" __global__ void __launch_bounds__(OwnShape::THREADS, OwnShape::QUERY_BLOCKS)
    attention_backward_query_kernel(const ELEMENT* q, const ELEMENT* k, const ELEMENT* v, const ELEMENT* o,
                                    const ELEMENT* d_o, const float* lse, ELEMENT* d_q, float* delta,
                                    const int* plan) {
    attention_backward_query<ELEMENT, HEAD_DIM>(q, k, v, o, d_o, lse, d_q, delta, plan);
}
#endif

#if !defined(ONLY) || ONLY == 3
extern "C" __global__ void __launch_bounds__(OwnShape::THREADS, OwnShape::KEY_BLOCKS)
    attention_backward_key_kernel(const ELEMENT* q, const ELEMENT* k, const ELEMENT* v, const ELEMENT* d_o,
                                  const float* lse, const float* delta, ELEMENT* d_k, ELEMENT* d_v,
                                  const int* plan) {
    attention_backward_key<ELEMENT, HEAD_DIM>(q, k, v, d_o, lse, delta, d_k, d_v, plan);
}
#endif
