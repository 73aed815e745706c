// What the parts of the software CUDA driver share. See README.md beside this file.
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A call of the driver API: the rest is not seen from outside.
#define API __attribute__((visibility("default"))) int

enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_IMAGE = 200,
    CUDA_ERROR_INVALID_HANDLE = 400,
    CUDA_ERROR_NOT_FOUND = 500,
    CUDA_ERROR_ILLEGAL_ADDRESS = 700,
    CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701,
    CUDA_ERROR_ASSERT = 710,
    CUDA_ERROR_MISALIGNED_ADDRESS = 716,
    CUDA_ERROR_LAUNCH_FAILED = 719,
    CUDA_ERROR_NOT_SUPPORTED = 801,
};

struct object; // a context, a stream or an event

// The card that the driver claims to be (CUDA_MACHINE_CARD).
struct card {
    const char *key, *name;
    int major, minor, multiprocessors, shared_optin, shared_per_sm;
    uint64_t memory;
};

// All that is counted, since the start of the process.
struct counters {
    _Atomic uint64_t device_now, device_peak, allocations, frees, refused;
    _Atomic uint64_t pinned_now, pinned_peak;
    _Atomic uint64_t modules, launches, launch_nanoseconds;
    _Atomic uint64_t stream_syncs, event_syncs, context_syncs, blocking_copies, queries;
    _Atomic uint64_t to_device, to_device_bytes, to_host, to_host_bytes, on_device,
        on_device_bytes, memsets;
};
extern struct counters counted;
extern bool machine_runs; // false: launches are counted and do nothing

// A kernel of a loaded module.
struct kernel {
    const char *name;
    void *translated; // struct ptx_kernel of the translated module; null when launches do nothing
    _Atomic uint64_t launches, nanoseconds;
    int static_shared, dynamic_limit, max_threads;
    struct kernel *next;
};

struct module {
    char *text;
    struct kernel *kernels;
    void *library;
    struct module *next;
};

const struct card *machine_card(void);
uint64_t machine_memory(void);
uint64_t machine_clock(void);
void machine_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void machine_trace(const char *what, uint64_t bytes);
void machine_report(void);

struct module *module_load(const char *ptx, int *status);
struct kernel *module_kernel(struct module *module, const char *name);
struct module *module_all(void);

// The error that ended the context, or CUDA_SUCCESS.
int machine_poisoned(void);
int launch(struct kernel *kernel, const unsigned grid[3], const unsigned block[3],
           unsigned dynamic_shared, void **params);
