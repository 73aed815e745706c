// Tile sizes. Shared memory is declared in the source, since the door through which these kernels are
// launched gives no dynamic memory: at most 48 KB per block. On an A6000 (100 KB and 64 K registers
// per SM, 1 KB of it per block) 48 KB still let two blocks run side by side, 32 KB three.
//
// bf16: 4 warps of 16 rows each. Rows that a warp keeps for all of the kernel are A operands in
// registers; what all warps read is in shared memory.
//   forward:  Q in registers (32 at D 128), 64 keys: K and V 16 KB each. V comes in while the scores
//             are computed, the next K while P V is: no second buffer is needed.
//   dQ:       Q and dO in registers, 32 keys, K and V twice: 32 KB at D 128.
//   dK, dV:   128 registers of sums at D 128, K in registers, V in shared memory (16 KB), 32 queries, Q
//             and dO twice (32 KB): 48 KB to the byte. For smaller D V is in registers, too. The scores
//             are computed for 16 queries at a time, or the sums would spill.
// f32 is for comparison: 2 warps, operands in shared memory, one buffer, 16 rows at a time.
#pragma once

#include "tile.cuh"

// On sm_100 the compiler needs a few registers more than the others, and would spill.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
#define NEWEST 1
#else
#define NEWEST 0
#endif

template <class T, int D>
struct Shape {
    static constexpr int THREADS = 128, ROWS = 64;  // 16 rows of the block's own per warp
    static constexpr int KEYS = 64, BACKWARD_KEYS = 32, QUERIES = 32, STAGES = 2;
    static constexpr bool IN_REGISTERS = true, V_IN_REGISTERS = D < 128;
    static constexpr int FORWARD_BLOCKS = (D > 72 ? 3 : 4) - NEWEST;
    static constexpr int QUERY_BLOCKS = D > 72 ? 2 : 3, KEY_BLOCKS = D > 72 || NEWEST ? 2 : 3;
};
template <int D>
struct Shape<float, D> {
    static constexpr int THREADS = 64, ROWS = 32;  // product.cuh counts on the 64
    static constexpr int KEYS = 16, BACKWARD_KEYS = 16, QUERIES = 16, STAGES = 1;
    static constexpr bool IN_REGISTERS = false, V_IN_REGISTERS = false;
    static constexpr int FORWARD_BLOCKS = 2, QUERY_BLOCKS = 2, KEY_BLOCKS = 2;
};

#define LOG2_E 1.4426950408889634f
