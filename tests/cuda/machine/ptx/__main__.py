"""PTX to C: what NVRTC made of a kernel becomes a C function per entry point, run by launch.c on
the CPU, one call (or one fiber) per thread of a block. Only what NVRTC emits for the kernels of
this project and of CubeCL is known; anything else ends with the instruction that is missing.

    python3 ptx < kernel.ptx > kernel.c        (../device.h holds the run-time half)

Instructions and their meaning: NVIDIA, Parallel Thread Execution ISA 8.8, chapters 5 to 9.
Compute with `.approx` is done with the C library's functions, closer than the GPU's; the PTX is
taken literally, so nothing is contracted to a fused multiply-add that is not written as one.
"""
import sys

from module import Module
from text import Unknown


def main():
    try:
        sys.stdout.write(Module().translate(sys.stdin.read()))
    except Unknown as error:
        sys.exit(f"PTX that the machine does not know: {error}")


main()
