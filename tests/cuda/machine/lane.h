// One thread of a block, as a translated kernel and the driver both see it.
#pragma once
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

typedef struct Lane Lane;
// What the lanes of a warp do together, once all of them have come to it.
typedef void (*Together)(Lane **lanes, u32 mask);

struct Lane {
    u32 tid[3], ntid[3], ctaid[3], nctaid[3], lane, warp, dynamic, dynamic_at;
    u8 *shared;
    u64 shared_bytes;
    // Operands and results of the instructions of a warp, by register.
    u32 mask, n, a[8], b[8], c[8], r[8];
    u64 w;
    u8 *p;
    u32 reduced_popc, reduced_and, reduced_or;
    // The driver's half: each suspends the thread until it may go on.
    void (*together)(Lane *, Together);
    void (*active)(Lane *, u32 place);
    void (*barrier)(Lane *, u32 id, u32 count);
    void (*barrier_red)(Lane *, u32 id, u32 value);
    void (*poll)(Lane *);
    void (*leave)(Lane *);
    void (*trap)(Lane *, const char *why) __attribute__((noreturn));
    void (*print)(Lane *, const char *format, u8 *values);
    u64 (*clock)(void);
};

struct ptx_kernel {
    const char *name;
    void (*run)(Lane *, u8 **params);
    int fibers; // whether a thread ever waits for another
    u32 static_shared, params, max_threads;
};
