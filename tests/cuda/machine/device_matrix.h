// Tensor cores: mma.sync, ldmatrix, stmatrix, wmma; part of device.h.
#define HALF_OF(WORD, WHICH) (u16)((WORD) >> (16 * (WHICH)))

// mma.sync: the layouts of the ISA's section 9.7.14. Sums are kept in f64 and rounded once; a
// tensor core truncates more, so the last bits differ from a GPU's.
#define MMA_HALF(K, KIND) \
    UNUSED void collect_mma_m16n8k##K##_##KIND(Lane **lane, u32 mask) { \
        f32 a[16][K], b[K][8]; \
        EACH(i) { \
            u32 g = i >> 2, t = (i & 3) * 2; \
            for (u32 r = 0; r < K / 4; r++) \
                for (u32 h = 0; h < 2; h++) \
                    a[g + (r & 1) * 8][t + (r >> 1) * 8 + h] = f32_from_##KIND(HALF_OF(lane[i]->a[r], h)); \
            for (u32 r = 0; r < K / 8; r++) \
                for (u32 h = 0; h < 2; h++) b[t + r * 8 + h][g] = f32_from_##KIND(HALF_OF(lane[i]->b[r], h)); \
        } \
        EACH(i) for (u32 r = 0; r < 4; r++) { \
            u32 row = (i >> 2) + (r >> 1) * 8, col = (i & 3) * 2 + (r & 1); \
            f64 sum = as_f32(lane[i]->c[r]); \
            for (u32 k = 0; k < K; k++) sum += (f64)a[row][k] * b[k][col]; \
            lane[i]->r[r] = as_u32((f32)sum); \
        } \
    }
MMA_HALF(16, f16) MMA_HALF(16, bf16) MMA_HALF(8, f16) MMA_HALF(8, bf16)
#define MMA_TF32(K) \
    UNUSED void collect_mma_m16n8k##K##_tf32(Lane **lane, u32 mask) { \
        f32 a[16][K], b[K][8]; \
        EACH(i) { \
            u32 g = i >> 2, t = i & 3; \
            for (u32 r = 0; r < K / 2; r++) a[g + (r & 1) * 8][t + (r >> 1) * 4] = as_f32(lane[i]->a[r] & ~0x1fffu); \
            for (u32 r = 0; r < K / 4; r++) b[t + r * 4][g] = as_f32(lane[i]->b[r] & ~0x1fffu); \
        } \
        EACH(i) for (u32 r = 0; r < 4; r++) { \
            u32 row = (i >> 2) + (r >> 1) * 8, col = (i & 3) * 2 + (r & 1); \
            f64 sum = as_f32(lane[i]->c[r]); \
            for (u32 k = 0; k < K; k++) sum += (f64)a[row][k] * b[k][col]; \
            lane[i]->r[r] = as_u32((f32)sum); \
        } \
    }
MMA_TF32(8) MMA_TF32(4)

UNUSED void collect_ldmatrix(Lane **lane, u32 mask) {
    EACH(i) for (u32 m = 0; m < lane[i]->n; m++) memcpy(&lane[i]->r[m], lane[m * 8 + (i >> 2)]->p + (i & 3) * 4, 4);
}
UNUSED void collect_ldmatrix_trans(Lane **lane, u32 mask) {
    EACH(i) for (u32 m = 0; m < lane[i]->n; m++) {
        u16 two[2];
        for (u32 h = 0; h < 2; h++) memcpy(&two[h], lane[m * 8 + (i & 3) * 2 + h]->p + (i >> 2) * 2, 2);
        memcpy(&lane[i]->r[m], two, 4);
    }
}
UNUSED void collect_stmatrix(Lane **lane, u32 mask) {
    EACH(i) for (u32 m = 0; m < lane[i]->n; m++) memcpy(lane[m * 8 + (i >> 2)]->p + (i & 3) * 4, &lane[i]->a[m], 4);
}
UNUSED void collect_stmatrix_trans(Lane **lane, u32 mask) {
    EACH(i) for (u32 m = 0; m < lane[i]->n; m++)
        for (u32 h = 0; h < 2; h++) {
            u16 one = HALF_OF(lane[i]->a[m], h);
            memcpy(lane[m * 8 + (i & 3) * 2 + h]->p + (i >> 2) * 2, &one, 2);
        }
}

// wmma: where an element lies in a fragment is not said by the ISA. Here lane i holds the elements
// [i * n, i * n + n) in row order, n = elements / 32; registers beyond those repeat them.
#define WMMA_ELEMENTS(ROWS, COLS) ((ROWS) * (COLS) / 32)
#define WMMA_LOAD(WHICH, SHAPE, KIND, ROWS, COLS, REGS, PER, UNIT) \
    UNUSED void wmma_load_##WHICH##_##SHAPE##_##KIND##_row(Lane *L) { \
        u32 n = WMMA_ELEMENTS(ROWS, COLS); UNIT e[REGS * PER]; \
        for (u32 x = 0; x < REGS * PER; x++) { u32 at = L->lane * n + x % n; e[x] = ((UNIT *)L->p)[(at / COLS) * L->n + at % COLS]; } \
        memcpy(L->r, e, sizeof e); \
    } \
    UNUSED void wmma_load_##WHICH##_##SHAPE##_##KIND##_col(Lane *L) { \
        u32 n = WMMA_ELEMENTS(ROWS, COLS); UNIT e[REGS * PER]; \
        for (u32 x = 0; x < REGS * PER; x++) { u32 at = L->lane * n + x % n; e[x] = ((UNIT *)L->p)[(at % COLS) * L->n + at / COLS]; } \
        memcpy(L->r, e, sizeof e); \
    }
#define WMMA_STORE(SHAPE, KIND, ROWS, COLS, UNIT) \
    UNUSED void wmma_store_d_##SHAPE##_##KIND##_row(Lane *L) { \
        for (u32 x = 0; x < 8; x++) { u32 at = L->lane * 8 + x; ((UNIT *)L->p)[(at / COLS) * L->n + at % COLS] = ((UNIT *)L->a)[x]; } \
    } \
    UNUSED void wmma_store_d_##SHAPE##_##KIND##_col(Lane *L) { \
        for (u32 x = 0; x < 8; x++) { u32 at = L->lane * 8 + x; ((UNIT *)L->p)[(at % COLS) * L->n + at / COLS] = ((UNIT *)L->a)[x]; } \
    }
#define WMMA_GET_f16(ARRAY, X) f32_from_f16(HALF_OF((ARRAY)[(X) / 2], (X) % 2))
#define WMMA_GET_bf16(ARRAY, X) f32_from_bf16(HALF_OF((ARRAY)[(X) / 2], (X) % 2))
#define WMMA_GET_tf32(ARRAY, X) as_f32((ARRAY)[X] & ~0x1fffu)
#define WMMA_GET_f32(ARRAY, X) as_f32((ARRAY)[X])
#define WMMA_PUT_f32(ARRAY, X, V) (ARRAY)[X] = as_u32((f32)(V))
#define WMMA_PUT_f16(ARRAY, X, V) ((u16 *)(ARRAY))[X] = f16_from_f64(V)
#define WMMA_MMA(M, N, K, KIND, SUM) \
    UNUSED void collect_wmma_m##M##n##N##k##K##_##KIND##_##SUM(Lane **lane, u32 mask) { \
        f32 a[M * K], b[K * N]; \
        EACH(i) { \
            for (u32 x = 0; x < M * K / 32; x++) a[i * (M * K / 32) + x] = WMMA_GET_##KIND(lane[i]->a, x); \
            for (u32 x = 0; x < K * N / 32; x++) b[i * (K * N / 32) + x] = WMMA_GET_##KIND(lane[i]->b, x); \
        } \
        EACH(i) for (u32 x = 0; x < 8; x++) { \
            u32 row = (i * 8 + x) / N, col = (i * 8 + x) % N; \
            f64 sum = WMMA_GET_##SUM(lane[i]->c, x); \
            for (u32 k = 0; k < K; k++) sum += (f64)a[row * K + k] * b[k * N + col]; \
            WMMA_PUT_##SUM(lane[i]->r, x, sum); \
        } \
    }
#define WMMA_SHAPE(M, N, K) \
    WMMA_LOAD(a, m##M##n##N##k##K, f16, M, K, 8, 2, u16) WMMA_LOAD(b, m##M##n##N##k##K, f16, K, N, 8, 2, u16) \
    WMMA_LOAD(a, m##M##n##N##k##K, bf16, M, K, (M * K / 64), 2, u16) WMMA_LOAD(b, m##M##n##N##k##K, bf16, K, N, (K * N / 64), 2, u16) \
    WMMA_LOAD(c, m##M##n##N##k##K, f32, M, N, 8, 1, u32) WMMA_LOAD(c, m##M##n##N##k##K, f16, M, N, 4, 2, u16) \
    WMMA_STORE(m##M##n##N##k##K, f32, M, N, u32) WMMA_STORE(m##M##n##N##k##K, f16, M, N, u16) \
    WMMA_MMA(M, N, K, f16, f32) WMMA_MMA(M, N, K, f16, f16) WMMA_MMA(M, N, K, bf16, f32)
WMMA_SHAPE(16, 16, 16) WMMA_SHAPE(32, 8, 16) WMMA_SHAPE(8, 32, 16)
WMMA_LOAD(a, m16n16k8, tf32, 16, 8, 4, 1, u32) WMMA_LOAD(b, m16n16k8, tf32, 8, 16, 4, 1, u32)
WMMA_LOAD(c, m16n16k8, f32, 16, 16, 8, 1, u32) WMMA_STORE(m16n16k8, f32, 16, 16, u32)
WMMA_MMA(16, 16, 8, tf32, f32)
