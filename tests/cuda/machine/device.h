// The run-time half of the PTX that ptx.py translates: what a thread knows of itself, and each
// instruction that C has no operator for. Included once per translated module; lane.h is shared
// with the driver.
#include "lane.h"
#include <math.h>
#include <string.h>

typedef float f32;
typedef double f64;
#define INLINE static inline __attribute__((always_inline, unused))
#define UNUSED static __attribute__((unused))

INLINE f32 as_f32(u32 v) { f32 f; memcpy(&f, &v, 4); return f; }
INLINE u32 as_u32(f32 v) { u32 f; memcpy(&f, &v, 4); return f; }
INLINE f64 as_f64(u64 v) { f64 f; memcpy(&f, &v, 8); return f; }
INLINE u64 as_u64(f64 v) { u64 f; memcpy(&f, &v, 8); return f; }

// --- memory ---

INLINE u8 *memory_at(Lane *L, u64 at, u32 size) {
    if (__builtin_expect(at & (size - 1), 0)) L->trap(L, "misaligned address");
    return (u8 *)at;
}
// An address that a generic pointer gave is one of the shared window too (`.shared` only after
// cvta.to in what NVRTC emits), so only the window's own offsets come here.
INLINE u8 *shared_at(Lane *L, u64 at, u32 size) {
    if (__builtin_expect((at & (size - 1)) || at + size > L->shared_bytes, 0))
        L->trap(L, at + size > L->shared_bytes ? "shared memory out of bounds" : "misaligned address");
    return L->shared + at;
}

// --- half types ---

INLINE f32 f32_from_bf16(u16 v) { return as_f32((u32)v << 16); }
INLINE f32 f32_from_f16(u16 v) { _Float16 h; memcpy(&h, &v, 2); return (f32)h; }
INLINE u16 f16_bits(_Float16 h) { u16 v; memcpy(&v, &h, 2); return v; }
INLINE u16 f16_from_f32(f32 v) { return v != v ? 0x7fff : f16_bits((_Float16)v); }
INLINE u16 bf16_from_f32(f32 v) {
    u32 u = as_u32(v);
    if (v != v) return 0x7fff;
    return (u16)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
// Rounded to odd first, so that the second rounding is the right one.
INLINE f32 f32_odd(f64 v) {
    f32 f = (f32)v;
    if ((f64)f == v || v != v) return f;
    u32 u = as_u32(f);
    if (__builtin_isinf(f)) return f;
    if (fabs((f64)f) > fabs(v)) u--;
    return as_f32(u | 1);
}
INLINE u16 f16_from_f64(f64 v) { return f16_from_f32(f32_odd(v)); }
INLINE u16 bf16_from_f64(f64 v) { return bf16_from_f32(f32_odd(v)); }
INLINE u16 bf16_from_f32_rz(f32 v) { return v != v ? 0x7fff : (u16)(as_u32(v) >> 16); }
INLINE u16 f16_from_f32_rz(f32 v) {
    u16 h = f16_from_f32(v);
    if (v == v && fabsf(f32_from_f16(h)) > fabsf(v)) h--;
    return h;
}
INLINE u32 tf32_from_f32(f32 v) { u32 u = as_u32(v); return (u + 0x1000) & ~0x1fffu; }

#define FROM_WHOLE(T) \
    INLINE u16 f16_from_##T(T v) { return f16_from_f64((f64)v); } \
    INLINE u16 bf16_from_##T(T v) { return bf16_from_f64((f64)v); } \
    INLINE f32 f32_from_##T(T v) { return (f32)v; } \
    INLINE f64 f64_from_##T(T v) { return (f64)v; }
FROM_WHOLE(s64)
FROM_WHOLE(u64)

INLINE f32 f32_toward(f64 exact, int way) { // -1 down, 1 up, 0 zero
    f32 f = (f32)exact;
    if (way == 0 ? fabs((f64)f) > fabs(exact) : way < 0 ? (f64)f > exact : (f64)f < exact)
        f = nextafterf(f, way == 0 ? 0.0f : way < 0 ? -INFINITY : INFINITY);
    return f;
}
INLINE f32 f32_from_f64_rz(f64 v) { return f32_toward(v, 0); }
INLINE f32 f32_from_f64_rm(f64 v) { return f32_toward(v, -1); }
INLINE f32 f32_from_f64_rp(f64 v) { return f32_toward(v, 1); }
INLINE f32 f32_from_s64_rz(s64 v) { return f32_toward((f64)v, 0); }
INLINE f32 f32_from_u64_rz(u64 v) { return f32_toward((f64)v, 0); }
INLINE f32 f32_from_u64_rp(u64 v) { return f32_toward((f64)v, 1); }
INLINE f32 f32_from_u64_rm(u64 v) { return f32_toward((f64)v, -1); }

INLINE f64 to_whole(f64 v, char mode) {
    return mode == 'n' ? rint(v) : mode == 'm' ? floor(v) : mode == 'p' ? ceil(v) : trunc(v);
}
#define FROM_FLOAT(T, LOW, HIGH) \
    INLINE T T##_from_float(f64 v, char mode) { \
        v = to_whole(v, mode); \
        return v != v ? 0 : v <= (f64)(LOW) ? (T)(LOW) : v >= (f64)(HIGH) ? (T)(HIGH) : (T)v; \
    }
FROM_FLOAT(s8, -128, 127)
FROM_FLOAT(s16, -32768, 32767)
FROM_FLOAT(s32, -2147483648.0, 2147483647)
FROM_FLOAT(s64, -9223372036854775807ll - 1, 9223372036854775807ll)
FROM_FLOAT(u8, 0, 255)
FROM_FLOAT(u16, 0, 65535)
FROM_FLOAT(u32, 0, 4294967295u)
FROM_FLOAT(u64, 0, 18446744073709551615ull)
#define SATURATE(T, LOW, HIGH) \
    INLINE T saturate_##T##_from_s64(s64 v) { return v < (s64)(LOW) ? (T)(LOW) : v > (s64)(HIGH) ? (T)(HIGH) : (T)v; } \
    INLINE T saturate_##T##_from_u64(u64 v) { return v > (u64)(HIGH) ? (T)(HIGH) : (T)v; }
SATURATE(s8, -128, 127)
SATURATE(s16, -32768, 32767)
SATURATE(s32, -2147483648ll, 2147483647)
SATURATE(u8, 0, 255)
SATURATE(u16, 0, 65535)
SATURATE(u32, 0, 4294967295u)

#define ROUND(K, T, R, W) \
    INLINE T round_rni_##K(T v) { return W(rint((f64)R(v))); } \
    INLINE T round_rzi_##K(T v) { return W(trunc((f64)R(v))); } \
    INLINE T round_rmi_##K(T v) { return W(floor((f64)R(v))); } \
    INLINE T round_rpi_##K(T v) { return W(ceil((f64)R(v))); }
ROUND(f32, f32, , (f32))
ROUND(f64, f64, , )
ROUND(f16, u16, f32_from_f16, f16_from_f64)
ROUND(bf16, u16, f32_from_bf16, bf16_from_f64)

// --- floats ---

INLINE f32 flush(f32 v) { return fabsf(v) < 1.17549435e-38f ? copysignf(0.0f, v) : v; }

// a * b + c, exact to the last bit but one and marked odd where something is left over.
INLINE f64 fma_odd(f64 a, f64 b, f64 c) {
    f64 product = a * b, sum = product + c; // the product of two f32 is exact in f64
    f64 part = sum - product, rest = (product - (sum - part)) + (c - part);
    if (rest != 0 && __builtin_isfinite(sum)) {
        u64 u = as_u64(sum);
        if (!(u & 1)) u += ((rest > 0) == (sum > 0)) ? 1 : -1;
        sum = as_f64(u);
    }
    return sum;
}

#define FLOAT(T, S) \
    INLINE T add_##T(T a, T b) { return a + b; } \
    INLINE T sub_##T(T a, T b) { return a - b; } \
    INLINE T mul_##T(T a, T b) { return a * b; } \
    INLINE T div_##T(T a, T b) { return a / b; } \
    INLINE T fma_##T(T a, T b, T c) { return __builtin_fma##S(a, b, c); } \
    INLINE T neg_##T(T a) { return -a; } \
    INLINE T abs_##T(T a) { return __builtin_fabs##S(a); } \
    INLINE T min_##T(T a, T b) { return a != a ? b : b != b ? a : a < b || (a == b && __builtin_signbit(a)) ? a : b; } \
    INLINE T max_##T(T a, T b) { return a != a ? b : b != b ? a : a > b || (a == b && !__builtin_signbit(a)) ? a : b; } \
    INLINE T min_nan_##T(T a, T b) { return a != a || b != b ? (T)NAN : min_##T(a, b); } \
    INLINE T max_nan_##T(T a, T b) { return a != a || b != b ? (T)NAN : max_##T(a, b); } \
    INLINE T rcp_##T(T a) { return 1 / a; } \
    INLINE T sqrt_##T(T a) { return __builtin_sqrt##S(a); } \
    INLINE T rsqrt_##T(T a) { return (T)(1 / sqrt((f64)a)); } \
    INLINE T sin_##T(T a) { return (T)sin((f64)a); } \
    INLINE T cos_##T(T a) { return (T)cos((f64)a); } \
    INLINE T lg2_##T(T a) { return log2##S(a); } \
    INLINE T ex2_##T(T a) { return exp2##S(a); } \
    INLINE T tanh_##T(T a) { return tanh##S(a); } \
    INLINE T copysign_##T(T a, T b) { return __builtin_copysign##S(b, a); } \
    INLINE T saturate_##T(T a) { return a > 0 ? (a < 1 ? a : 1) : 0; } \
    INLINE T relu_##T(T a) { return a > 0 ? a : 0; } \
    INLINE u8 testp_finite_##T(T a) { return __builtin_isfinite(a); } \
    INLINE u8 testp_infinite_##T(T a) { return __builtin_isinf(a) != 0; } \
    INLINE u8 testp_number_##T(T a) { return a == a; } \
    INLINE u8 testp_notanumber_##T(T a) { return a != a; } \
    INLINE u8 testp_normal_##T(T a) { return __builtin_isnormal(a); } \
    INLINE u8 testp_subnormal_##T(T a) { return a != 0 && __builtin_isfinite(a) && !__builtin_isnormal(a); }
FLOAT(f32, f)
FLOAT(f64, )
INLINE f32 fma_f32_rm(f32 a, f32 b, f32 c) { return f32_toward(fma_odd(a, b, c), -1); }
INLINE f32 fma_f32_rp(f32 a, f32 b, f32 c) { return f32_toward(fma_odd(a, b, c), 1); }
INLINE f32 fma_f32_rz(f32 a, f32 b, f32 c) { return f32_toward(fma_odd(a, b, c), 0); }
INLINE f32 add_f32_rm(f32 a, f32 b) { return fma_f32_rm(a, 1, b); }
INLINE f32 add_f32_rp(f32 a, f32 b) { return fma_f32_rp(a, 1, b); }
INLINE f32 add_f32_rz(f32 a, f32 b) { return fma_f32_rz(a, 1, b); }
INLINE f32 mul_f32_rm(f32 a, f32 b) { return f32_toward((f64)a * b, -1); }
INLINE f32 mul_f32_rp(f32 a, f32 b) { return f32_toward((f64)a * b, 1); }
INLINE f32 mul_f32_rz(f32 a, f32 b) { return f32_toward((f64)a * b, 0); }

// f32 holds more than twice the bits of a half type and two, so one operation in f32 and one
// rounding are exact; fma needs the odd rounding.
#define HALF(K) \
    INLINE u16 add_##K(u16 a, u16 b) { return K##_from_f32(f32_from_##K(a) + f32_from_##K(b)); } \
    INLINE u16 sub_##K(u16 a, u16 b) { return K##_from_f32(f32_from_##K(a) - f32_from_##K(b)); } \
    INLINE u16 mul_##K(u16 a, u16 b) { return K##_from_f32(f32_from_##K(a) * f32_from_##K(b)); } \
    INLINE u16 fma_##K(u16 a, u16 b, u16 c) { return K##_from_f64(fma_odd(f32_from_##K(a), f32_from_##K(b), f32_from_##K(c))); } \
    INLINE u16 neg_##K(u16 a) { return a ^ 0x8000; } \
    INLINE u16 abs_##K(u16 a) { return a & 0x7fff; } \
    INLINE u16 min_##K(u16 a, u16 b) { return K##_from_f32(min_f32(f32_from_##K(a), f32_from_##K(b))); } \
    INLINE u16 max_##K(u16 a, u16 b) { return K##_from_f32(max_f32(f32_from_##K(a), f32_from_##K(b))); } \
    INLINE u16 min_nan_##K(u16 a, u16 b) { return K##_from_f32(min_nan_f32(f32_from_##K(a), f32_from_##K(b))); } \
    INLINE u16 max_nan_##K(u16 a, u16 b) { return K##_from_f32(max_nan_f32(f32_from_##K(a), f32_from_##K(b))); } \
    INLINE u16 ex2_##K(u16 a) { return K##_from_f32(exp2f(f32_from_##K(a))); } \
    INLINE u16 tanh_##K(u16 a) { return K##_from_f32(tanhf(f32_from_##K(a))); } \
    INLINE u16 saturate_##K(u16 a) { return K##_from_f32(saturate_f32(f32_from_##K(a))); } \
    INLINE u16 relu_##K(u16 a) { return K##_from_f32(relu_f32(f32_from_##K(a))); } \
    INLINE u32 K##x2_two(u16 low, u16 high) { return (u32)high << 16 | low; } \
    INLINE u32 add_##K##x2(u32 a, u32 b) { return K##x2_two(add_##K(a, b), add_##K(a >> 16, b >> 16)); } \
    INLINE u32 sub_##K##x2(u32 a, u32 b) { return K##x2_two(sub_##K(a, b), sub_##K(a >> 16, b >> 16)); } \
    INLINE u32 mul_##K##x2(u32 a, u32 b) { return K##x2_two(mul_##K(a, b), mul_##K(a >> 16, b >> 16)); } \
    INLINE u32 min_##K##x2(u32 a, u32 b) { return K##x2_two(min_##K(a, b), min_##K(a >> 16, b >> 16)); } \
    INLINE u32 max_##K##x2(u32 a, u32 b) { return K##x2_two(max_##K(a, b), max_##K(a >> 16, b >> 16)); } \
    INLINE u32 min_nan_##K##x2(u32 a, u32 b) { return K##x2_two(min_nan_##K(a, b), min_nan_##K(a >> 16, b >> 16)); } \
    INLINE u32 max_nan_##K##x2(u32 a, u32 b) { return K##x2_two(max_nan_##K(a, b), max_nan_##K(a >> 16, b >> 16)); } \
    INLINE u32 fma_##K##x2(u32 a, u32 b, u32 c) { return K##x2_two(fma_##K(a, b, c), fma_##K(a >> 16, b >> 16, c >> 16)); } \
    INLINE u32 neg_##K##x2(u32 a) { return a ^ 0x80008000u; } \
    INLINE u32 abs_##K##x2(u32 a) { return a & 0x7fff7fffu; } \
    INLINE u32 ex2_##K##x2(u32 a) { return K##x2_two(ex2_##K(a), ex2_##K(a >> 16)); } \
    INLINE u32 tanh_##K##x2(u32 a) { return K##x2_two(tanh_##K(a), tanh_##K(a >> 16)); }
HALF(f16)
HALF(bf16)

// --- whole numbers ---

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

// --- the whole warp ---

#define EACH(i) for (u32 i = 0; i < 32; i++) if (mask >> i & 1)
UNUSED void collect_nothing(Lane **lane, u32 mask) { (void)lane, (void)mask; }
#define SHFL(NAME, FROM, TEST) \
    UNUSED void collect_shfl_##NAME(Lane **lane, u32 mask) { \
        EACH(i) { \
            u32 b = lane[i]->a[1] & 31, clamp = lane[i]->a[2] & 31, segment = lane[i]->a[2] >> 8 & 31; \
            u32 high = (i & segment) | (clamp & ~segment), low = i & segment; \
            (void)low, (void)high; \
            s32 from = (FROM); \
            u32 good = (TEST); \
            if (!good) from = (s32)i; \
            lane[i]->r[0] = mask >> from & 1 ? lane[from]->a[0] : 0xdeadbeef; \
            lane[i]->r[1] = good; \
        } \
    }
SHFL(up, (s32)i - (s32)b, from >= (s32)high)
SHFL(down, (s32)(i + b), from <= (s32)high)
SHFL(bfly, (s32)(i ^ b), from <= (s32)high)
SHFL(idx, (s32)(low | (b & ~segment)), from <= (s32)high)
static inline u32 ballot(Lane **lane, u32 mask) {
    u32 found = 0;
    EACH(i) found |= (lane[i]->a[0] & 1) << i;
    return found;
}
#define VOTE(NAME, VALUE) \
    UNUSED void collect_vote_##NAME(Lane **lane, u32 mask) { u32 found = ballot(lane, mask); EACH(i) lane[i]->r[0] = (VALUE); }
VOTE(all, found == mask)
VOTE(any, found != 0)
VOTE(uni, found == mask || found == 0)
VOTE(ballot, found)
UNUSED void collect_match_any(Lane **lane, u32 mask) {
    EACH(i) {
        u32 same = 0;
        for (u32 j = 0; j < 32; j++)
            if (mask >> j & 1 && lane[j]->w == lane[i]->w) same |= 1u << j;
        lane[i]->r[0] = same, lane[i]->r[1] = same == mask;
    }
}
UNUSED void collect_match_all(Lane **lane, u32 mask) {
    collect_match_any(lane, mask);
    EACH(i) lane[i]->r[0] = lane[i]->r[1] ? mask : 0;
}
#define REDUX(OP, T, START, STEP) \
    UNUSED void collect_redux_##OP##_##T(Lane **lane, u32 mask) { \
        T sum = (T)(START); \
        EACH(i) { T v = (T)lane[i]->a[0]; sum = (STEP); } \
        EACH(i) lane[i]->r[0] = (u32)sum; \
    }
REDUX(add, u32, 0, sum + v) REDUX(add, s32, 0, (s32)((u32)sum + (u32)v))
REDUX(min, u32, ~0u, v < sum ? v : sum) REDUX(max, u32, 0, v > sum ? v : sum)
REDUX(min, s32, 2147483647, v < sum ? v : sum) REDUX(max, s32, -2147483647 - 1, v > sum ? v : sum)
REDUX(and, u32, ~0u, sum & v) REDUX(or, u32, 0, sum | v) REDUX(xor, u32, 0, sum ^ v)

// --- matrices ---

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

// --- copies and barriers of Ampere ---

INLINE void copy_async(Lane *L, u8 *to, u64 from, u32 size, u32 given) {
    memcpy(to, memory_at(L, from, given ? size : 1), given);
    memset(to + given, 0, size - given);
}
struct mbarrier { u16 expected, pending; u32 phase; };
INLINE void mbarrier_init(u8 *at, u32 count) { *(struct mbarrier *)at = (struct mbarrier){(u16)count, (u16)count, 0}; }
INLINE u64 mbarrier_arrive(Lane *L, u8 *at, u32 count) {
    struct mbarrier *b = (struct mbarrier *)at;
    u64 phase = b->phase;
    if (count > b->pending) L->trap(L, "more arrivals at a barrier than it expects");
    if (!(b->pending -= count)) b->pending = b->expected, b->phase++;
    return phase;
}
INLINE u8 mbarrier_done(u8 *at, u64 phase) { return ((struct mbarrier *)at)->phase != (u32)phase; }
INLINE u8 mbarrier_done_parity(u8 *at, u32 parity) { return (((struct mbarrier *)at)->phase & 1) != (parity & 1); }
