// A CUDA driver made of software: the driver API calls that cudarc resolves for CubeCL and vlft.
// Every call finishes before it returns, which is one of the orders that a GPU may choose too.
#define _GNU_SOURCE
#include "machine.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>


struct counters counted;
bool machine_runs;

// Figures from NVIDIA's CUDA C++ Programming Guide (table of compute capabilities) and the cards'
// data sheets; the memory is what the driver reports, a little less than the printed size.
static const struct card CARDS[] = {
    {"a6000", "NVIDIA RTX A6000", 8, 6, 84, 101376, 102400, 47754ull << 20},
    {"a100", "NVIDIA A100-SXM4-80GB", 8, 0, 108, 166912, 167936, 81150ull << 20},
    {"l40s", "NVIDIA L40S", 8, 9, 142, 101376, 102400, 45478ull << 20},
    {"h200", "NVIDIA H200", 9, 0, 132, 232448, 233472, 143156ull << 20},
    // A card without tensor cores: CubeCL then chooses its plain kernels.
    {"plain", "NVIDIA GeForce GTX 1660 (software)", 7, 5, 22, 65536, 65536, 16384ull << 20},
};

const struct card *machine_card(void) {
    const char *key = getenv("CUDA_MACHINE_CARD");
    if (!key || !*key) return &CARDS[0];
    for (size_t i = 0; i < sizeof CARDS / sizeof *CARDS; i++)
        if (!strcmp(key, CARDS[i].key)) return &CARDS[i];
    machine_say("CUDA_MACHINE_CARD: no card is called %s", key);
    exit(2);
}

uint64_t machine_memory(void) {
    const char *bytes = getenv("CUDA_MACHINE_MEMORY");
    return bytes && *bytes ? strtoull(bytes, NULL, 10) : machine_card()->memory;
}

uint64_t machine_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

void machine_say(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    fputs("cuda machine: ", stderr);
    vfprintf(stderr, format, rest);
    fputc('\n', stderr);
    va_end(rest);
}

// One thing that a context, a stream or an event points to. Never freed: a use after the end is
// then an error that is told, not a crash.
struct object {
    enum { CONTEXT = 0xc0de01, STREAM, EVENT, GONE } kind;
    uint64_t stamp;
};
static struct object the_context = {CONTEXT, 0}, default_stream = {STREAM, 0};

static struct object *object_new(int kind) {
    struct object *new = calloc(1, sizeof *new);
    new->kind = kind;
    return new;
}

static struct object *stream_of(struct object *stream) { return stream ? stream : &default_stream; }

// --- start and device ---

API cuInit(unsigned flags) {
    static atomic_flag done = ATOMIC_FLAG_INIT;
    (void)flags;
    if (!atomic_flag_test_and_set(&done)) {
        const char *mode = getenv("CUDA_MACHINE_MODE");
        machine_runs = mode && !strcmp(mode, "run");
        if (mode && *mode && !machine_runs && strcmp(mode, "count")) {
            machine_say("CUDA_MACHINE_MODE is count or run, not %s", mode);
            exit(2);
        }
        atexit(machine_report);
    }
    return CUDA_SUCCESS;
}

// NVRTC opens libcuda.so.1 and asks for a private table of the driver's; without this call it ends.
API cuGetExportTable(const void **table, const void *id) {
    (void)id;
    *table = NULL;
    return CUDA_ERROR_NOT_FOUND;
}

API cuDriverGetVersion(int *version) {
    *version = 13000;
    return CUDA_SUCCESS;
}

API cuDeviceGetCount(int *count) {
    *count = 1;
    return CUDA_SUCCESS;
}

API cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

API cuDeviceGetName(char *name, int length, int device) {
    (void)device;
    snprintf(name, (size_t)length, "%s", machine_card()->name);
    return CUDA_SUCCESS;
}

API cuDeviceGetPCIBusId(char *id, int length, int device) {
    (void)device;
    snprintf(id, (size_t)length, "0000:01:00.0");
    return CUDA_SUCCESS;
}

API cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    (void)device;
    memcpy(uuid, "software-machine", 16);
    return CUDA_SUCCESS;
}
API cuDeviceGetUuid(unsigned char *uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }

API cuDeviceTotalMem_v2(size_t *bytes, int device) {
    (void)device;
    *bytes = machine_memory();
    return CUDA_SUCCESS;
}

API cuDeviceGetAttribute(int *value, int attribute, int device) {
    const struct card *card = machine_card();
    (void)device;
    switch (attribute) {
    case 1: *value = 1024; break;                                // threads per block
    case 2: case 3: *value = 1024; break;                        // block x, y
    case 4: *value = 64; break;                                  // block z
    case 5: *value = 2147483647; break;                          // grid x
    case 6: case 7: *value = 65535; break;                       // grid y, z
    case 8: *value = 49152; break;                               // shared memory per block
    case 9: *value = 65536; break;                               // constant memory
    case 10: *value = 32; break;                                 // warp
    case 12: case 82: *value = 65536; break;                     // registers per block, per SM
    case 13: *value = 1800000; break;                            // clock, kHz
    case 16: *value = card->multiprocessors; break;
    case 31: case 40: *value = 1; break;                         // concurrent kernels, copy engines
    case 33: *value = 1; break;                                  // PCI bus
    case 36: *value = 8000000; break;                            // memory clock, kHz
    case 37: *value = 384; break;                                // memory bus, bits
    case 38: *value = 6 << 20; break;                            // L2
    case 39: *value = card->minor == 6 || card->minor == 9 ? 1536 : 2048; break; // threads per SM
    case 41: case 78: case 83: case 95: case 115: *value = 1; break;
    case 75: *value = card->major; break;
    case 76: *value = card->minor; break;
    case 81: *value = card->shared_per_sm; break;
    case 97: *value = card->shared_optin; break;
    case 106: *value = 16; break;                                // blocks per SM
    case 111: *value = 1024; break;                              // shared memory kept by the system
    default: *value = 0;
    }
    return CUDA_SUCCESS;
}

API cuDeviceCanAccessPeer(int *can, int a, int b) {
    (void)a, (void)b;
    *can = 0;
    return CUDA_SUCCESS;
}

API cuDevicePrimaryCtxRetain(struct object **context, int device) {
    (void)device;
    *context = &the_context;
    return CUDA_SUCCESS;
}
API cuDevicePrimaryCtxRelease_v2(int device) { return device == 0 ? 0 : CUDA_ERROR_INVALID_DEVICE; }
API cuCtxSetCurrent(struct object *context) {
    return !context || context == &the_context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
API cuCtxGetCurrent(struct object **context) { return cuDevicePrimaryCtxRetain(context, 0); }
API cuCtxGetDevice(int *device) { return cuDeviceGet(device, 0); }
API cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0, *greatest = -5;
    return CUDA_SUCCESS;
}
API cuCtxSynchronize(void) {
    counted.context_syncs++;
    machine_trace("context_sync", 0);
    return machine_poisoned();
}

// --- streams and events ---

API cuStreamCreate(struct object **stream, unsigned flags) {
    (void)flags;
    *stream = object_new(STREAM);
    return CUDA_SUCCESS;
}
API cuStreamCreateWithPriority(struct object **stream, unsigned flags, int priority) {
    (void)priority;
    return cuStreamCreate(stream, flags);
}
API cuStreamDestroy_v2(struct object *stream) {
    if (stream->kind != STREAM) return CUDA_ERROR_INVALID_HANDLE;
    stream->kind = GONE;
    return CUDA_SUCCESS;
}
API cuStreamSynchronize(struct object *stream) {
    if (stream_of(stream)->kind != STREAM) return CUDA_ERROR_INVALID_HANDLE;
    counted.stream_syncs++;
    machine_trace("stream_sync", 0);
    return machine_poisoned();
}
API cuStreamQuery(struct object *stream) {
    counted.queries++;
    return stream_of(stream)->kind == STREAM ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}
API cuStreamIsCapturing(struct object *stream, int *status) {
    *status = 0;
    return stream_of(stream)->kind == STREAM ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}
API cuStreamBeginCapture_v2(struct object *stream, int mode) {
    (void)stream, (void)mode;
    return CUDA_ERROR_NOT_SUPPORTED;
}
API cuStreamWaitEvent(struct object *stream, struct object *event, unsigned flags) {
    (void)flags;
    bool good = stream_of(stream)->kind == STREAM && event && event->kind == EVENT;
    return good ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}
API cuLaunchHostFunc(struct object *stream, void (*function)(void *), void *data) {
    if (stream_of(stream)->kind != STREAM) return CUDA_ERROR_INVALID_HANDLE;
    function(data);
    return CUDA_SUCCESS;
}

API cuEventCreate(struct object **event, unsigned flags) {
    (void)flags;
    *event = object_new(EVENT);
    return CUDA_SUCCESS;
}
API cuEventDestroy_v2(struct object *event) {
    if (event->kind != EVENT) return CUDA_ERROR_INVALID_HANDLE;
    free(event); // thousands are made per step
    return CUDA_SUCCESS;
}
API cuEventRecord(struct object *event, struct object *stream) {
    if (event->kind != EVENT || stream_of(stream)->kind != STREAM) return CUDA_ERROR_INVALID_HANDLE;
    event->stamp = machine_clock();
    return CUDA_SUCCESS;
}
API cuEventSynchronize(struct object *event) {
    if (event->kind != EVENT) return CUDA_ERROR_INVALID_HANDLE;
    counted.event_syncs++;
    machine_trace("event_sync", 0);
    return machine_poisoned();
}
API cuEventQuery(struct object *event) {
    counted.queries++;
    return event->kind == EVENT ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}
// Events tell a thousandth of the time that passed: CubeCL's autotune then takes its first candidate
// that works, since it is faster than the card could be (see `is_probe`). All others would be
// compiled twice each only to be thrown away.
API cuEventElapsedTime_v2(float *milliseconds, struct object *start, struct object *end) {
    if (start->kind != EVENT || end->kind != EVENT) return CUDA_ERROR_INVALID_HANDLE;
    *milliseconds = (float)((double)(end->stamp - start->stamp) / 1e9);
    return CUDA_SUCCESS;
}
API cuEventElapsedTime(float *milliseconds, struct object *start, struct object *end) {
    return cuEventElapsedTime_v2(milliseconds, start, end);
}

// --- modules and launches ---

API cuModuleLoadData(struct module **module, const void *image) {
    int status;
    *module = module_load(image, &status);
    return status;
}
API cuModuleUnload(struct module *module) { return module ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; }
API cuModuleGetFunction(struct kernel **kernel, struct module *module, const char *name) {
    *kernel = module_kernel(module, name);
    return *kernel ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

API cuFuncSetAttribute(struct kernel *kernel, int attribute, int value) {
    if (attribute == 8) { // MAX_DYNAMIC_SHARED_SIZE_BYTES
        if (value < 0 || value + kernel->static_shared > machine_card()->shared_optin)
            return CUDA_ERROR_INVALID_VALUE;
        kernel->dynamic_limit = value;
    }
    return CUDA_SUCCESS;
}
API cuFuncGetAttribute(int *value, int attribute, struct kernel *kernel) {
    *value = attribute == 0 ? kernel->max_threads : attribute == 1 ? kernel->static_shared : 0;
    return CUDA_SUCCESS;
}

// CubeCL's measurements of what the card can do, by the host's clock and with results that nobody
// reads: such a launch is 20 ms long, the length that they aim at, and computes nothing.
static bool is_probe(const char *name) {
    return strstr(name, "_throughput_") || !strncmp(name, "prime_buffer_", 13);
}

API cuLaunchKernel(struct kernel *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                   unsigned by, unsigned bz, unsigned dynamic_shared, struct object *stream,
                   void **params, void **extra) {
    const unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
    if (!kernel || extra || stream_of(stream)->kind != STREAM) return CUDA_ERROR_INVALID_HANDLE;
    // The limits that every card of compute capability 7.5 to 9.0 has.
    if (!gx || !gy || !gz || !bx || !by || !bz || gx > 2147483647u || gy > 65535 || gz > 65535 ||
        bx > 1024 || by > 1024 || bz > 64)
        return CUDA_ERROR_INVALID_VALUE;
    if (bx * by * bz > (unsigned)kernel->max_threads) return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    unsigned allowed = kernel->dynamic_limit > 49152 - kernel->static_shared
                           ? (unsigned)kernel->dynamic_limit
                           : (unsigned)(49152 - kernel->static_shared);
    if (dynamic_shared > allowed) return CUDA_ERROR_INVALID_VALUE;
    counted.launches++;
    kernel->launches++;
    if (is_probe(kernel->name)) {
        usleep(20000);
        return CUDA_SUCCESS;
    }
    if (!machine_runs) return CUDA_SUCCESS;
    uint64_t start = machine_clock();
    int status = launch(kernel, grid, block, dynamic_shared, params);
    uint64_t spent = machine_clock() - start;
    counted.launch_nanoseconds += spent;
    kernel->nanoseconds += spent;
    return status;
}

// --- errors ---

static const struct {
    int code;
    const char *name, *text;
} ERRORS[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS",
     "an illegal memory access was encountered"},
    {CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
     "too many resources requested for launch"},
    {CUDA_ERROR_ASSERT, "CUDA_ERROR_ASSERT", "device-side assert triggered"},
    {CUDA_ERROR_MISALIGNED_ADDRESS, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
};

static int error_text(int code, const char **text, bool name) {
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) {
            *text = name ? ERRORS[i].name : ERRORS[i].text;
            return CUDA_SUCCESS;
        }
    *text = NULL;
    return CUDA_ERROR_INVALID_VALUE;
}
API cuGetErrorName(int code, const char **text) { return error_text(code, text, true); }
API cuGetErrorString(int code, const char **text) { return error_text(code, text, false); }
