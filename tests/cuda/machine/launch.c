// Runs a translated kernel: the blocks of a grid on a few threads of the host, the threads of a
// block one after the other, or as fibers where they wait for each other.
#define _GNU_SOURCE
#include "lane.h"
#include "machine.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef __x86_64__
#error "the switch between fibers is written for x86-64"
#endif

enum { MOST_THREADS = 1024, STACK = 1 << 20, WORKERS = 64 };
enum state { READY, TOGETHER, ACTIVE, BARRIER, POLL, DONE };

struct fiber {
    Lane lane; // first: a Lane * is a fiber *
    void *stack_pointer;
    enum state state;
    Together together;
    u32 place, barrier, needed, red;
};

struct worker {
    struct fiber *fibers;
    char *stacks, *shared;
    size_t shared_bytes;
    void *scheduler;
    struct fiber *current;
    const struct job *job;
    int error;
    sigjmp_buf fault;
    void *fault_at;
};

struct job {
    const struct ptx_kernel *kernel;
    const unsigned *grid, *block;
    unsigned dynamic;
    u8 **params;
    u64 blocks;
    _Atomic u64 next;
    _Atomic int error;
};

static __thread struct worker *me;

// Saves the registers that a call must keep, changes the stack, restores them.
__attribute__((naked, noinline)) static void change(void **save, void *load) {
    (void)save, (void)load;
    __asm__("push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15;"
            "mov %rsp, (%rdi); mov %rsi, %rsp;"
            "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp; ret");
}

static void suspend(struct fiber *fiber, enum state state) {
    fiber->state = state;
    change(&fiber->stack_pointer, me->scheduler);
}

static void start(void) {
    struct fiber *fiber = me->current;
    me->job->kernel->run(&fiber->lane, me->job->params);
    suspend(fiber, DONE);
    __builtin_unreachable();
}

// --- what a lane asks of the driver ---

static void lane_together(Lane *lane, Together what) {
    struct fiber *fiber = (struct fiber *)lane;
    fiber->together = what;
    suspend(fiber, TOGETHER);
}
static void lane_active(Lane *lane, u32 place) {
    ((struct fiber *)lane)->place = place;
    suspend((struct fiber *)lane, ACTIVE);
}
static void lane_barrier(Lane *lane, u32 id, u32 count) {
    struct fiber *fiber = (struct fiber *)lane;
    fiber->barrier = id, fiber->needed = count;
    suspend(fiber, BARRIER);
}
static void lane_barrier_red(Lane *lane, u32 id, u32 value) {
    ((struct fiber *)lane)->red = value;
    lane_barrier(lane, id, 0);
}
static void lane_poll(Lane *lane) { suspend((struct fiber *)lane, POLL); }
static void lane_leave(Lane *lane) {
    if (!me->job->kernel->fibers) siglongjmp(me->fault, 2);
    suspend((struct fiber *)lane, DONE);
}
static void say_where(const char *why) {
    const Lane *lane = &me->current->lane;
    machine_say("kernel %s, block (%u, %u, %u), thread (%u, %u, %u): %s", me->job->kernel->name,
                lane->ctaid[0], lane->ctaid[1], lane->ctaid[2], lane->tid[0], lane->tid[1],
                lane->tid[2], why);
}
__attribute__((noreturn)) static void lane_trap(Lane *lane, const char *why) {
    me->current = (struct fiber *)lane;
    say_where(why);
    me->error = !strcmp(why, "misaligned address") ? CUDA_ERROR_MISALIGNED_ADDRESS : CUDA_ERROR_LAUNCH_FAILED;
    siglongjmp(me->fault, 1);
}
static void lane_print(Lane *lane, const char *format, u8 *values) {
    (void)lane;
    // vprintf's arguments lie one after the other, each aligned to its size; floats are doubles.
    size_t at = 0;
    for (const char *c = format; *c; c++) {
        if (*c != '%') {
            fputc(*c, stdout);
            continue;
        }
        char one[32] = "%";
        size_t used = 1;
        bool wide = false;
        for (c++; *c && used < 30; c++) {
            one[used++] = *c;
            wide |= *c == 'l' || *c == 'z';
            if (strchr("diouxXcsfFeEgGp%", *c)) break;
        }
        one[used] = 0;
        if (*c == '%') {
            fputc('%', stdout);
            continue;
        }
        bool eight = wide || strchr("sfFeEgGp", *c);
        at = eight ? (at + 7) & ~(size_t)7 : at;
        if (strchr("fFeEgG", *c)) printf(one, *(double *)(values + at));
        else if (eight) printf(one, *(u64 *)(values + at));
        else printf(one, *(u32 *)(values + at));
        at += eight ? 8 : 4;
    }
}

// --- the scheduler ---

// Runs the lanes of one warp until each has ended or waits for another warp.
static void run_warp(struct fiber *fibers, u32 count) {
    for (;;) {
        bool ran = false;
        u32 alive = 0;
        Lane *lanes[32] = {0};
        for (u32 i = 0; i < count; i++) {
            struct fiber *fiber = &fibers[i];
            if (fiber->state == READY) {
                me->current = fiber;
                change(&me->scheduler, fiber->stack_pointer);
                ran = true;
            }
            lanes[i] = &fiber->lane;
            if (fiber->state != DONE) alive |= 1u << i;
        }
        bool released = false;
        for (u32 i = 0; i < count; i++) {
            struct fiber *first = &fibers[i];
            if (first->state != TOGETHER) continue;
            u32 wanted = first->lane.mask & alive, come = 0;
            for (u32 j = i; j < count; j++)
                if (fibers[j].state == TOGETHER && fibers[j].together == first->together &&
                    fibers[j].lane.mask == first->lane.mask)
                    come |= 1u << j;
            if (come != wanted) continue;
            first->together(lanes, come);
            for (u32 j = i; j < count; j++)
                if (come >> j & 1) fibers[j].state = READY;
            released = true;
        }
        // Nothing else moves: the lanes that stand at the same place are the active ones.
        for (u32 i = 0; i < count && !released && !ran; i++) {
            if (fibers[i].state != ACTIVE) continue;
            u32 here = 0;
            for (u32 j = i; j < count; j++)
                if (fibers[j].state == ACTIVE && fibers[j].place == fibers[i].place) here |= 1u << j;
            for (u32 j = i; j < count; j++)
                if (here >> j & 1) fibers[j].lane.mask = here, fibers[j].state = READY;
            released = true;
        }
        if (!ran && !released) return;
    }
}

// Opens the barriers of the block that all have come to. Whether one opened.
static bool open_barriers(struct fiber *fibers, u32 threads) {
    u32 alive = 0, come[16] = {0}, needed[16] = {0}, red[16] = {0};
    bool opened = false;
    for (u32 i = 0; i < threads; i++) {
        alive += fibers[i].state != DONE;
        if (fibers[i].state != BARRIER) continue;
        u32 id = fibers[i].barrier & 15;
        come[id]++;
        needed[id] = fibers[i].needed;
        red[id] += fibers[i].red != 0;
    }
    for (u32 id = 0; id < 16; id++) {
        if (!come[id] || come[id] < (needed[id] ? needed[id] : alive)) continue;
        for (u32 i = 0; i < threads; i++) {
            struct fiber *fiber = &fibers[i];
            if (fiber->state != BARRIER || (fiber->barrier & 15) != id) continue;
            fiber->lane.reduced_popc = red[id];
            fiber->lane.reduced_and = red[id] == come[id];
            fiber->lane.reduced_or = red[id] != 0;
            fiber->red = 0;
            fiber->state = READY;
        }
        opened = true;
    }
    return opened;
}

static void run_fibers(u32 threads) {
    struct fiber *fibers = me->fibers;
    for (u32 i = 0; i < threads; i++) {
        void **top = (void **)(me->stacks + (size_t)(i + 1) * STACK);
        top[-1] = NULL;           // where `start` would return to; also aligns the stack
        top[-2] = (void *)start;
        fibers[i].stack_pointer = &top[-8]; // six registers below the return address
        fibers[i].state = READY;
    }
    for (u64 idle = 0;;) {
        bool left = false, polls = false;
        for (u32 at = 0; at < threads; at += 32)
            run_warp(fibers + at, threads - at < 32 ? threads - at : 32);
        for (u32 i = 0; i < threads; i++) left |= fibers[i].state != DONE;
        if (!left) return;
        if (open_barriers(fibers, threads)) {
            idle = 0;
            continue;
        }
        for (u32 i = 0; i < threads; i++)
            if (fibers[i].state == POLL) fibers[i].state = READY, polls = true;
        if (polls && idle++ < 100000) continue;
        for (u32 i = 0; i < threads; i++)
            if (fibers[i].state != DONE) {
                static const char *const WAITS[] = {"", "for its warp", "for its warp", "at a barrier", "at an mbarrier", ""};
                char why[96];
                snprintf(why, sizeof why, "waits for ever %s that the others do not reach", WAITS[fibers[i].state]);
                lane_trap(&fibers[i].lane, why);
            }
    }
}

static void run_block(u64 number) {
    const struct job *job = me->job;
    const struct ptx_kernel *kernel = job->kernel;
    u32 threads = job->block[0] * job->block[1] * job->block[2];
    u64 dynamic_at = (kernel->static_shared + 15) & ~15ull;
    me->shared_bytes = dynamic_at + job->dynamic;
    // What no thread has written is not zero on a GPU either.
    memset(me->shared, 0xa5, me->shared_bytes);
    u32 block[3] = {(u32)(number % job->grid[0]), (u32)(number / job->grid[0] % job->grid[1]),
                    (u32)(number / job->grid[0] / job->grid[1])};
    for (u32 i = 0; i < threads; i++) {
        Lane *lane = &me->fibers[i].lane;
        memcpy(lane->ctaid, block, sizeof block);
        memcpy(lane->ntid, job->block, sizeof lane->ntid);
        memcpy(lane->nctaid, job->grid, sizeof lane->nctaid);
        lane->tid[0] = i % job->block[0];
        lane->tid[1] = i / job->block[0] % job->block[1];
        lane->tid[2] = i / job->block[0] / job->block[1];
        lane->lane = i & 31, lane->warp = i >> 5;
        lane->dynamic = job->dynamic, lane->dynamic_at = (u32)dynamic_at;
        lane->shared = (u8 *)me->shared, lane->shared_bytes = me->shared_bytes;
    }
    if (kernel->fibers) {
        run_fibers(threads);
        return;
    }
    for (u32 i = 0; i < threads; i++) {
        me->current = &me->fibers[i];
        kernel->run(&me->fibers[i].lane, job->params);
    }
}

static struct sigaction before;

static void on_fault(int signal, siginfo_t *info, void *context) {
    if (me && me->job && me->current) {
        // The stack of a signal handler is too small to print from.
        me->fault_at = info->si_addr;
        siglongjmp(me->fault, 3);
    }
    if (before.sa_flags & SA_SIGINFO) before.sa_sigaction(signal, info, context);
    else {
        sigaction(SIGSEGV, &before, NULL);
        raise(signal);
    }
}

static void work(struct worker *worker, struct job *job) {
    me = worker;
    me->job = job;
    me->error = 0;
    volatile u64 number;
    while ((number = job->next++) < job->blocks && !job->error) {
        int jumped = sigsetjmp(me->fault, 1);
        if (!jumped) run_block(number);
        else if (jumped == 3) {
            char why[96];
            snprintf(why, sizeof why, "access to %p, which is not its memory", me->fault_at);
            say_where(why);
            job->error = CUDA_ERROR_ILLEGAL_ADDRESS;
        } else if (jumped == 1) job->error = me->error;
    }
    me->job = NULL;
    me = NULL;
}

static struct worker *worker_new(void) {
    struct worker *new = calloc(1, sizeof *new);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    new->stacks = mmap(NULL, (size_t)MOST_THREADS * STACK, PROT_READ | PROT_WRITE, flags, -1, 0);
    new->shared = aligned_alloc(1024, 256 << 10);
    new->fibers = calloc(MOST_THREADS, sizeof *new->fibers);
    for (u32 i = 0; i < MOST_THREADS; i++) {
        Lane *lane = &new->fibers[i].lane;
        lane->together = lane_together, lane->active = lane_active, lane->barrier = lane_barrier;
        lane->barrier_red = lane_barrier_red, lane->poll = lane_poll, lane->leave = lane_leave;
        lane->trap = lane_trap, lane->print = lane_print, lane->clock = machine_clock;
    }
    return new;
}

// --- the pool ---

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, one_launch = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER, ended = PTHREAD_COND_INITIALIZER;
static struct job *open_job;
static u64 job_number;
static int workers, busy;
static struct worker *mine;

static void *pool_thread(void *data) {
    struct worker *worker = data;
    u64 seen = 0;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (job_number == seen) pthread_cond_wait(&wake, &lock);
        seen = job_number;
        struct job *job = open_job;
        if (!job) continue;
        busy++;
        pthread_mutex_unlock(&lock);
        work(worker, job);
        pthread_mutex_lock(&lock);
        if (!--busy) pthread_cond_signal(&ended);
    }
    return NULL;
}

static void set_up(void) {
    const char *text = getenv("CUDA_MACHINE_THREADS");
    long count = text && *text ? atol(text) : sysconf(_SC_NPROCESSORS_ONLN);
    workers = count < 1 ? 1 : count > WORKERS ? WORKERS : (int)count;
    mine = worker_new();
    for (int i = 1; i < workers; i++) {
        pthread_t thread;
        if (!pthread_create(&thread, NULL, pool_thread, worker_new())) pthread_detach(thread);
    }
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaction(SIGSEGV, &action, &before);
}

static _Atomic int poisoned;

int machine_poisoned(void) { return poisoned; }

int launch(struct kernel *kernel, const unsigned grid[3], const unsigned block[3],
           unsigned dynamic, void **params) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_up);
    if (poisoned) return poisoned;
    struct job job = {.kernel = kernel->translated, .grid = grid, .block = block, .dynamic = dynamic,
                      .params = (u8 **)params, .blocks = (u64)grid[0] * grid[1] * grid[2]};
    pthread_mutex_lock(&one_launch);
    bool shared_out = workers > 1 && job.blocks > 1 && job.blocks * block[0] * block[1] * block[2] > 2048;
    if (shared_out) {
        pthread_mutex_lock(&lock);
        open_job = &job;
        job_number++;
        pthread_cond_broadcast(&wake);
        pthread_mutex_unlock(&lock);
    }
    work(mine, &job);
    if (shared_out) {
        pthread_mutex_lock(&lock);
        open_job = NULL;
        while (busy) pthread_cond_wait(&ended, &lock);
        pthread_mutex_unlock(&lock);
    }
    pthread_mutex_unlock(&one_launch);
    if (job.error) poisoned = job.error; // as on a GPU, where such a fault ends the context
    return job.error;
}
