// The run-time half of the PTX that ptx translates: what a thread knows of itself, and each
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
INLINE f32 f32_from_s64_rm(s64 v) { return f32_toward((f64)v, -1); }
INLINE f32 f32_from_s64_rp(s64 v) { return f32_toward((f64)v, 1); }
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

#include "device_whole.h"
#include "device_warp.h"
#include "device_matrix.h"
