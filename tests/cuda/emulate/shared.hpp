// The shared memory of a block that is reached by 32-bit addresses (ptx.hpp), watched by units of two bytes.
//
// Two accesses of one unit by two threads, one of them a write, need a __syncthreads between them, or
// a __syncwarp when both are of one warp; otherwise it is a race. A cp.async is a write that lasts
// from its issue to the wait of the thread that issued it: nobody may touch the words in between.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "block.hpp"
#include "warp.hpp"

namespace emu {

constexpr unsigned UNIT = 2;

struct Word {
    unsigned write_epoch = 0, read_epoch = 0;  // 0: never; else barriers passed + 1
    unsigned write_sync = 0, read_sync = 0;    // syncwarps the warp had passed then
    short writer = -1, reader = -1, copier = -1;
    bool readers_of_more_warps = false;
};

struct Copy {
    unsigned to;
    unsigned char bytes[16];
};

// A lane's access, until the lanes of its warp are put together to count bank conflicts.
struct Access {
    unsigned line, ordinal, lane, address, bytes;
};

struct SharedMemory {
    static constexpr unsigned CAPACITY = 228 * 1024;
    unsigned char* bytes = static_cast<unsigned char*>(std::aligned_alloc(1024, CAPACITY));
    std::vector<Word> words = std::vector<Word>(CAPACITY / UNIT);
    std::map<std::string, std::pair<unsigned, unsigned>> sites;  // place -> offset, bytes
    unsigned used = 0, dynamic_at = 0;
    std::vector<unsigned> warp_syncs;
    std::vector<std::vector<Copy>> open_group;             // of each thread
    std::vector<std::vector<std::vector<Copy>>> groups;    // committed, not waited for
    std::vector<std::vector<Access>> accesses;             // of each warp
    std::vector<std::map<unsigned, unsigned>> ordinals;    // of each thread: line -> times
};
inline SharedMemory shared;

inline void begin_block_memory(std::size_t dynamic_bytes) {
    std::memset(shared.bytes, 0xff, SharedMemory::CAPACITY);  // NaN as f32, bf16 and f16
    unsigned top = (shared.used + UNIT - 1) / UNIT;
    std::fill(shared.words.begin(), shared.words.begin() + std::min<std::size_t>(top + 1, shared.words.size()), Word{});
    shared.sites.clear();
    // Dynamic memory lies behind what may be declared.
    shared.used = 0;
    unsigned limit = unsigned(std::min<std::size_t>(options.static_shared_limit, SharedMemory::CAPACITY));
    shared.dynamic_at = 0;
    if (dynamic_bytes) {
        shared.dynamic_at = SharedMemory::CAPACITY - unsigned((dynamic_bytes + 1023) / 1024 * 1024);
        if (shared.dynamic_at < 1024) fail("too much dynamic shared memory");
        limit = std::min(limit, shared.dynamic_at);
        std::fill(shared.words.begin(), shared.words.end(), Word{});
    }
    std::size_t threads = block->threads.size(), warps = block->meetings.size();
    shared.warp_syncs.assign(warps, 0);
    shared.open_group.assign(threads, {});
    shared.groups.assign(threads, {});
    shared.accesses.assign(warps, {});
    shared.ordinals.assign(threads, {});
}

inline unsigned char* dynamic_shared() {
    if (!shared.dynamic_at) fail("the launch gave no dynamic shared memory");
    return shared.bytes + shared.dynamic_at;
}

// Memory declared in the source at `at`: the same for all threads of the block.
inline unsigned char* static_shared(unsigned bytes, Where at) {
    std::string key = place(at);
    auto found = shared.sites.find(key);
    if (found != shared.sites.end()) return shared.bytes + found->second.first;
    unsigned offset = (shared.used + 127) / 128 * 128;
    shared.used = offset + bytes;
    if (shared.used > options.static_shared_limit)
        fail("shared memory: " + std::to_string(shared.used) + " bytes are declared, over the limit", at);
    shared.sites[key] = {offset, bytes};
    counters.static_shared = std::max<std::size_t>(counters.static_shared, shared.used);
    return shared.bytes + offset;
}

inline unsigned shared_address(const void* p) {
    auto at = static_cast<const unsigned char*>(p);
    if (at < shared.bytes || at >= shared.bytes + SharedMemory::CAPACITY) fail("not shared memory");
    return unsigned(at - shared.bytes);
}

inline void check_range(unsigned address, unsigned bytes, unsigned alignment, const char* what, Where at) {
    if (address % alignment) fail(std::string(what) + ": misaligned shared address", at);
    if (shared.dynamic_at && address >= shared.dynamic_at) {
        if (address + bytes <= SharedMemory::CAPACITY) return;
    } else {
        for (auto& [key, site] : shared.sites)
            if (address >= site.first && address + bytes <= site.first + site.second) return;
    }
    fail(std::string(what) + ": shared address " + std::to_string(address) + " is outside", at);
}

// Whether an access at (`epoch`, `sync`) by thread `who` is ordered before one by the thread that runs now.
inline bool ordered(int who, unsigned epoch, unsigned sync) {
    unsigned me = self->linear;
    if (epoch < block->epoch + 1 || unsigned(who) == me) return true;
    return unsigned(who) / 32 == me / 32 && sync < shared.warp_syncs[me / 32];
}

inline void note_read(unsigned address, unsigned bytes, const char* what, Where at, unsigned thread) {
    Thread* before = self;
    self = block->threads[thread].get();
    for (unsigned w = address / UNIT; w < (address + bytes + UNIT - 1) / UNIT; ++w) {
        Word& word = shared.words[w];
        if (word.copier >= 0)
            fail(std::string(what) + ": reads what a cp.async is still writing", at);
        if (word.write_epoch == 0)
            fail(std::string(what) + ": reads shared memory that nobody wrote", at);
        if (!ordered(word.writer, word.write_epoch, word.write_sync))
            fail(std::string(what) + ": race: thread " + std::to_string(word.writer) +
                     " wrote this word and no barrier came between", at);
        unsigned epoch = block->epoch + 1;
        word.readers_of_more_warps = word.read_epoch == epoch && (word.readers_of_more_warps || word.reader / 32 != int(thread / 32));
        word.read_epoch = epoch;
        word.read_sync = shared.warp_syncs[thread / 32];
        // Of two lanes of a warp the later read counts; a write by either races with the other.
        word.reader = short(thread);
    }
    self = before;
}

inline void check_write(unsigned address, unsigned bytes, const char* what, Where at) {
    for (unsigned w = address / UNIT; w < (address + bytes + UNIT - 1) / UNIT; ++w) {
        Word& word = shared.words[w];
        if (word.copier >= 0)
            fail(std::string(what) + ": writes where a cp.async is still writing", at);
        if (word.write_epoch && !ordered(word.writer, word.write_epoch, word.write_sync))
            fail(std::string(what) + ": race: two threads write one word", at);
        if (word.read_epoch && (!ordered(word.reader, word.read_epoch, word.read_sync) ||
                                (word.readers_of_more_warps && word.read_epoch == block->epoch + 1)))
            fail(std::string(what) + ": race: thread " + std::to_string(word.reader) +
                     " read this word and no barrier came between", at);
    }
}

inline void note_write(unsigned address, unsigned bytes) {
    for (unsigned w = address / UNIT; w < (address + bytes + UNIT - 1) / UNIT; ++w) {
        Word& word = shared.words[w];
        word.write_epoch = block->epoch + 1;
        word.write_sync = shared.warp_syncs[self->warp()];
        word.writer = short(self->linear);
        word.copier = -1;
    }
}

// Turns that the lanes' accesses take: lanes of one phase (128 bytes) that hit one bank in different
// words wait for each other.
inline void count_turns(const Access* access, std::size_t count) {
    if (count == 0) return;
    unsigned lanes_of_phase = 128 / std::max(4u, access[0].bytes);
    for (unsigned first = 0; first < 32; first += lanes_of_phase) {
        std::vector<unsigned> words[32];
        std::size_t turns = 0;
        for (std::size_t i = 0; i < count; ++i) {
            if (access[i].lane < first || access[i].lane >= first + lanes_of_phase) continue;
            for (unsigned a = access[i].address / 4; a < (access[i].address + access[i].bytes + 3) / 4; ++a) {
                auto& bank = words[a % 32];
                if (std::find(bank.begin(), bank.end(), a) == bank.end()) bank.push_back(a);
                turns = std::max(turns, bank.size());
            }
        }
        if (turns == 0) continue;
        counters.shared_turns += turns;
        counters.shared_conflicts += turns - 1;
    }
}

inline void note_access(unsigned address, unsigned bytes, Where at) {
    unsigned ordinal = shared.ordinals[self->linear][at.line()]++;
    shared.accesses[self->warp()].push_back({at.line(), ordinal, self->lane(), address, bytes});
}

// The lanes of a warp are together again: their accesses are put side by side.
inline void settle_accesses(unsigned warp) {
    auto& list = shared.accesses[warp];
    std::stable_sort(list.begin(), list.end(), [](const Access& a, const Access& b) {
        return std::tie(a.line, a.ordinal) < std::tie(b.line, b.ordinal);
    });
    for (std::size_t i = 0, end; i < list.size(); i = end) {
        for (end = i; end < list.size() && list[end].line == list[i].line && list[end].ordinal == list[i].ordinal;) ++end;
        count_turns(&list[i], end - i);
    }
    list.clear();
    for (std::size_t t = warp * 32; t < std::min<std::size_t>(warp * 32 + 32, shared.ordinals.size()); ++t)
        shared.ordinals[t].clear();
}

inline void settle_all_accesses() {
    for (unsigned w = 0; w < shared.accesses.size(); ++w) settle_accesses(w);
}

// __syncwarp of all lanes, which also orders shared memory within the warp.
inline void sync_warp(Where at) {
    unsigned warp = self->warp();
    bool here = true, done = false;
    meet(
        "__syncwarp", ALL, here, done,
        [&](const bool**, bool**, unsigned) {
            shared.warp_syncs[warp] += 1;
            settle_accesses(warp);
        },
        at);
}

inline void end_thread_memory() {
    for (auto& group : shared.groups[self->linear])
        if (!group.empty()) fail("ends while a cp.async is under way");
    if (!shared.open_group[self->linear].empty()) fail("ends with a cp.async that is not committed");
    settle_accesses(self->warp());
}

}  // namespace emu

inline void __syncwarp(unsigned mask = emu::ALL, EMU_AT) {
    if (mask == emu::ALL) emu::sync_warp(at);
    else emu::ballot(mask, true, "__syncwarp", at);
}

#define EMU_SHARED_BYTES(name, bytes) unsigned char* name = emu::static_shared(bytes, emu::Where::current())
