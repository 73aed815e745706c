// The vector types and the 16-bit floats of CUDA, with exact rounding (to nearest, ties to even).
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#define EMU_VECTOR(T, name)                                                     \
    struct name##1 { T x; };                                                    \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; };                          \
    struct name##3 { T x, y, z; };                                              \
    struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) name##4 { T x, y, z, w; }; \
    inline name##1 make_##name##1(T x) { return {x}; }                          \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                  \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMU_VECTOR(char, char)
EMU_VECTOR(unsigned char, uchar)
EMU_VECTOR(short, short)
EMU_VECTOR(unsigned short, ushort)
EMU_VECTOR(int, int)
EMU_VECTOR(long long, longlong)
EMU_VECTOR(unsigned long long, ulonglong)
EMU_VECTOR(float, float)
EMU_VECTOR(double, double)
struct uint1 { unsigned x; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
#undef EMU_VECTOR

namespace emu {

inline std::uint16_t bf16_bits(float x) {
    auto u = std::bit_cast<std::uint32_t>(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;  // CUDA's canonical NaN
    return std::uint16_t((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}
inline float bf16_value(std::uint16_t bits) {
    return std::bit_cast<float>(std::uint32_t(bits) << 16);
}
inline std::uint16_t half_bits(float x) {
    auto u = std::bit_cast<std::uint32_t>(x);
    std::uint32_t sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) return 0x7fff;
    if (a >= 0x477ff000) return std::uint16_t(sign | 0x7c00);  // 65520 and above
    if (a < 0x33000001) return std::uint16_t(sign);            // half of the smallest and below
    int exponent = int(a >> 23) - 127;
    std::uint32_t mantissa = (a & 0x7fffff) | 0x800000;
    int shift = exponent < -14 ? -1 - exponent : 13;  // bits that fall off
    std::uint32_t kept = mantissa >> shift, rest = mantissa & ((1u << shift) - 1), half = 1u << (shift - 1);
    kept += rest > half || (rest == half && (kept & 1));
    // `kept` holds the implicit bit, which adds one to the exponent field.
    std::uint32_t base = exponent < -14 ? 0 : std::uint32_t(exponent + 14) << 10;
    return std::uint16_t(sign | (base + kept));
}
inline float half_value(std::uint16_t bits) {
    std::uint32_t sign = std::uint32_t(bits & 0x8000) << 16, e = bits >> 10 & 31, m = bits & 0x3ff;
    if (e == 31) return std::bit_cast<float>(sign | 0x7f800000 | m << 13);
    float magnitude = e ? std::ldexp(float(m | 0x400), int(e) - 25) : std::ldexp(float(m), -24);
    return sign ? -magnitude : magnitude;
}

}  // namespace emu

// Arithmetic rounds after each operation, as the instructions of the device do.
#define EMU_SMALL_FLOAT(name, pair, bits_of, value_of)                                        \
    struct name {                                                                             \
        std::uint16_t bits;                                                                   \
        name() = default;                                                                     \
        name(float x) : bits(bits_of(x)) {}                                                   \
        name(double x) : bits(bits_of(float(x))) {}                                           \
        name(int x) : bits(bits_of(float(x))) {}                                              \
        name(unsigned x) : bits(bits_of(float(x))) {}                                         \
        operator float() const { return value_of(bits); }                                     \
        friend name operator+(name a, name b) { return name(float(a) + float(b)); }           \
        friend name operator-(name a, name b) { return name(float(a) - float(b)); }           \
        friend name operator*(name a, name b) { return name(float(a) * float(b)); }           \
        friend name operator/(name a, name b) { return name(float(a) / float(b)); }           \
        friend name operator-(name a) { a.bits ^= 0x8000; return a; }                         \
        name& operator+=(name b) { return *this = *this + b; }                                \
        name& operator-=(name b) { return *this = *this - b; }                                \
        name& operator*=(name b) { return *this = *this * b; }                                \
        name& operator/=(name b) { return *this = *this / b; }                                \
        friend bool operator==(name a, name b) { return float(a) == float(b); }               \
        friend bool operator!=(name a, name b) { return float(a) != float(b); }               \
        friend bool operator<(name a, name b) { return float(a) < float(b); }                 \
        friend bool operator>(name a, name b) { return float(a) > float(b); }                 \
        friend bool operator<=(name a, name b) { return float(a) <= float(b); }               \
        friend bool operator>=(name a, name b) { return float(a) >= float(b); }               \
    };                                                                                        \
    struct alignas(4) pair {                                                                  \
        name x, y;                                                                            \
    };
EMU_SMALL_FLOAT(__nv_bfloat16, __nv_bfloat162, emu::bf16_bits, emu::bf16_value)
EMU_SMALL_FLOAT(__half, __half2, emu::half_bits, emu::half_value)
#undef EMU_SMALL_FLOAT
using half = __half;
using half2 = __half2;
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

inline __nv_bfloat16 __float2bfloat16(float x) { return x; }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return x; }
inline float __bfloat162float(__nv_bfloat16 x) { return x; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {v.x, v.y}; }
inline __half __float2half(float x) { return x; }
inline __half __float2half_rn(float x) { return x; }
inline float __half2float(__half x) { return x; }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline float2 __half22float2(__half2 v) { return {v.x, v.y}; }
