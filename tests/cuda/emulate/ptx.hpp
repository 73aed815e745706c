// The few PTX instructions the kernels use, with the fragment layouts of the PTX ISA (section "Matrix
// multiply-accumulate operation using mma instruction" and "ldmatrix"). The device twin of each is
// inline assembly in crates/vlft-kernels/src/attention/cuda/ptx.cuh.
#pragma once

#include <cmath>
#include <cstring>

#include "shared.hpp"
#include "types.hpp"
#include "warp.hpp"

namespace emu {

struct Registers {
    unsigned r[4];
};

// `matrices` 8 x 8 matrices of 16-bit elements; lanes 8 i to 8 i + 7 hold the addresses of the rows of
// matrix i. Lane l gets elements (l / 4, 2 (l % 4)) and the next, of the transposed matrix if so asked.
inline void ldmatrix(unsigned* out, int matrices, bool transposed, unsigned address, Where at) {
    Registers result{};
    meet(
        "ldmatrix", ALL, address, result,
        [&](const unsigned** in, Registers** out, unsigned) {
            std::uint16_t rows[4][8][8];
            for (int m = 0; m < matrices; ++m) {
                Access phase[8];
                for (int r = 0; r < 8; ++r) {
                    int lane = m * 8 + r;
                    unsigned from = *in[lane];
                    check_range(from, 16, 16, "ldmatrix", at);
                    note_read(from, 16, "ldmatrix", at, self->warp() * 32 + unsigned(lane));
                    std::memcpy(rows[m][r], shared.bytes + from, 16);
                    phase[r] = {0, 0, unsigned(r), from, 16};
                }
                count_turns(phase, 8);
            }
            for (int lane = 0; lane < 32; ++lane)
                for (int m = 0; m < matrices; ++m) {
                    int a = lane / 4, b = 2 * (lane % 4);
                    unsigned low = transposed ? rows[m][b][a] : rows[m][a][b];
                    unsigned high = transposed ? rows[m][b + 1][a] : rows[m][a][b + 1];
                    out[lane]->r[m] = low | high << 16;
                }
            counters.ldmatrix += 1;
        },
        at);
    for (int m = 0; m < matrices; ++m) out[m] = result.r[m];
}

struct Operands {
    unsigned a[4], b[2];
    float c[4];
};
struct Accumulator {
    float c[4];
};

// c += a b, m16n8k16 or m16n8k8, bf16 with f32 accumulation. Products are exact and summed in f64; the
// device keeps fewer bits, its error is below one f32 rounding per product.
inline void mma_bf16(float* c, const unsigned* a, const unsigned* b, int k, Where at) {
    Operands mine{};
    for (int i = 0; i < k / 4; ++i) mine.a[i] = a[i];
    for (int i = 0; i < k / 8; ++i) mine.b[i] = b[i];
    for (int i = 0; i < 4; ++i) mine.c[i] = c[i];
    Accumulator result{};
    meet(
        "mma", ALL, mine, result,
        [&](const Operands** in, Accumulator** out, unsigned) {
            double A[16][16], B[8][16];
            for (int lane = 0; lane < 32; ++lane) {
                int g = lane / 4, t = lane % 4;
                for (int r = 0; r < k / 4; ++r)
                    for (int half = 0; half < 2; ++half)
                        A[g + 8 * (r % 2)][2 * t + half + 8 * (r / 2)] =
                            bf16_value(std::uint16_t(in[lane]->a[r] >> 16 * half));
                for (int r = 0; r < k / 8; ++r)
                    for (int half = 0; half < 2; ++half)
                        B[g][2 * t + half + 8 * r] = bf16_value(std::uint16_t(in[lane]->b[r] >> 16 * half));
            }
            for (int lane = 0; lane < 32; ++lane) {
                int g = lane / 4, t = lane % 4;
                for (int i = 0; i < 4; ++i) {
                    int row = g + 8 * (i / 2), column = 2 * t + i % 2;
                    double sum = in[lane]->c[i];
                    for (int j = 0; j < k; ++j) sum += A[row][j] * B[column][j];
                    out[lane]->c[i] = float(sum);
                }
            }
            counters.mma += 1;
        },
        at);
    for (int i = 0; i < 4; ++i) c[i] = result.c[i];
}

inline void cp_async16(unsigned to, const void* from, bool valid, Where at) {
    check_range(to, 16, 16, "cp.async", at);
    if (reinterpret_cast<std::uintptr_t>(from) % 16) fail("cp.async: misaligned global address", at);
    check_write(to, 16, "cp.async", at);
    note_access(to, 16, at);
    Copy copy{to, {}};
    if (valid) std::memcpy(copy.bytes, from, 16);
    for (unsigned w = to / UNIT; w < (to + 16) / UNIT; ++w) shared.words[w].copier = short(self->linear);
    shared.open_group[self->linear].push_back(copy);
    counters.cp_async += 1;
}
inline void cp_async_commit() {
    auto& open = shared.open_group[self->linear];
    shared.groups[self->linear].push_back(std::move(open));
    open.clear();
}
// Returns when all but the newest `but` groups of this thread are done. They are done here, at the last
// moment: who reads earlier is caught.
inline void cp_async_wait(unsigned but) {
    auto& groups = shared.groups[self->linear];
    while (groups.size() > but) {
        for (const Copy& copy : groups.front()) {
            std::memcpy(shared.bytes + copy.to, copy.bytes, 16);
            note_write(copy.to, 16);
        }
        groups.erase(groups.begin());
    }
}

template <class T>
T shared_read(unsigned address, Where at) {
    check_range(address, sizeof(T), sizeof(T), "shared read", at);
    note_read(address, sizeof(T), "shared read", at, self->linear);
    note_access(address, sizeof(T), at);
    T value;
    std::memcpy(&value, shared.bytes + address, sizeof(T));
    return value;
}
template <class T>
void shared_write(unsigned address, T value, Where at) {
    check_range(address, sizeof(T), sizeof(T), "shared write", at);
    check_write(address, sizeof(T), "shared write", at);
    note_access(address, sizeof(T), at);
    std::memcpy(shared.bytes + address, &value, sizeof(T));
    note_write(address, sizeof(T));
}

}  // namespace emu
