// Memory of the card and pinned memory of the host: allocations, copies, their counts.
#define _GNU_SOURCE
#include "machine.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef uint64_t devptr;

struct allocation {
    devptr start;
    size_t bytes, mapped;
    struct allocation *next;
};
static struct allocation *allocations;
static pthread_mutex_t memory_lock = PTHREAD_MUTEX_INITIALIZER;
static const size_t GUARD = 1 << 16;

static void raise_peak(_Atomic uint64_t *peak, uint64_t now) {
    uint64_t old = *peak;
    while (old < now && !atomic_compare_exchange_weak(peak, &old, now)) {}
}

// Device memory is address space between two guard zones: touched pages are committed when
// kernels run, none at all when they are only counted (a host that reads it then crashes, as it
// would with a GPU).
API cuMemAlloc_v2(devptr *pointer, size_t bytes) {
    if (!bytes) return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&memory_lock);
    if (counted.device_now + bytes > machine_memory()) {
        counted.refused++;
        pthread_mutex_unlock(&memory_lock);
        machine_trace("refused", bytes);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    size_t mapped = ((bytes + 4095) & ~(size_t)4095) + 2 * GUARD;
    char *base = mmap(NULL, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct allocation *new = malloc(sizeof *new);
    if (base == MAP_FAILED || !new ||
        (machine_runs && mprotect(base + GUARD, mapped - 2 * GUARD, PROT_READ | PROT_WRITE))) {
        pthread_mutex_unlock(&memory_lock);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *new = (struct allocation){(devptr)(uintptr_t)(base + GUARD), bytes, mapped, allocations};
    allocations = new;
    *pointer = new->start;
    counted.allocations++;
    raise_peak(&counted.device_peak, counted.device_now += bytes);
    pthread_mutex_unlock(&memory_lock);
    machine_trace("alloc", bytes);
    return CUDA_SUCCESS;
}

API cuMemFree_v2(devptr pointer) {
    pthread_mutex_lock(&memory_lock);
    for (struct allocation **link = &allocations; *link; link = &(*link)->next) {
        struct allocation *this = *link;
        if (this->start != pointer) continue;
        *link = this->next;
        counted.frees++;
        counted.device_now -= this->bytes;
        pthread_mutex_unlock(&memory_lock);
        munmap((char *)(uintptr_t)this->start - GUARD, this->mapped);
        machine_trace("free", this->bytes);
        free(this);
        return CUDA_SUCCESS;
    }
    pthread_mutex_unlock(&memory_lock);
    return CUDA_ERROR_INVALID_VALUE;
}

API cuMemAllocAsync(devptr *pointer, size_t bytes, struct object *stream) {
    (void)stream;
    return cuMemAlloc_v2(pointer, bytes);
}
API cuMemFreeAsync(devptr pointer, struct object *stream) {
    (void)stream;
    return cuMemFree_v2(pointer);
}
API cuMemGetInfo_v2(size_t *unused, size_t *total) {
    *total = machine_memory();
    *unused = *total - counted.device_now;
    return CUDA_SUCCESS;
}

API cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) {
    (void)flags;
    size_t *block = aligned_alloc(4096, (bytes + 8191) & ~(size_t)4095);
    if (!block) return CUDA_ERROR_OUT_OF_MEMORY;
    *block = bytes;
    *pointer = (char *)block + 4096;
    raise_peak(&counted.pinned_peak, counted.pinned_now += bytes);
    return CUDA_SUCCESS;
}
API cuMemAllocHost_v2(void **pointer, size_t bytes) { return cuMemHostAlloc(pointer, bytes, 0); }
API cuMemFreeHost(void *pointer) {
    size_t *block = (size_t *)((char *)pointer - 4096);
    counted.pinned_now -= *block;
    free(block);
    return CUDA_SUCCESS;
}

// Whether [pointer, pointer + bytes) lies in one allocation.
static bool within(devptr pointer, size_t bytes) {
    bool found = !bytes;
    pthread_mutex_lock(&memory_lock);
    for (struct allocation *this = allocations; this && !found; this = this->next)
        found = this->start <= pointer && pointer + bytes <= this->start + this->bytes;
    pthread_mutex_unlock(&memory_lock);
    return found;
}

static int move(devptr to, bool to_device, devptr from, bool from_device, size_t bytes) {
    if (machine_poisoned()) return machine_poisoned();
    if ((to_device && !within(to, bytes)) || (from_device && !within(from, bytes))) {
        machine_say("a copy of %zu bytes leaves its allocation", bytes);
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (machine_runs) memmove((void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes);
    else if (!to_device) memset((void *)(uintptr_t)to, 0, bytes);
    return CUDA_SUCCESS;
}

static void count(bool to_device, bool from_device, size_t bytes) {
    if (to_device && from_device) {
        counted.on_device++;
        counted.on_device_bytes += bytes;
    } else if (to_device) {
        counted.to_device++;
        counted.to_device_bytes += bytes;
        machine_trace("to_device", bytes);
    } else {
        counted.to_host++;
        counted.to_host_bytes += bytes;
        machine_trace("to_host", bytes);
    }
}

static int copy(devptr to, bool to_device, devptr from, bool from_device, size_t bytes) {
    int status = move(to, to_device, from, from_device, bytes);
    if (!status) count(to_device, from_device, bytes);
    return status;
}

API cuMemcpyHtoDAsync_v2(devptr to, const void *from, size_t bytes, struct object *stream) {
    (void)stream;
    return copy(to, true, (devptr)(uintptr_t)from, false, bytes);
}
API cuMemcpyDtoHAsync_v2(void *to, devptr from, size_t bytes, struct object *stream) {
    (void)stream;
    return copy((devptr)(uintptr_t)to, false, from, true, bytes);
}
API cuMemcpyDtoDAsync_v2(devptr to, devptr from, size_t bytes, struct object *stream) {
    (void)stream;
    return copy(to, true, from, true, bytes);
}
API cuMemcpyHtoD_v2(devptr to, const void *from, size_t bytes) {
    counted.blocking_copies++;
    return cuMemcpyHtoDAsync_v2(to, from, bytes, NULL);
}
API cuMemcpyDtoH_v2(void *to, devptr from, size_t bytes) {
    counted.blocking_copies++;
    return cuMemcpyDtoHAsync_v2(to, from, bytes, NULL);
}
API cuMemcpyDtoD_v2(devptr to, devptr from, size_t bytes) {
    return cuMemcpyDtoDAsync_v2(to, from, bytes, NULL);
}

struct plane_copy { // CUDA_MEMCPY2D
    size_t from_x, from_y;
    int from_type;
    const void *from_host;
    devptr from_device;
    void *from_array;
    size_t from_pitch, to_x, to_y;
    int to_type;
    void *to_host;
    devptr to_device;
    void *to_array;
    size_t to_pitch, width, height;
};
API cuMemcpy2DAsync_v2(const struct plane_copy *c, struct object *stream) {
    (void)stream;
    bool down = c->to_type == 2, up = c->from_type == 2;
    devptr from = up ? c->from_device : (devptr)(uintptr_t)c->from_host;
    devptr to = down ? c->to_device : (devptr)(uintptr_t)c->to_host;
    for (size_t row = 0; row < c->height; row++) {
        int status = move(to + (c->to_y + row) * c->to_pitch + c->to_x, down,
                          from + (c->from_y + row) * c->from_pitch + c->from_x, up, c->width);
        if (status) return status;
    }
    count(down, up, c->width * c->height);
    return CUDA_SUCCESS;
}

API cuMemsetD8Async(devptr to, unsigned char value, size_t bytes, struct object *stream) {
    (void)stream;
    if (!within(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
    counted.memsets++;
    if (machine_runs) memset((void *)(uintptr_t)to, value, bytes);
    return CUDA_SUCCESS;
}
API cuMemsetD8_v2(devptr to, unsigned char value, size_t bytes) {
    return cuMemsetD8Async(to, value, bytes, NULL);
}
