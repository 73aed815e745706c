// Whole numbers and atomic operations of translated kernels; part of device.h.
#define WHOLE(T) \
    INLINE T min_##T(T a, T b) { return a < b ? a : b; } \
    INLINE T max_##T(T a, T b) { return a > b ? a : b; } \
    INLINE T divide_##T(T a, T b) { return b == 0 ? (T)-1 : (b == (T)-1 && (T)-1 < 0) ? (T)(0 - (u64)a) : a / b; } \
    INLINE T remainder_##T(T a, T b) { return b == 0 ? a : (b == (T)-1 && (T)-1 < 0) ? 0 : a % b; }
WHOLE(s16) WHOLE(u16) WHOLE(s32) WHOLE(u32) WHOLE(s64) WHOLE(u64)
#define SIGNED(T, U) \
    INLINE T neg_##T(T a) { return (T)(0 - (U)a); } \
    INLINE T abs_##T(T a) { return a < 0 ? (T)(0 - (U)a) : a; }
SIGNED(s16, u16) SIGNED(s32, u32) SIGNED(s64, u64)
INLINE s32 add_sat_s32(s32 a, s32 b) { return saturate_s32_from_s64((s64)a + b); }
INLINE s32 sub_sat_s32(s32 a, s32 b) { return saturate_s32_from_s64((s64)a - b); }
INLINE u32 sad_u32(u32 a, u32 b, u32 c) { return c + (a > b ? a - b : b - a); }
INLINE s32 sad_s32(s32 a, s32 b, s32 c) { return c + (a > b ? a - b : b - a); }
#define CARRY(T) \
    INLINE T add_carry_##T(u32 *cc, T a, T b) { T r; *cc = __builtin_add_overflow(a, b, &r); return r; } \
    INLINE T sub_carry_##T(u32 *cc, T a, T b) { T r; *cc = __builtin_sub_overflow(a, b, &r); return r; } \
    INLINE T addc_##T(u32 *cc, T a, T b) { T r; u32 in = *cc; u32 x = __builtin_add_overflow(a, b, &r); *cc = x | __builtin_add_overflow(r, (T)in, &r); return r; } \
    INLINE T subc_##T(u32 *cc, T a, T b) { T r; u32 in = *cc; u32 x = __builtin_sub_overflow(a, b, &r); *cc = x | __builtin_sub_overflow(r, (T)in, &r); return r; }
CARRY(u32) CARRY(u64)
INLINE u32 add_carry_s32(u32 *cc, u32 a, u32 b) { return add_carry_u32(cc, a, b); }
INLINE u32 sub_carry_s32(u32 *cc, u32 a, u32 b) { return sub_carry_u32(cc, a, b); }
INLINE u64 add_carry_s64(u32 *cc, u64 a, u64 b) { return add_carry_u64(cc, a, b); }
INLINE u64 sub_carry_s64(u32 *cc, u64 a, u64 b) { return sub_carry_u64(cc, a, b); }

INLINE u32 clz_b32(u32 v) { return v ? (u32)__builtin_clz(v) : 32; }
INLINE u32 clz_b64(u64 v) { return v ? (u32)__builtin_clzll(v) : 64; }
INLINE u32 bfind_u32(u32 v) { return v ? 31u - (u32)__builtin_clz(v) : ~0u; }
INLINE u32 bfind_u64(u64 v) { return v ? 63u - (u32)__builtin_clzll(v) : ~0u; }
INLINE u32 bfind_s32(s32 v) { return bfind_u32((u32)(v < 0 ? ~v : v)); }
INLINE u32 bfind_shift_u32(u32 v) { return v ? (u32)__builtin_clz(v) : ~0u; }
INLINE u32 brev_b32(u32 v) { u32 r = 0; for (int i = 0; i < 32; i++) r |= ((v >> i) & 1) << (31 - i); return r; }
INLINE u64 brev_b64(u64 v) { return (u64)brev_b32((u32)v) << 32 | brev_b32((u32)(v >> 32)); }
INLINE u64 bfe_u64(u64 a, u32 at, u32 n) {
    at &= 255, n &= 255;
    if (at > 63 || !n) return 0;
    a >>= at;
    return n > 63 ? a : a & ((1ull << n) - 1);
}
INLINE u32 bfe_u32(u32 a, u32 at, u32 n) { return (u32)bfe_u64(a, at, n); }
INLINE s64 bfe_s64(s64 a, u32 at, u32 n) {
    at &= 255, n &= 255;
    if (!n) return 0;
    if (at > 63) return a >> 63;
    if (at + n > 63) return a >> at;
    return (s64)((u64)a << (64 - at - n)) >> (64 - n);
}
INLINE s32 bfe_s32(s32 a, u32 at, u32 n) {
    at &= 255, n &= 255;
    if (!n) return 0;
    if (at > 31) return a >> 31;
    if (at + n > 31) return a >> at;
    return (s32)((u32)a << (32 - at - n)) >> (32 - n);
}
INLINE u64 bfi_b64(u64 a, u64 b, u32 at, u32 n) {
    at &= 255, n &= 255;
    if (at > 63 || !n) return b;
    u64 mask = (n > 63 ? ~0ull : (1ull << n) - 1) << at;
    return (b & ~mask) | ((a << at) & mask);
}
INLINE u32 bfi_b32(u32 a, u32 b, u32 at, u32 n) { return (at & 255) > 31 ? b : (u32)bfi_b64(a, b, at, n); }
INLINE u32 prmt_b32(u32 a, u32 b, u32 how) {
    u64 both = (u64)b << 32 | a;
    u32 r = 0;
    for (int i = 0; i < 4; i++, how >>= 4) {
        u8 byte = (u8)(both >> (8 * (how & 7)));
        if (how & 8) byte = byte & 0x80 ? 0xff : 0;
        r |= (u32)byte << (8 * i);
    }
    return r;
}
INLINE u32 lop3_b32(u32 a, u32 b, u32 c, u32 table) {
    u32 r = 0;
    for (u32 i = 0; i < 8; i++)
        if (table >> i & 1) r |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    return r;
}

#define DP4A(A, TA, B, TB) \
    INLINE s32 dp4a_##A##_##B(u32 a, u32 b, s32 c) { for (int i = 0; i < 32; i += 8) c += (s32)(TA)(a >> i) * (s32)(TB)(b >> i); return c; }
DP4A(s32, s8, s32, s8) DP4A(u32, u8, u32, u8) DP4A(s32, s8, u32, u8) DP4A(u32, u8, s32, s8)

// --- atomic operations, among the blocks that run at the same time ---

#define ATOMIC(T) \
    INLINE T atomic_exch_##T(T *p, T v) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); } \
    INLINE T atomic_cas_##T(T *p, T old, T v) { __atomic_compare_exchange_n(p, &old, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); return old; } \
    INLINE T atomic_add_##T(T *p, T v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); } \
    INLINE T atomic_and_##T(T *p, T v) { return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST); } \
    INLINE T atomic_or_##T(T *p, T v) { return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST); } \
    INLINE T atomic_xor_##T(T *p, T v) { return __atomic_fetch_xor(p, v, __ATOMIC_SEQ_CST); } \
    INLINE T atomic_min_##T(T *p, T v) { T o = *p; while (!__atomic_compare_exchange_n(p, &o, min_##T(o, v), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {} return o; } \
    INLINE T atomic_max_##T(T *p, T v) { T o = *p; while (!__atomic_compare_exchange_n(p, &o, max_##T(o, v), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {} return o; }
ATOMIC(u16) ATOMIC(s32) ATOMIC(u32) ATOMIC(s64) ATOMIC(u64)
INLINE u32 atomic_inc_u32(u32 *p, u32 v) { u32 o = *p; while (!__atomic_compare_exchange_n(p, &o, o >= v ? 0 : o + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {} return o; }
INLINE u32 atomic_dec_u32(u32 *p, u32 v) { u32 o = *p; while (!__atomic_compare_exchange_n(p, &o, !o || o > v ? v : o - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {} return o; }
#define ATOMIC_FLOAT(K, T, U, IN, OUT) \
    INLINE T atomic_add_##K(T *p, T v) { U *q = (U *)p, o = *q; while (!__atomic_compare_exchange_n(q, &o, OUT(add_##K(IN(o), v)), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {} return IN(o); } \
    INLINE T atomic_min_##K(T *p, T v) { U *q = (U *)p, o = *q; while (!__atomic_compare_exchange_n(q, &o, OUT(min_##K(IN(o), v)), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {} return IN(o); } \
    INLINE T atomic_max_##K(T *p, T v) { U *q = (U *)p, o = *q; while (!__atomic_compare_exchange_n(q, &o, OUT(max_##K(IN(o), v)), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {} return IN(o); }
ATOMIC_FLOAT(f32, f32, u32, as_f32, as_u32)
ATOMIC_FLOAT(f64, f64, u64, as_f64, as_u64)
ATOMIC_FLOAT(f16, u16, u16, , )
ATOMIC_FLOAT(bf16, u16, u16, , )
ATOMIC_FLOAT(f16x2, u32, u32, , )
ATOMIC_FLOAT(bf16x2, u32, u32, , )
