#!/usr/bin/env python3
"""The machine checked against plain arithmetic: small CUDA kernels through the real NVRTC, ptx
and the software driver, each result compared with the same sum written in Python.

    check.py LIBCUDA LIBNVRTC INCLUDE...        (the script `run` calls it)
"""
import ctypes
import math
import os
import random
import struct
import subprocess
import sys

SEED = 20261121


class Nvrtc:
    def __init__(self, library, includes):
        self.library, self.includes = ctypes.CDLL(library), includes

    def text(self, program, size, get):
        count = ctypes.c_size_t()
        getattr(self.library, size)(program, ctypes.byref(count))
        buffer = ctypes.create_string_buffer(count.value)
        getattr(self.library, get)(program, buffer)
        return buffer.value

    def ptx(self, source, arch):
        program, kept = ctypes.c_void_p(), source.encode()
        self.library.nvrtcCreateProgram(ctypes.byref(program), kept, None, 0, None, None)
        options = [f"--gpu-architecture={arch}", "-lineinfo", *(f"--include-path={one}" for one in self.includes)]
        array = (ctypes.c_char_p * len(options))(*(one.encode() for one in options))
        if self.library.nvrtcCompileProgram(program, len(options), array):
            raise SystemExit(self.text(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog").decode())
        return self.text(program, "nvrtcGetPTXSize", "nvrtcGetPTX")


class Device:
    def __init__(self, library):
        self.library = ctypes.CDLL(library)
        self.call("cuInit", 0)

    def call(self, name, *args, want=0):
        status = getattr(self.library, name)(*args)
        assert status == want, f"{name} gave {status}, not {want}"

    def memory(self, data):
        pointer = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(len(data)))
        self.call("cuMemcpyHtoD_v2", pointer, data, ctypes.c_size_t(len(data)))
        return pointer

    def data(self, pointer, size):
        buffer = ctypes.create_string_buffer(size)
        self.call("cuMemcpyDtoH_v2", buffer, pointer, ctypes.c_size_t(size))
        return buffer.raw

    def floats(self, pointer, count):
        return struct.unpack(f"{count}f", self.data(pointer, 4 * count))

    def kernel(self, ptx, name):
        module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), ptx)
        self.call("cuModuleGetFunction", ctypes.byref(kernel), module, name.encode())
        return kernel

    def launch(self, kernel, grid, block, shared, *args, want=0):
        array = (ctypes.c_void_p * len(args))(*(ctypes.cast(ctypes.pointer(arg), ctypes.c_void_p) for arg in args))
        self.call("cuLaunchKernel", kernel, *grid, *block, shared, None, array, None, want=want)


def f32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def pack(values, kind="f"):
    return struct.pack(f"{len(values)}{kind}", *values)


def bf16(values):
    """Values that bf16 holds exactly, and their bits."""
    words = [struct.unpack("I", struct.pack("f", value))[0] >> 16 for value in values]
    return [struct.unpack("f", struct.pack("I", word << 16))[0] for word in words], pack(words, "H")


def close(got, want, tolerance, what):
    for at, (one, two) in enumerate(zip(got, want, strict=True)):
        good = abs(one - two) <= tolerance * max(1, abs(two)) or (math.isnan(one) and math.isnan(two))
        assert good, f"{what}: element {at} is {one}, not {two}"


KERNELS = r"""
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <mma.h>
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cuda/barrier>
using namespace nvcuda;
struct Info { unsigned long long n; float scale; };
__device__ const float TABLE[4] = {1.f, 2.f, 3.f, 4.f};

extern "C" __global__ void __launch_bounds__(256)
functions(const float *x, float *y, const __grid_constant__ Info info) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= info.n) return;
    float v = x[i] * info.scale;
    float *o = y + i * 12;
    o[0] = expf(v); o[1] = tanhf(v); o[2] = sinf(v * 1000.f); o[3] = cosf(v); o[4] = logf(fabsf(v) + 1e-3f);
    o[5] = sqrtf(fabsf(v)); o[6] = powf(fabsf(v), 3.1f); o[7] = erff(v); o[8] = v / (v + 7.f);
    o[9] = rsqrtf(fabsf(v) + 0.5f); o[10] = floorf(v) + TABLE[i & 3]; o[11] = fmodf(v, 0.7f);
}

extern "C" __global__ void sums(const float *x, float *y, unsigned *z) {
    __shared__ float part[256];
    extern __shared__ float whole[];
    unsigned t = threadIdx.x, i = blockIdx.x * 256 + t;
    part[t] = x[i];
    whole[t] = x[i] * 2.f;
    __syncthreads();
    for (unsigned o = 128; o > 0; o >>= 1) {
        if (t < o) part[t] += part[t + o];
        __syncthreads();
    }
    float v = x[i];
    for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
    if (t < 40) {  // the second warp is a part of one
        unsigned here = __activemask();
        if (t == 39) z[blockIdx.x] = here;
    }
    if (t == 0) y[blockIdx.x] = part[0] + whole[255];
    if ((t & 31) == 0) atomicAdd(&y[gridDim.x], v);
    unsigned below = __ballot_sync(0xffffffffu, x[i] < 0.f);
    if ((t & 31) == 0) atomicAdd(&z[gridDim.x], __popc(below));
    auto tile = cooperative_groups::tiled_partition<8>(cooperative_groups::this_thread_block());
    float eight = cooperative_groups::reduce(tile, x[i], cooperative_groups::greater<float>());
    if (tile.thread_rank() == 0) y[gridDim.x + 1 + i / 8] = eight;
}

extern "C" __global__ void halves(const __nv_bfloat16 *a, const __nv_bfloat16 *b, __nv_bfloat16 *c, __half *d) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    c[i] = __hfma(a[i], b[i], a[i]);
    d[i] = __float2half(__bfloat162float(a[i]) * 0.1f) + __float2half(__bfloat162float(b[i]));
}

extern "C" __global__ void tensor(const __nv_bfloat16 *a, const __nv_bfloat16 *b, float *c, float *d) {
    // c = a b^T through wmma, d the same through mma.sync with ldmatrix and cp.async.
    __shared__ __align__(16) __nv_bfloat16 sa[256], sb[256];
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __nv_bfloat16, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, __nv_bfloat16, wmma::col_major> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> fc;
    wmma::fill_fragment(fc, 0.f);
    wmma::load_matrix_sync(fa, a, 16);
    wmma::load_matrix_sync(fb, b, 16);
    wmma::mma_sync(fc, fa, fb, fc);
    wmma::store_matrix_sync(c, fc, 16, wmma::mem_row_major);
    unsigned t = threadIdx.x;
    unsigned pa = (unsigned)__cvta_generic_to_shared(sa), pb = (unsigned)__cvta_generic_to_shared(sb);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(pa + t * 16), "l"(a + t * 8));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(pb + t * 16), "l"(b + t * 8));
    asm volatile("cp.async.commit_group;\ncp.async.wait_group 0;");
    __syncwarp();
    unsigned ra[4], rb[4];
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(ra[0]), "=r"(ra[1]), "=r"(ra[2]), "=r"(ra[3]) : "r"(pa + (t % 16) * 32 + (t / 16) * 16));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(rb[0]), "=r"(rb[1]), "=r"(rb[2]), "=r"(rb[3]) : "r"(pb + (t % 16) * 32 + (t / 16) * 16));
    for (int half = 0; half < 2; half++) {
        float s[4] = {0.f, 0.f, 0.f, 0.f};
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3])
            : "r"(ra[0]), "r"(ra[1]), "r"(ra[2]), "r"(ra[3]), "r"(rb[half]), "r"(rb[half + 2]));
        for (int r = 0; r < 4; r++) d[(t / 4 + (r / 2) * 8) * 16 + half * 8 + (t % 4) * 2 + r % 2] = s[r];
    }
}

extern "C" __global__ void numbers(const long long *q, long long *wide, unsigned *o) {
    unsigned t = threadIdx.x, n = blockDim.x;
    long long a = q[t];
    unsigned w = (unsigned)a;
    wide[t] = a / (q[(t + 1) % n] | 1);
    wide[n + t] = a % 1000003;
    wide[2 * n + t] = __mul64hi(a, q[(t + 3) % n]);
    o[t] = __popc(w) + __clz(w) + __ffs(w);
    o[n + t] = __brev(w);
    o[2 * n + t] = __umulhi(w, 12345u);
    o[3 * n + t] = __byte_perm(w, t, 0x3254);
    o[4 * n + t] = __funnelshift_l(w, t, t & 31);
    o[5 * n + t] = __usad(w, t, 3);
    o[6 * n + t] = w / (t + 1) + w % 7;
    o[7 * n + t] = (unsigned)__dp4a((int)w, (int)t, 5);
}

extern "C" __global__ void together(const float *x, float *f, unsigned *o, double *d) {
    __shared__ __align__(16) unsigned char copied[1024];
#pragma nv_diag_suppress static_var_with_dynamic_init
    __shared__ cuda::barrier<cuda::thread_scope_block> barrier;
    unsigned t = threadIdx.x;
    if (t == 0) init(&barrier, 64);
    __syncthreads();
    cuda::memcpy_async(copied + t * 16, (const unsigned char *)x + t * 16, cuda::aligned_size_t<16>(16), barrier);
    barrier.arrive_and_wait();
    float v = ((float *)copied)[(t + 5) % 64 * 4], s = v;
    switch (t & 7) {  // a table of jumps
    case 0: s += 1; break;
    case 1: s *= 2; break;
    case 2: s = fabsf(s); break;
    case 3: s = -s; break;
    case 4: s += 7; break;
    case 5: s = floorf(s); break;
    case 6: s = fminf(s, 1.f); break;
    default: s = ceilf(s);
    }
    f[t] = s;
    f[64 + t] = __shfl_down_sync(~0u, v, 3) + __shfl_up_sync(~0u, v, 2, 8) + __shfl_sync(~0u, v, 7, 16);
    o[t] = __any_sync(~0u, v > 2.f) * 2 + __all_sync(~0u, v < 100.f);
    o[64 + t] = __match_any_sync(~0u, t & 3);
    o[128 + t] = __reduce_add_sync(~0u, t);
    atomicMax((int *)&o[192], (int)t);
    atomicAdd(d, 0.5);
    atomicAdd((__half2 *)&o[193], __floats2half2_rn(1.f, 2.f));
    atomicAdd((__nv_bfloat16 *)&o[194], __float2bfloat16(1.f));
    atomicInc(&o[195], 40u);
    if (t >= 32) return;
    wmma::fragment<wmma::matrix_a, 16, 16, 8, wmma::precision::tf32, wmma::row_major> a;
    wmma::fragment<wmma::matrix_b, 16, 16, 8, wmma::precision::tf32, wmma::col_major> b;
    wmma::fragment<wmma::accumulator, 16, 16, 8, float> c;
    wmma::fill_fragment(c, 0.5f);
    wmma::load_matrix_sync(a, x, 8);
    wmma::load_matrix_sync(b, x, 8);
    for (int i = 0; i < a.num_elements; i++) a.x[i] = wmma::__float_to_tf32(a.x[i]);
    for (int i = 0; i < b.num_elements; i++) b.x[i] = wmma::__float_to_tf32(b.x[i]);
    wmma::mma_sync(c, a, b, c);
    wmma::store_matrix_sync(f + 128, c, 16, wmma::mem_row_major);
}

extern "C" __global__ void apart(float *x) { if (threadIdx.x < 16) __syncthreads(); else if (threadIdx.x == 17) __syncwarp(1u << 3 | 1u << 17); }
extern "C" __global__ void beyond(float *x) { x[threadIdx.x + (1u << 22)] = 1.f; }
"""


def functions(device, ptx, rng):
    x = [f32(rng.uniform(-3, 3)) for _ in range(300)]

    class Info(ctypes.Structure):
        _fields_ = [("n", ctypes.c_uint64), ("scale", ctypes.c_float)]

    given, made = device.memory(pack(x)), device.memory(bytes(4 * 12 * 300))
    device.launch(device.kernel(ptx, "functions"), (2, 1, 1), (256, 1, 1), 0, given, made, Info(300, 1.5))
    want = []
    for at, one in enumerate(x):
        v = f32(one * 1.5)
        want += [math.exp(v), math.tanh(v), math.sin(f32(v * 1000)), math.cos(v), math.log(abs(v) + 1e-3),
                 math.sqrt(abs(v)), abs(v) ** 3.1, math.erf(v), v / (v + 7), 1 / math.sqrt(abs(v) + 0.5),
                 math.floor(v) + at % 4 + 1, math.fmod(v, f32(0.7))]
    close(device.floats(made, 12 * 300), want, 2e-6, "functions")


def sums(device, ptx, rng):
    x = [rng.randint(-50, 50) / 4 for _ in range(768)]  # exact in f32 in any order
    given, made, words = device.memory(pack(x)), device.memory(bytes(4 * (4 + 96))), device.memory(bytes(16))
    device.launch(device.kernel(ptx, "sums"), (3, 1, 1), (256, 1, 1), 1024, given, made, words)
    want = [sum(x[at:at + 256]) + 2 * x[at + 255] for at in (0, 256, 512)] + [sum(x)]
    want += [max(x[at:at + 8]) for at in range(0, 768, 8)]
    close(device.floats(made, 100), want, 0, "sums")
    assert struct.unpack("4I", device.data(words, 16)) == (255,) * 3 + (sum(one < 0 for one in x),), "active lanes, ballot"


def halves(device, ptx, rng):
    a, a_bits = bf16([rng.uniform(-4, 4) for _ in range(512)])
    b, b_bits = bf16([rng.uniform(-4, 4) for _ in range(512)])
    c, d = device.memory(bytes(1024)), device.memory(bytes(1024))
    device.launch(device.kernel(ptx, "halves"), (2, 1, 1), (256, 1, 1), 0, device.memory(a_bits), device.memory(b_bits), c, d)
    got = struct.unpack("512H", device.data(c, 1024))
    for at, word in enumerate(got):
        exact = a[at] * b[at] + a[at]  # exact in f64
        near = [struct.unpack("f", struct.pack("I", (word + step) << 16))[0] for step in (-1, 0, 1)]
        assert all(abs(near[1] - exact) <= abs(one - exact) for one in near), f"bf16 fma {at}: {near} for {exact}"
    half = lambda value: struct.unpack("e", struct.pack("e", value))[0]
    want = [half(half(f32(one * f32(0.1))) + half(two)) for one, two in zip(a, b)]
    assert list(struct.unpack("512e", device.data(d, 1024))) == want, "f16 sum"


def tensor(device, ptx, rng):
    a, a_bits = bf16([rng.uniform(-1, 1) for _ in range(256)])
    b, b_bits = bf16([rng.uniform(-1, 1) for _ in range(256)])
    c, d = device.memory(bytes(1024)), device.memory(bytes(1024))
    device.launch(device.kernel(ptx, "tensor"), (1, 1, 1), (32, 1, 1), 0, device.memory(a_bits), device.memory(b_bits), c, d)
    want = [sum(a[i * 16 + k] * b[j * 16 + k] for k in range(16)) for i in range(16) for j in range(16)]
    close(device.floats(c, 256), want, 1e-6, "wmma")
    close(device.floats(d, 256), want, 1e-6, "mma.sync")


def numbers(device, ptx, rng):
    q = [rng.randrange(-2**62, 2**62) for _ in range(64)]
    wide, words = device.memory(bytes(8 * 192)), device.memory(bytes(4 * 512))
    device.launch(device.kernel(ptx, "numbers"), (1, 1, 1), (64, 1, 1), 0, device.memory(pack(q, "q")), wide, words)
    toward_zero = lambda a, b: abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    want = [toward_zero(a, q[(t + 1) % 64] | 1) for t, a in enumerate(q)] + [a - toward_zero(a, 1000003) * 1000003 for a in q]
    want += [a * q[(t + 3) % 64] >> 64 for t, a in enumerate(q)]
    assert list(struct.unpack("192q", device.data(wide, 8 * 192))) == want, "64-bit numbers"
    low = [(t, a & 0xffffffff) for t, a in enumerate(q)]
    signed = lambda w: struct.unpack("4b", struct.pack("I", w))
    permuted = lambda t, w: bytes((struct.pack("II", w, t))[at] for at in (4, 5, 2, 3))
    want = [bin(w).count("1") + 32 - w.bit_length() + (w & -w).bit_length() for _, w in low]
    want += [int(f"{w:032b}"[::-1], 2) for _, w in low] + [w * 12345 >> 32 for _, w in low]
    want += [struct.unpack("I", permuted(t, w))[0] for t, w in low]
    want += [((t << 32 | w) << (t & 31) >> 32) & 0xffffffff for t, w in low] + [abs(w - t) + 3 for t, w in low]
    want += [w // (t + 1) + w % 7 for t, w in low]
    want += [(sum(a * b for a, b in zip(signed(w), signed(t))) + 5) & 0xffffffff for t, w in low]
    assert list(struct.unpack("512I", device.data(words, 2048))) == want, "32-bit numbers"


def together(device, ptx, rng):
    x = [rng.randint(-40, 40) / 8 for _ in range(256)]
    given, made, words, total = (device.memory(data) for data in (pack(x), bytes(4 * 384), bytes(4 * 196), bytes(8)))
    device.launch(device.kernel(ptx, "together"), (1, 1, 1), (64, 1, 1), 0, given, made, words, total)
    v = [x[(t + 5) % 64 * 4] for t in range(64)]
    cases = (lambda s: s + 1, lambda s: s * 2, abs, lambda s: -s, lambda s: s + 7, math.floor, lambda s: min(s, 1), math.ceil)
    want = [cases[t & 7](v[t]) for t in range(64)]
    for t in range(64):
        warp, lane = t - t % 32, t % 32
        want.append(v[t + 3 if lane < 29 else t] + v[t - 2 if lane % 8 >= 2 else t] + v[warp + (lane & 16 | 7)])
    # Eighths have few bits: tf32 holds them exactly.
    want += [0.5 + sum(x[8 * i + k] * x[8 * j + k] for k in range(8)) for i in range(16) for j in range(16)]
    close(device.floats(made, 384), want, 0, "together")
    warps = [v[:32], v[32:]]
    votes = [any(one > 2 for one in warps[t // 32]) * 2 + all(one < 100 for one in warps[t // 32]) for t in range(64)]
    same = [sum(1 << lane for lane in range(t & 3, 32, 4)) for t in range(64)]
    # 64 times (1, 2) in f16, 64 times 1 in bf16, 64 steps of a counter to 40.
    atomics = [63, 0x58005400, 0x4280, 64 % 41]
    assert list(struct.unpack("196I", device.data(words, 784))) == votes + same + [496] * 32 + [1520] * 32 + atomics, "warps"
    assert struct.unpack("d", device.data(total, 8)) == (32.0,), "atomic f64"


def fault(kernel, want):
    """A launch that must fail, in a process of its own (the context ends with it)."""
    run = subprocess.run([sys.executable, *sys.argv, "--fault", kernel, str(want)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stderr


def main():
    faults = sys.argv[sys.argv.index("--fault") + 1:] if "--fault" in sys.argv else None
    library, nvrtc, *includes = sys.argv[1:sys.argv.index("--fault")] if faults else sys.argv[1:]
    os.environ["CUDA_MACHINE_MODE"] = "run"
    device = Device(library)
    compiler = Nvrtc(nvrtc, includes)
    ptx = compiler.ptx(KERNELS, "sm_86")
    if faults:
        device.launch(device.kernel(ptx, faults[0]), (1, 1, 1), (32, 1, 1), 0, device.memory(bytes(128)), want=int(faults[1]))
        return
    print(f"seed {SEED}")
    # Hopper copies by its bulk engine where Ampere does by threads.
    for arch, text in (("sm_86", ptx), ("sm_90a", compiler.ptx(KERNELS, "sm_90a"))):
        for check in (functions, sums, halves, tensor, numbers, together):
            check(device, text, random.Random(SEED))
            print(f"ok    {arch} {check.__name__}")
    assert "waits for ever" in fault("apart", 719)
    assert "not its memory" in fault("beyond", 700)
    print("ok    a barrier that not all reach, and an address beyond the memory, end the launch")


if __name__ == "__main__":
    main()
