// Operations of a warp: the lanes named in a mask meet, the last one computes for all.
#pragma once

#include <bit>
#include <type_traits>

#include "block.hpp"

namespace emu {

// `all(input pointers, output pointers, mask)` runs once, when every lane of `mask` is here. Lanes that
// are not named may be elsewhere. The pointers of absent lanes are null.
template <class In, class Out, class All>
void meet(const char* what, unsigned mask, const In& input, Out& output, All all, Where at) {
    auto& meetings = block->meetings[self->warp()];
    unsigned bit = 1u << self->lane();
    if (!(mask & bit)) fail(std::string(what) + ": the mask does not name the lane that calls", at);
    unsigned present = unsigned(block->threads.size()) - self->warp() * 32;
    if (present < 32) mask &= (1u << present) - 1;
    std::size_t slot = 0;
    for (; slot < meetings.size(); ++slot)
        if (meetings[slot].open && (meetings[slot].mask & mask)) break;
    if (slot == meetings.size()) {
        slot = 0;
        while (slot < meetings.size() && meetings[slot].open) ++slot;
        if (slot == meetings.size()) meetings.emplace_back();
        meetings[slot] = Meeting{};
        meetings[slot].open = true;
        meetings[slot].mask = mask;
        meetings[slot].what = what;
    }
    {
        Meeting& m = meetings[slot];
        if (m.mask != mask || std::strcmp(m.what, what))
            fail(std::string("lanes of one warp differ: ") + what + " against " + m.what, at);
        m.input[self->lane()] = &input;
        m.output[self->lane()] = &output;
        m.arrived |= bit;
        if (m.arrived != mask) {
            wait(State::Warp, what, at);
            return;
        }
    }
    Meeting m = meetings[slot];
    meetings[slot].open = false;
    const In* inputs[32];
    Out* outputs[32];
    for (int i = 0; i < 32; ++i) {
        inputs[i] = static_cast<const In*>(m.input[i]);
        outputs[i] = static_cast<Out*>(m.output[i]);
    }
    all(inputs, outputs, mask);
    for (unsigned i = 0; i < 32; ++i)
        if (mask >> i & 1) block->threads[self->warp() * 32 + i]->state = State::Ready;
}

// One value per lane, read from lane `source(lane)`; lanes that point outside keep their own.
template <class T, class Source>
T shuffle(const char* what, unsigned mask, T value, int width, Source source, Where at) {
    if (width <= 0 || width > 32 || (width & (width - 1))) fail("shuffle: bad width", at);
    struct Ask {
        T value;
        int from;
    };
    int lane = int(self->lane()), from = source(lane);
    Ask ask{value, from};
    T result = value;
    meet(
        what, mask, ask, result,
        [&](const Ask** in, T** out, unsigned named) {
            for (int i = 0; i < 32; ++i) {
                if (!(named >> i & 1)) continue;
                int f = in[i]->from;
                if (f < 0 || f > 31 || !(named >> f & 1))
                    fail(std::string(what) + ": reads a lane that the mask does not name", at);
                *out[i] = in[f]->value;
            }
        },
        at);
    return result;
}

inline unsigned ballot(unsigned mask, bool predicate, const char* what, Where at) {
    unsigned result = 0;
    meet(
        what, mask, predicate, result,
        [](const bool** in, unsigned** out, unsigned named) {
            unsigned votes = 0;
            for (int i = 0; i < 32; ++i)
                if (named >> i & 1) votes |= unsigned(*in[i]) << i;
            for (int i = 0; i < 32; ++i)
                if (named >> i & 1) *out[i] = votes;
        },
        at);
    return result;
}

template <class T, class Fold>
T reduce(const char* what, unsigned mask, T value, Fold fold, Where at) {
    T result{};
    meet(
        what, mask, value, result,
        [&](const T** in, T** out, unsigned named) {
            bool first = true;
            T sum{};
            for (int i = 0; i < 32; ++i) {
                if (!(named >> i & 1)) continue;
                sum = first ? *in[i] : fold(sum, *in[i]);
                first = false;
            }
            for (int i = 0; i < 32; ++i)
                if (named >> i & 1) *out[i] = sum;
        },
        at);
    return result;
}

}  // namespace emu

#define EMU_AT emu::Where at = emu::Where::current()

template <class T>
T __shfl_sync(unsigned mask, T v, int from, int width = 32, EMU_AT) {
    return emu::shuffle("__shfl_sync", mask, v, width,
                        [=](int lane) { return (lane & ~(width - 1)) | (from & (width - 1)); }, at);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int x, int width = 32, EMU_AT) {
    auto source = [=](int lane) {
        int from = lane ^ x;
        return (from & ~(width - 1)) > (lane & ~(width - 1)) ? lane : from;
    };
    return emu::shuffle("__shfl_xor_sync", mask, v, width, source, at);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, unsigned d, int width = 32, EMU_AT) {
    auto source = [=](int lane) {
        int from = lane - int(d);
        return from < (lane & ~(width - 1)) ? lane : from;
    };
    return emu::shuffle("__shfl_up_sync", mask, v, width, source, at);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned d, int width = 32, EMU_AT) {
    auto source = [=](int lane) {
        int from = lane + int(d);
        return from > (lane | (width - 1)) ? lane : from;
    };
    return emu::shuffle("__shfl_down_sync", mask, v, width, source, at);
}
inline unsigned __ballot_sync(unsigned mask, int p, EMU_AT) {
    return emu::ballot(mask, p != 0, "__ballot_sync", at);
}
inline int __any_sync(unsigned mask, int p, EMU_AT) {
    return emu::ballot(mask, p != 0, "__any_sync", at) != 0;
}
inline int __all_sync(unsigned mask, int p, EMU_AT) {
    return emu::ballot(mask, p == 0, "__all_sync", at) == 0;
}
template <class T>
T __reduce_add_sync(unsigned mask, T v, EMU_AT) {
    return emu::reduce("__reduce_add_sync", mask, v, [](T a, T b) { return T(a + b); }, at);
}
template <class T>
T __reduce_min_sync(unsigned mask, T v, EMU_AT) {
    return emu::reduce("__reduce_min_sync", mask, v, [](T a, T b) { return b < a ? b : a; }, at);
}
template <class T>
T __reduce_max_sync(unsigned mask, T v, EMU_AT) {
    return emu::reduce("__reduce_max_sync", mask, v, [](T a, T b) { return a < b ? b : a; }, at);
}
// Lanes that have not ended; a real warp may name fewer. Programs must not depend on it.
inline unsigned __activemask() {
    unsigned mask = 0, first = emu::self->warp() * 32;
    for (unsigned i = first; i < first + 32 && i < emu::block->threads.size(); ++i)
        if (emu::block->threads[i]->state != emu::State::Done) mask |= 1u << (i - first);
    return mask;
}

// Only one thread runs at a time, so plain code is atomic.
template <class T, class U>
T atomicAdd(T* p, U v) { T old = *p; *p = T(old + T(v)); return old; }
template <class T, class U>
T atomicSub(T* p, U v) { T old = *p; *p = T(old - T(v)); return old; }
template <class T, class U>
T atomicExch(T* p, U v) { T old = *p; *p = T(v); return old; }
template <class T, class U>
T atomicMin(T* p, U v) { T old = *p; *p = T(v) < old ? T(v) : old; return old; }
template <class T, class U>
T atomicMax(T* p, U v) { T old = *p; *p = old < T(v) ? T(v) : old; return old; }
template <class T, class U>
T atomicAnd(T* p, U v) { T old = *p; *p = T(old & T(v)); return old; }
template <class T, class U>
T atomicOr(T* p, U v) { T old = *p; *p = T(old | T(v)); return old; }
template <class T, class U>
T atomicXor(T* p, U v) { T old = *p; *p = T(old ^ T(v)); return old; }
template <class T, class U, class V>
T atomicCAS(T* p, U expected, V v) { T old = *p; if (old == T(expected)) *p = T(v); return old; }
