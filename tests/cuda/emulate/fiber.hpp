// One fiber per CUDA thread: its own stack, switched by hand (x86-64) or by ucontext elsewhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define EMU_ASAN 1
#else
#define EMU_ASAN 0
#endif

namespace emu {

#if defined(__x86_64__)
extern "C" void emu_switch(void** save, void* load);
// Saves the registers that a function must keep and the stack pointer; ucontext does a system call
// each time, which is fifty times slower.
asm(R"(
.text
.globl emu_switch
.type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emu_switch, .-emu_switch
)");
#endif

class Fiber {
  public:
    static constexpr std::size_t STACK = EMU_ASAN ? 512 * 1024 : 128 * 1024;

    Fiber() : stack_(new unsigned char[STACK]) {}

    // `entry` must never return: it ends with leave().
    void prepare(void (*entry)()) {
#if EMU_ASAN
        ASAN_UNPOISON_MEMORY_REGION(stack_.get(), STACK);  // its last user never returned
#endif
#if defined(__x86_64__)
        auto top = reinterpret_cast<std::uintptr_t>(stack_.get() + STACK) & ~std::uintptr_t(15);
        auto* frame = reinterpret_cast<void**>(top);
        *--frame = nullptr;  // so that the entry sees the alignment of a called function
        *--frame = reinterpret_cast<void*>(entry);
        for (int i = 0; i < 6; ++i) *--frame = nullptr;
        own_ = frame;
#else
        getcontext(&own_);
        own_.uc_stack.ss_sp = stack_.get();
        own_.uc_stack.ss_size = STACK;
        own_.uc_link = nullptr;
        makecontext(&own_, entry, 0);
#endif
    }

    // From the scheduler into the fiber, until it leaves.
    void enter() {
#if EMU_ASAN
        void* fake = nullptr;
        __sanitizer_start_switch_fiber(&fake, stack_.get(), STACK);
#endif
        swap(main_, own_);
#if EMU_ASAN
        __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
    }

    // First thing on a new stack.
    void begin() {
#if EMU_ASAN
        __sanitizer_finish_switch_fiber(nullptr, &main_stack_, &main_size_);
#endif
    }

    // Back to the scheduler; comes back when it enters again. `last`: it never will.
    void leave(bool last = false) {
        (void)last;
#if EMU_ASAN
        void* fake = nullptr;
        __sanitizer_start_switch_fiber(last ? nullptr : &fake, main_stack_, main_size_);
#endif
        swap(own_, main_);
#if EMU_ASAN
        __sanitizer_finish_switch_fiber(fake, &main_stack_, &main_size_);
#endif
    }

  private:
#if defined(__x86_64__)
    using Context = void*;
    static void swap(Context& save, Context& load) { emu_switch(&save, load); }
#else
    using Context = ucontext_t;
    static void swap(Context& save, Context& load) { swapcontext(&save, &load); }
#endif
    std::unique_ptr<unsigned char[]> stack_;
    Context own_{};
    Context main_{};
    const void* main_stack_ = nullptr;
    std::size_t main_size_ = 0;
};

}  // namespace emu
