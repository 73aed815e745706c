// What a warp does together, asynchronous copies and mbarriers; part of device.h.
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

// --- copies and barriers of Ampere ---

INLINE void copy_async(Lane *L, u8 *to, u64 from, u32 size, u32 given) {
    memcpy(to, memory_at(L, from, given ? size : 1), given);
    memset(to + given, 0, size - given);
}
// A phase ends when all have arrived and all bytes that were announced have come.
struct mbarrier { u16 expected, pending; u32 phase : 8; s32 bytes : 24; };
INLINE void mbarrier_init(u8 *at, u32 count) { *(struct mbarrier *)at = (struct mbarrier){(u16)count, (u16)count, 0, 0}; }
INLINE void mbarrier_turn(struct mbarrier *b) {
    if (!b->pending && !b->bytes) b->pending = b->expected, b->phase++;
}
INLINE u64 mbarrier_arrive(Lane *L, u8 *at, u32 count) {
    struct mbarrier *b = (struct mbarrier *)at;
    u64 phase = b->phase;
    if (count > b->pending) L->trap(L, "more arrivals at a barrier than it expects");
    b->pending -= count;
    mbarrier_turn(b);
    return phase;
}
INLINE void mbarrier_bytes(u8 *at, s32 bytes) {
    struct mbarrier *b = (struct mbarrier *)at;
    b->bytes += bytes;
    if (bytes < 0) mbarrier_turn(b);
}
INLINE u8 mbarrier_done(u8 *at, u64 phase) { return ((struct mbarrier *)at)->phase != (u8)phase; }
INLINE u8 mbarrier_done_parity(u8 *at, u32 parity) { return (((struct mbarrier *)at)->phase & 1) != (parity & 1); }
// cp.async.bulk, into shared memory: here before the next instruction.
INLINE void copy_bulk(Lane *L, u8 *to, u64 from, u32 size, u8 *barrier) {
    memcpy(to, memory_at(L, from, 16), size);
    mbarrier_bytes(barrier, -(s32)size);
}
