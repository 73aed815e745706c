// Grid and block loops, the scheduler of a block's threads, and barriers.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <random>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

#include "fiber.hpp"

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Of the thread that runs now; set at each switch.
inline uint3 threadIdx{}, blockIdx{};
inline dim3 blockDim{}, gridDim{};
inline constexpr int warpSize = 32;

namespace emu {
constexpr unsigned ALL = 0xffffffffu;  // lanes
}

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__
#define __constant__ static const

// Static shared memory of functions that are not templates (of a template it would not be poisoned:
// GCC ignores the section there; use EMU_SHARED_BYTES). `extern __shared__ T name[]` has to be
// rewritten to `EMU_DYNAMIC_SHARED(T, name)`.
#define __shared__ static __attribute__((section("emu_shared")))
#define EMU_DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(emu::dynamic_shared())
extern "C" {
extern unsigned char __start_emu_shared[] __attribute__((weak));
extern unsigned char __stop_emu_shared[] __attribute__((weak));
}

namespace emu {

using Where = std::source_location;

struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Options {
    unsigned seed = 0;
    // Threads that have ended count as arrived (what hardware since Volta does). Off: it is a Failure.
    bool exited_threads_pass_barriers = false;
    // What one block may use; 48 KB is the limit of memory that is declared in the source.
    std::size_t static_shared_limit = 48 * 1024;
    std::size_t dynamic_shared_limit = 227 * 1024;
};
inline Options options;

struct Counters {
    unsigned long long mma = 0, ldmatrix = 0, barriers = 0, cp_async = 0;
    // Shared memory accesses of whole warps, and the extra turns that bank conflicts cost them.
    unsigned long long shared_turns = 0, shared_conflicts = 0;
    std::size_t static_shared = 0;  // bytes, of the hungriest block
};
inline Counters counters;

enum class State { Ready, Barrier, Warp, Done };

struct Thread {
    Fiber fiber;
    State state = State::Ready;
    uint3 index{};
    unsigned linear = 0;
    Where at;
    const char* waiting = "";
    unsigned warp() const { return linear / 32; }
    unsigned lane() const { return linear % 32; }
};

// A warp operation some lanes have reached and others not yet.
struct Meeting {
    bool open = false;
    unsigned mask = 0, arrived = 0, turn = 0;
    const char* what = "";
    const void* input[32]{};
    void* output[32]{};
};

struct Block {
    std::vector<std::unique_ptr<Thread>> threads;
    std::vector<std::vector<Meeting>> meetings;  // of each warp
    unsigned live = 0, at_barrier = 0;
    Where barrier_at;
    int barrier_value = 0, barrier_and = 1, barrier_or = 0, barrier_count = 0;
    int last_and = 0, last_or = 0, last_count = 0;
    unsigned epoch = 0;  // barriers passed
    std::exception_ptr error;
    std::function<void()> body;
    std::vector<std::function<void()>> on_thread_end;
};
inline Block* block = nullptr;
inline Thread* self = nullptr;

inline std::string place(const Where& at) {
    std::string file = at.file_name();
    return file.substr(file.rfind('/') + 1) + ":" + std::to_string(at.line());
}
inline std::string name_of(const Thread& t) {
    char text[96];
    std::snprintf(text, sizeof text, "block (%u,%u,%u) thread %u (warp %u lane %u)", blockIdx.x,
                  blockIdx.y, blockIdx.z, t.linear, t.warp(), t.lane());
    return text;
}
[[noreturn]] inline void fail(const std::string& what, Where at = Where::current()) {
    throw Failure((self ? name_of(*self) + ": " : std::string()) + what + " [" + place(at) + "]");
}

inline void wait(State state, const char* what, Where at) {
    self->state = state;
    self->waiting = what;
    self->at = at;
    self->fiber.leave();
}

inline void begin_block_memory(std::size_t dynamic_bytes);  // shared.hpp
inline void end_thread_memory();                             // shared.hpp
inline void settle_all_accesses();                           // shared.hpp
inline unsigned char* dynamic_shared();                          // shared.hpp

inline void thread_entry() {
    self->fiber.begin();
    try {
        block->body();
        end_thread_memory();
    } catch (...) {
        if (!block->error) block->error = std::current_exception();
    }
    self->state = State::Done;
    block->live -= 1;
    self->fiber.leave(true);
    std::abort();
}

// All who wait at the barrier go on.
inline void open_barrier() {
    Block& b = *block;
    for (auto& t : b.threads)
        if (t->state == State::Barrier) t->state = State::Ready;
    b.last_and = b.barrier_and;
    b.last_or = b.barrier_or;
    b.last_count = b.barrier_count;
    b.barrier_and = 1;
    b.barrier_or = b.barrier_count = 0;
    b.at_barrier = 0;
    b.epoch += 1;
    settle_all_accesses();
    counters.barriers += 1;
}

inline void barrier(int predicate, Where at) {
    Block& b = *block;
    if (b.at_barrier == 0) b.barrier_at = at;
    if (b.barrier_at.line() != at.line() || std::strcmp(b.barrier_at.file_name(), at.file_name()))
        fail("divergent __syncthreads: others wait at " + place(b.barrier_at), at);
    b.barrier_and &= predicate != 0;
    b.barrier_or |= predicate != 0;
    b.barrier_count += predicate != 0;
    b.at_barrier += 1;
    unsigned expected = options.exited_threads_pass_barriers ? b.live : unsigned(b.threads.size());
    if (b.at_barrier == expected) {
        self->state = State::Barrier;
        open_barrier();
        return;
    }
    wait(State::Barrier, "__syncthreads", at);
}

[[noreturn]] inline void stuck() {
    std::string text = "no thread can go on:";
    unsigned shown = 0, done = 0;
    for (auto& t : block->threads) {
        if (t->state == State::Done) {
            done += 1;
        } else if (shown++ < 8) {
            text += "\n  " + name_of(*t) + " waits at " + t->waiting + " [" + place(t->at) + "]";
        }
    }
    text += "\n  " + std::to_string(shown) + " wait, " + std::to_string(done) + " have ended";
    self = nullptr;
    throw Failure(text);
}

// Runs the threads of one block until all have ended.
inline void run_block(Block& b, std::size_t dynamic_bytes) {
    block = &b;
    b.epoch = b.at_barrier = 0;
    b.barrier_and = 1;
    b.barrier_or = b.barrier_count = 0;
    b.error = nullptr;
    b.live = unsigned(b.threads.size());
    for (auto& warp : b.meetings) warp.clear();
    if (__start_emu_shared)
        std::memset(__start_emu_shared, 0xff, std::size_t(__stop_emu_shared - __start_emu_shared));
    begin_block_memory(dynamic_bytes);
    for (auto& t : b.threads) {
        t->state = State::Ready;
        t->fiber.prepare(thread_entry);
    }
    std::mt19937 random(options.seed + blockIdx.x * 7919 + blockIdx.y * 104729);
    std::vector<unsigned> warps(b.meetings.size());
    for (unsigned w = 0; w < warps.size(); ++w) warps[w] = w;
    while (b.live > 0) {
        bool progress = false;
        std::shuffle(warps.begin(), warps.end(), random);
        for (unsigned w : warps) {
            // A warp runs on while any of its lanes can: most operations are of warps.
            for (bool more = true; more;) {
                more = false;
                unsigned first = w * 32, last = std::min(first + 32, unsigned(b.threads.size()));
                unsigned turn = unsigned(random()) % (last - first);
                for (unsigned i = first; i < last; ++i) {
                    Thread& t = *b.threads[first + (i - first + turn) % (last - first)];
                    if (t.state != State::Ready) continue;
                    self = &t;
                    threadIdx = t.index;
                    t.fiber.enter();
                    if (b.error) {
                        self = nullptr;
                        std::rethrow_exception(b.error);
                    }
                    more = progress = true;
                }
            }
        }
        if (!progress && b.live > 0) {
            if (options.exited_threads_pass_barriers && b.at_barrier == b.live) {
                open_barrier();
                continue;
            }
            stuck();
        }
    }
    self = nullptr;
}

inline void launch(dim3 grid, dim3 threads, std::size_t dynamic_bytes,
                   const std::function<void()>& body) {
    unsigned count = threads.x * threads.y * threads.z;
    if (count == 0 || count > 1024) throw Failure("a block has 1 to 1024 threads");
    if (dynamic_bytes > options.dynamic_shared_limit) throw Failure("too much shared memory asked");
    Block b;
    b.body = body;
    b.meetings.resize((count + 31) / 32);
    for (unsigned i = 0; i < count; ++i) {
        auto t = std::make_unique<Thread>();
        t->linear = i;
        t->index = {i % threads.x, i / threads.x % threads.y, i / (threads.x * threads.y)};
        b.threads.push_back(std::move(t));
    }
    gridDim = grid;
    blockDim = threads;
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) {
                blockIdx = {x, y, z};
                run_block(b, dynamic_bytes);
            }
    block = nullptr;
}

}  // namespace emu

inline void __syncthreads(emu::Where at = emu::Where::current()) { emu::barrier(0, at); }
inline int __syncthreads_and(int p, emu::Where at = emu::Where::current()) {
    emu::barrier(p, at);
    return emu::block->last_and;
}
inline int __syncthreads_or(int p, emu::Where at = emu::Where::current()) {
    emu::barrier(p, at);
    return emu::block->last_or;
}
inline int __syncthreads_count(int p, emu::Where at = emu::Where::current()) {
    emu::barrier(p, at);
    return emu::block->last_count;
}
inline void __threadfence_block() {}
inline void __threadfence() {}
inline void __threadfence_system() {}
