// The instructions that CUDA C++ has no words for, one thin function each. Under the emulator
// (tests/cuda) each has a twin with the fragment layouts of the PTX ISA. No header of CUDA is
// needed, so NVRTC has nothing to find and little to read. All of it exists since sm_80.
#pragma once

#ifdef VLFT_EMULATE

using emu::shared_address;
#define SHARED_BYTES(name, bytes) EMU_SHARED_BYTES(name, bytes)
#define UNROLL
#define UNROLL_NOT

inline int computed_again(int x) { return x; }

inline void cp_async16(unsigned to, const void* from, bool valid, EMU_AT) {
    emu::cp_async16(to, from, valid, at);
}
inline void cp_async_commit() { emu::cp_async_commit(); }
template <int BUT>
void cp_async_wait() { emu::cp_async_wait(BUT); }

inline void ldmatrix4(unsigned* r, unsigned address, EMU_AT) { emu::ldmatrix(r, 4, false, address, at); }
inline void ldmatrix2(unsigned* r, unsigned address, EMU_AT) { emu::ldmatrix(r, 2, false, address, at); }
inline void ldmatrix1(unsigned* r, unsigned address, EMU_AT) { emu::ldmatrix(r, 1, false, address, at); }
inline void ldmatrix4_transposed(unsigned* r, unsigned address, EMU_AT) { emu::ldmatrix(r, 4, true, address, at); }
inline void ldmatrix2_transposed(unsigned* r, unsigned address, EMU_AT) { emu::ldmatrix(r, 2, true, address, at); }

inline void mma16(float* c, const unsigned* a, const unsigned* b, EMU_AT) { emu::mma_bf16(c, a, b, 16, at); }
inline void mma8(float* c, const unsigned* a, const unsigned* b, EMU_AT) { emu::mma_bf16(c, a, b, 8, at); }

inline unsigned pack_bf16(float low, float high) {
    return emu::bf16_bits(low) | unsigned(emu::bf16_bits(high)) << 16;
}
inline float exp2_fast(float x) { return std::exp2(x); }
inline float log2_fast(float x) { return std::log2(x); }
inline float bits_to_float(unsigned x) { return __uint_as_float(x); }

template <class T>
T shared_read(unsigned address, EMU_AT) { return emu::shared_read<T>(address, at); }
template <class T>
void shared_write(unsigned address, T value, EMU_AT) { emu::shared_write(address, value, at); }

#else

#define SHARED_BYTES(name, bytes) __shared__ __align__(128) unsigned char name[bytes]
#define UNROLL _Pragma("unroll")
#define UNROLL_NOT _Pragma("unroll 1")

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// x. The compiler cannot keep what it computed from an earlier x: fewer registers, more instructions.
__device__ __forceinline__ int computed_again(int x) {
    asm volatile("" : "+r"(x));
    return x;
}

// 16 bytes from global to shared memory, past the registers and L1; zeros where not `valid` (nothing is
// read then, but `from` must be an address of the tensor all the same).
__device__ __forceinline__ void cp_async16(unsigned to, const void* from, bool valid) {
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until all but the newest BUT groups of this thread have arrived.
template <int BUT>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(BUT) : "memory");
}

__device__ __forceinline__ void ldmatrix4(unsigned* r, unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}
__device__ __forceinline__ void ldmatrix2(unsigned* r, unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(address)
                 : "memory");
}
__device__ __forceinline__ void ldmatrix1(unsigned* r, unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(address) : "memory");
}
__device__ __forceinline__ void ldmatrix4_transposed(unsigned* r, unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}
__device__ __forceinline__ void ldmatrix2_transposed(unsigned* r, unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(address)
                 : "memory");
}

// c += a b on tensor cores: 16 x 16 times 16 x 8, and 16 x 8 times 8 x 8.
__device__ __forceinline__ void mma16(float* c, const unsigned* a, const unsigned* b) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma8(float* c, const unsigned* a, const unsigned* b) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}

// Two f32 rounded to bf16 (to nearest, ties to even); `low` in the lower half.
__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
    unsigned r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float log2_fast(float x) {
    float y;
    asm("lg2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float bits_to_float(unsigned x) { return __uint_as_float(x); }

template <class T>
__device__ __forceinline__ T shared_read(unsigned address) {
    return *static_cast<const T*>(__cvta_shared_to_generic(address));
}
template <class T>
__device__ __forceinline__ void shared_write(unsigned address, T value) {
    *static_cast<T*>(__cvta_shared_to_generic(address)) = value;
}

#endif
