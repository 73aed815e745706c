#!/usr/bin/env python3
"""The attention kernels on a real NVIDIA GPU, in one call: against the definition, twice for the same bits, and timed.

    python3 tests/cuda/gpu.py [--json FILE]

Needs the driver and NVRTC: PyTorch's, a toolkit's, or what pip fetches. A step of LoRA on one
1,310,720-pixel page calls them with these sizes. TFLOP/s count the products each kernel does; the backward does seven
where a kernel with atomics does five. `--library` may name the driver of the software machine, whose times mean nothing.
"""
import argparse
import ctypes
import json
import os
import pathlib
import random
import struct
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "machine")]
import attention  # noqa: E402
import nvrtc  # noqa: E402
from check import Device, bf16  # noqa: E402

UNSUPPORTED_PTX_VERSION = 222
ROWS = 64  # of a tile, Shape::ROWS
# Name, head dimension, query heads, key heads, causal, segments.
SHAPES = [
    ("language, one record", 128, 32, 8, True, [2500]),
    ("language, 8,192 tokens", 128, 32, 8, True, [8192]),
    ("language, 27 records of 300 packed", 128, 32, 8, True, [300] * 27),
    ("vision, one page", 72, 16, 16, False, [5120]),
    ("vision, four pages", 72, 16, 16, False, [5120] * 4),
]


class Card(Device):
    """The first card, with a context."""

    def __init__(self, library, ptxas):
        super().__init__(library)
        self.ptxas, self.modules = ptxas, {}
        self.device, context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuDeviceGet", ctypes.byref(self.device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self.device)
        self.call("cuCtxSetCurrent", context)

    def kernel(self, ptx, name):
        module, kernel = self.modules.get(ptx) or self.load(ptx), ctypes.c_void_p()
        self.modules[ptx] = module
        self.call("cuModuleGetFunction", ctypes.byref(kernel), module, name.encode())
        return kernel

    def load(self, ptx):
        module = ctypes.c_void_p()
        if self.library.cuModuleLoadData(ctypes.byref(module), ptx) == UNSUPPORTED_PTX_VERSION:
            # A driver older than this NVRTC takes machine code all the same.
            with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
                nvrtc.assemble(self.ptxas, ptx.decode(), self.arch(), cubin.name).check_returncode()
                self.call("cuModuleLoadData", ctypes.byref(module), cubin.read())
        assert module, "the driver does not load the kernels"
        return module

    def arch(self):
        major, minor = self.attribute(75), self.attribute(76)  # compute capability
        return f"sm_{major}{minor}" + ("a" if major >= 9 else "")  # as cubecl-cuda asks for it

    def attribute(self, number):
        value = ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(value), number, self.device)
        return value.value

    def name(self):
        text = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", text, 256, self.device)
        return text.value.decode()

    def wait(self):
        self.call("cuCtxSynchronize")

    def free(self, *pointers):
        for pointer in pointers:
            self.call("cuMemFree_v2", pointer)


def compilers(wheels):
    """NVRTC, and ptxas if it is there."""
    folders = [pathlib.Path(one) for one in sys.path if one.endswith("-packages")]
    near = [found for one in folders for found in sorted(one.glob("nvidia/*/lib/libnvrtc.so.1[0-9]"))]
    toolkit = pathlib.Path(os.environ.get("CUDA_PATH", "/usr/local/cuda"))
    near += [pathlib.Path(os.path.realpath(one)) for one in sorted(toolkit.glob("lib64/libnvrtc.so"))]
    ptxas = toolkit / "bin/ptxas"
    found = nvrtc.installed(wheels) or (near and (near[0], ptxas)) or nvrtc.install(wheels)
    if not found:
        sys.exit("no NVRTC here, and NVIDIA's wheels cannot be installed")
    return found


def plan(dim, group, causal, segments, strides):
    """As `Plan::new` in crates/vlft-kernels/src/attention/cuda/plan.rs: the longest work first."""
    tiles, start = [], 0
    for tokens in segments:
        end = start + tokens
        tiles += [(start, end, first, 0) for first in range(start, end, ROWS)]
        start = end
    keys_seen = lambda t: min(t[1], t[2] + ROWS) - t[0] if causal else t[1] - t[0]
    seen_by = lambda t: t[1] - t[2] if causal else t[1] - t[0]
    lists = [x for work in (keys_seen, seen_by) for t in sorted(tiles, key=work, reverse=True) for x in t]
    header = struct.pack("3if12i", sum(segments), group, causal, dim**-0.5, *strides, *[0] * (12 - len(strides)))
    return header + struct.pack(f"{len(lists)}i", *lists), len(tiles)


def measure(card, ptx, shape, repeats):
    name, dim, heads, kv_heads, causal, segments = shape
    rows = sum(segments)
    rng = random.Random(1)
    block = bf16([rng.gauss(0, 1) for _ in range(1 << 16)])[1]

    def matrix(heads, shift):
        size = 2 * rows * heads * dim
        return card.memory((block[shift:] + block * (size // len(block) + 1))[:size])

    q, k, v, d_o = matrix(heads, 0), matrix(kv_heads, 2000), matrix(kv_heads, 4000), matrix(heads, 6000)
    room = lambda size: card.memory(b"\xff" * size)
    wide, narrow = heads * dim, kv_heads * dim
    o, d_q, d_k, d_v = (room(2 * rows * width) for width in (wide, wide, narrow, narrow))
    lse, delta = room(4 * heads * rows), room(4 * heads * rows)
    words, tiles = plan(dim, heads // kv_heads, causal, segments, [wide, narrow, narrow, wide, wide, wide, narrow])
    words = card.memory(words)
    pairs = sum(t * (t + 1) // 2 if causal else t * t for t in segments)
    kernels = [
        ("forward", heads, 2, (q, k, v, o, lse, words)),
        ("backward_query", heads, 3, (q, k, v, o, d_o, lse, d_q, delta, words)),
        ("backward_key", kv_heads, 4, (q, k, v, d_o, lse, delta, d_k, d_v, words)),
    ]
    results = (o, d_q, d_k, d_v)
    widths = (wide, wide, narrow, narrow)
    seen, line = None, {"shape": name}
    for round_ in range(2):
        for kernel, count, products, arguments in kernels:
            function = card.kernel(ptx, f"attention_{kernel}_kernel")
            times = []
            for _ in range(repeats + 1):  # the first one warms up
                card.wait()
                begin = time.perf_counter()
                card.launch(function, (count, tiles, 1), (128, 1, 1), 0, *arguments)
                card.wait()
                times.append(time.perf_counter() - begin)
            seconds = sorted(times[1:])[repeats // 2]
            line[kernel] = {"ms": seconds * 1e3, "tflops": products * 2 * dim * heads * pairs / seconds / 1e12}
        bits = [card.data(pointer, 2 * rows * width) for pointer, width in zip(results, widths)]
        assert seen is None or seen == bits, f"{name}: two runs differ"
        seen = bits
    card.free(q, k, v, d_o, *results, lse, delta, words)
    return line


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", default="libcuda.so.1")
    parser.add_argument("--wheels", type=pathlib.Path, default=nvrtc.CACHE)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--shrink", type=int, default=1, help="divides all sizes, for the software machine")
    parser.add_argument("--repeats", type=int, default=11)
    args = parser.parse_args()
    found = compilers(args.wheels)
    compiler = nvrtc.Nvrtc(found[0])
    card = Card(args.library, found[1])
    arch = card.arch()
    print(f"{card.name()}, {arch}, NVRTC {compiler.version}")
    texts = {}
    for dim in (128, 72):
        ptx, log = compiler.compile(nvrtc.source("bf16", dim), arch)
        assert ptx, log
        texts[dim] = ptx.encode()
    for one in attention.CASES:
        attention.case(card, texts[one[0]], *one)
    print(f"{'ms and TFLOP/s, medians':36} {'forward':>18} {'dQ':>18} {'dK, dV':>18}")
    lines = []
    for name, dim, *heads, causal, segments in SHAPES:
        segments = [max(1, tokens // args.shrink) for tokens in segments[: max(1, len(segments) // args.shrink)]]
        line = measure(card, texts[dim], (name, dim, *heads, causal, segments), args.repeats)
        cells = (f"{line[k]['ms']:9.3f} {line[k]['tflops']:8.1f}" for k in ("forward", "backward_query", "backward_key"))
        print(f"{name:36} " + " ".join(cells), flush=True)
        lines.append(line)
    print("the same bits in both runs of each")
    if args.json:
        args.json.write_text(json.dumps({"card": card.name(), "arch": arch, "attention": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
