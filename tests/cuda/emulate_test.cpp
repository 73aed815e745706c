// The emulator itself: what is legal runs and is right, what is not is found.
#include "emulate.hpp"

#include <cstdio>

static int failures = 0;

static void check(bool ok, const char* what) {
    if (ok) return;
    std::printf("FAILED: %s\n", what);
    failures += 1;
}

// Ends with a Failure whose text holds `needle`, or `other`, which another order of threads meets first.
static void refused(const char* what, const char* needle, unsigned threads, const std::function<void()>& kernel,
                    const char* other = "no other") {
    std::string text = "(nothing)";
    try {
        emu::launch({1}, {threads}, 0, kernel);
    } catch (const emu::Failure& failure) {
        text = failure.what();
    }
    if (text.find(needle) != std::string::npos || text.find(other) != std::string::npos) return;
    std::printf("FAILED: %s: expected a failure with `%s`, found: %s\n", what, needle, text.c_str());
    failures += 1;
}

extern "C" __global__ void sum_kernel(const float* x, float* y, int n) {
    __shared__ float parts[32];
    EMU_DYNAMIC_SHARED(float, all);
    float v = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) v += x[blockIdx.x * n + i];
    all[threadIdx.x] = v;
    __syncthreads();
    v = all[threadIdx.x ^ 1] + (threadIdx.x % 2 ? 0 : 0);
    for (int d = 16; d; d /= 2) v += __shfl_xor_sync(0xffffffff, v, d);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
    __syncthreads();
    if (threadIdx.x == 0) {
        float sum = 0;
        for (unsigned w = 0; w < blockDim.x / 32; ++w) sum += parts[w];
        atomicAdd(y + blockIdx.x, sum);
    }
}

static void legal_programs() {
    std::vector<float> x(3 * 1000), y(3);
    float expected[3]{};
    for (int i = 0; i < 3000; ++i) expected[i / 1000] += x[i] = float(i % 13);
    emu::launch({3}, {128}, 128 * 4, [&] { sum_kernel(x.data(), y.data(), 1000); });
    for (int i = 0; i < 3; ++i) check(y[i] == expected[i], "sum over blocks, warps and lanes");

    int up[64], down[64], from[64], vote[64], total[64], count[64];
    emu::launch({1}, {64}, 0, [&] {
        int i = threadIdx.x, lane = i % 32;
        up[i] = __shfl_up_sync(emu::ALL, i, 3, 8);
        down[i] = __shfl_down_sync(emu::ALL, i, 3, 8);
        from[i] = __shfl_sync(emu::ALL, i, 9, 16);
        vote[i] = int(__ballot_sync(emu::ALL, lane < 4));
        // Half warps apart, each with its own mask.
        unsigned mask = lane < 16 ? 0xffffu : 0xffff0000u;
        if (lane < 16) total[i] = __reduce_add_sync(mask, lane);
        else total[i] = __reduce_max_sync(mask, lane);
        count[i] = __syncthreads_count(i % 3 == 0);
    });
    for (int i = 0; i < 64; ++i) {
        int lane = i % 32, base = i - lane;
        check(up[i] == (lane % 8 < 3 ? i : i - 3), "shfl_up");
        check(down[i] == (lane % 8 > 4 ? i : i + 3), "shfl_down");
        check(from[i] == base + lane / 16 * 16 + 9, "shfl");
        check(vote[i] == 15, "ballot");
        check(total[i] == (lane < 16 ? 120 : 31), "reduce of half a warp");
        check(count[i] == 22, "syncthreads_count");
    }
}

// y = a b for one 16 x 16 by 16 x 8 product through ldmatrix and mma, against plain loops.
static void fragments() {
    float a[16][16], b[16][8], want[16][8]{}, got[16][8];
    for (int i = 0; i < 16; ++i)
        for (int j = 0; j < 16; ++j) a[i][j] = float((i * 7 + j * 3) % 11 - 5);
    for (int i = 0; i < 16; ++i)
        for (int j = 0; j < 8; ++j) b[i][j] = float((i * 5 + j * 2) % 7 - 3);
    for (int i = 0; i < 16; ++i)
        for (int j = 0; j < 8; ++j)
            for (int k = 0; k < 16; ++k) want[i][j] += a[i][k] * b[k][j];
    for (bool b_by_rows : {false, true}) {
        emu::launch({1}, {32}, 0, [&] {
            EMU_SHARED_BYTES(memory, 1024);
            unsigned at = emu::shared_address(memory), lane = threadIdx.x;
            for (unsigned i = lane; i < 256; i += 32)
                emu::shared_write(at + 2 * i, emu::bf16_bits(a[i / 16][i % 16]), emu::Where::current());
            for (unsigned i = lane; i < 128; i += 32) {  // [n][k], or [k][n] when `b_by_rows`
                float v = b_by_rows ? b[i / 8][i % 8] : b[i % 16][i / 16];
                emu::shared_write(at + 512 + 2 * i, emu::bf16_bits(v), emu::Where::current());
            }
            __syncwarp();
            unsigned fa[4], fb[4];
            float c[4]{};
            unsigned m = lane / 8, r = lane % 8;
            emu::ldmatrix(fa, 4, false, at + ((m % 2 * 8 + r) * 2 + m / 2) * 16, emu::Where::current());
            m %= 2;
            unsigned row = b_by_rows ? m * 8 + r : r * 2 + m;
            emu::ldmatrix(fb, 2, b_by_rows, at + 512 + row * 16, emu::Where::current());
            emu::mma_bf16(c, fa, fb, 16, emu::Where::current());
            for (int i = 0; i < 4; ++i) got[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2] = c[i];
        });
        check(!std::memcmp(got, want, sizeof got), "ldmatrix and mma");
    }
}

static void illegal_programs() {
    alignas(16) static unsigned char source[64] = {};
    auto here = [] { return emu::Where::current(); };
    refused("a barrier that half of the block skips", "no thread can go on", 64,
            [] { if (threadIdx.x < 32) __syncthreads(); });
    refused("barriers at two places", "divergent __syncthreads", 64, [] {
        if (threadIdx.x < 32) __syncthreads();
        else
            __syncthreads();
    });
    refused("a shuffle that a lane skips", "no thread can go on", 32,
            [] { if (threadIdx.x) __shfl_xor_sync(emu::ALL, 1, 1); });
    refused("a mask without the caller", "does not name", 32, [] { __shfl_sync(1u, 1, 0); });
    refused("a read of nothing", "nobody wrote", 32, [&] {
        EMU_SHARED_BYTES(m, 256);
        emu::shared_read<float>(emu::shared_address(m), here());
    });
    refused("outside", "is outside", 32, [&] {
        EMU_SHARED_BYTES(m, 256);
        emu::shared_write(emu::shared_address(m) + 256, 1.0f, here());
    });
    refused("over 48 KB", "over the limit", 32, [&] { EMU_SHARED_BYTES(m, 48 * 1024 + 4); (void)m; });
    refused("a missing barrier", "race", 64, [&] {
        EMU_SHARED_BYTES(m, 256);
        unsigned at = emu::shared_address(m);
        emu::shared_write(at + 4 * threadIdx.x, 1.0f, here());
        emu::shared_read<float>(at + 4 * (63 - threadIdx.x), here());
    }, "nobody wrote");
    refused("a missing barrier before a write", "race", 64, [&] {
        EMU_SHARED_BYTES(m, 256);
        unsigned at = emu::shared_address(m);
        emu::shared_write(at + 4 * threadIdx.x, 1.0f, here());
        __syncthreads();
        emu::shared_read<float>(at + 4 * (63 - threadIdx.x), here());
        emu::shared_write(at + 4 * threadIdx.x, 2.0f, here());
    });
    refused("a missing __syncwarp", "race", 32, [&] {
        EMU_SHARED_BYTES(m, 128);
        unsigned at = emu::shared_address(m);
        emu::shared_write(at + 4 * threadIdx.x, 1.0f, here());
        __shfl_xor_sync(emu::ALL, 1, 1);
        emu::shared_read<float>(at + 4 * (31 - threadIdx.x), here());
    });
    auto copy = [&](bool wait, bool barrier) {
        EMU_SHARED_BYTES(m, 16);
        unsigned at = emu::shared_address(m);
        if (threadIdx.x == 0) {
            emu::cp_async16(at, source, true, here());
            emu::cp_async_commit();
            if (wait) emu::cp_async_wait(0);
        }
        if (barrier) __syncthreads();
        if (threadIdx.x == 1) emu::shared_read<float>(at, here());
        emu::cp_async_wait(0);
    };
    refused("cp.async without a wait", "still writing", 32, [&] { copy(false, true); }, "race");
    refused("cp.async without a barrier", "nobody wrote", 32, [&] { copy(true, false); }, "race");
    refused("cp.async, misaligned", "misaligned", 1, [&] {
        EMU_SHARED_BYTES(m, 64);
        emu::cp_async16(emu::shared_address(m) + 8, source, true, here());
    });
    std::string text;
    try {
        emu::launch({1}, {32}, 0, [&] { copy(true, true); });
    } catch (const emu::Failure& failure) {
        text = failure.what();
    }
    check(text.empty(), "cp.async with wait and barrier is legal");
}

static void rounding() {
    for (unsigned bits = 0; bits < 0x10000; ++bits) {
        float h = emu::half_value(std::uint16_t(bits)), b = emu::bf16_value(std::uint16_t(bits));
        if (h == h) check(emu::half_bits(h) == bits, "f16 there and back");
        if (b == b) check(emu::bf16_bits(b) == bits, "bf16 there and back");
    }
#if defined(__x86_64__)
    // Against the compiler's own f16, around every border between two values.
    for (unsigned bits = 0; bits < 0x7c00; ++bits) {
        float low = emu::half_value(std::uint16_t(bits)), high = emu::half_value(std::uint16_t(bits + 1));
        if (bits == 0x7bff) high = 65536;
        float middle = (low + high) / 2;
        for (float x : {middle, std::nextafter(middle, low), std::nextafter(middle, high)})
            check(emu::half_bits(x) == std::bit_cast<std::uint16_t>(_Float16(x)), "f16 rounding");
    }
#endif
    check(emu::bf16_bits(1.00390625f) == 0x3f80, "a tie goes to the even bf16");
    check(emu::bf16_bits(1.01171875f) == 0x3f82, "a tie goes to the even bf16");
}

int main() {
    for (unsigned seed = 1; seed <= 8; ++seed) {
        emu::options.seed = seed;
        legal_programs();
        fragments();
        illegal_programs();
    }
    rounding();
    if (failures == 0) std::printf("emulator: ok\n");
    return failures != 0;
}
