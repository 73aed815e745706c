#!/usr/bin/env python3
"""The hand-written attention kernels as NVRTC compiles them for a card, run by the machine and compared
with the definition in f64. `../emulate` runs the same text compiled for the CPU, and finds races; this runs
the PTX: `mma.sync`, `ldmatrix`, `cp.async` and registers as they come out of NVIDIA's compiler.

    attention.py LIBCUDA LIBNVRTC      (the script `run` calls it)
"""
import importlib.util
import math
import os
import pathlib
import random
import struct
import sys

from check import SEED, Device, Nvrtc, bf16, f32, pack

ROWS = 64  # of a tile; shape.cuh
CASES = ((128, 4, 2, (70, 33), True), (128, 2, 1, (40,), False), (72, 2, 2, (66, 20), False))


def source(dim):
    path = pathlib.Path(__file__).resolve().parents[1] / "nvrtc.py"
    spec = importlib.util.spec_from_file_location("kernels", path)
    kernels = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kernels)
    return kernels.source("bf16", dim)


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def add(to, scale, row):
    for at, x in enumerate(row):
        to[at] += scale * x


def definition(q, k, v, d_o, heads, kv_heads, dim, segments, causal, scale):
    """o, d_q, d_k, d_v as flat lists, rows of all heads one after the other."""
    n = sum(segments)
    row = lambda x, count, i, h: x[(i * count + h) * dim:(i * count + h + 1) * dim]
    o, d_q = ([[0.0] * dim for _ in range(n * heads)] for _ in range(2))
    d_k, d_v = ([[0.0] * dim for _ in range(n * kv_heads)] for _ in range(2))
    start = 0
    for length in segments:
        for i in range(start, start + length):
            seen = range(start, i + 1 if causal else start + length)
            for h in range(heads):
                g, at = h * kv_heads // heads, i * heads + h
                scores = [dot(row(q, heads, i, h), row(k, kv_heads, j, g)) * scale for j in seen]
                top = max(scores)
                p = [math.exp(s - top) for s in scores]
                total = sum(p)
                p = [x / total for x in p]
                for x, j in zip(p, seen):
                    add(o[at], x, row(v, kv_heads, j, g))
                up = row(d_o, heads, i, h)
                delta = dot(up, o[at])
                for x, j in zip(p, seen):
                    ds = x * (dot(up, row(v, kv_heads, j, g)) - delta) * scale
                    add(d_q[at], ds, row(k, kv_heads, j, g))
                    add(d_k[j * kv_heads + g], ds, row(q, heads, i, h))
                    add(d_v[j * kv_heads + g], x, up)
        start += length
    return [[x for one in rows for x in one] for rows in (o, d_q, d_k, d_v)]


def case(device, ptx, dim, heads, kv_heads, segments, causal):
    rng, n = random.Random(SEED), sum(segments)
    q, k, v, d_o = (bf16([rng.gauss(0, 1) for _ in range(n * count * dim)]) for count in (heads, kv_heads, kv_heads, heads))
    scale = f32(1 / math.sqrt(dim))
    tiles, start = [], 0
    for length in segments:
        tiles += [(start, start + length, first, 0) for first in range(start, start + length, ROWS)]
        start += length
    words = struct.pack("3if7i5i", n, heads // kv_heads, causal, scale, heads * dim, kv_heads * dim, kv_heads * dim,
                        heads * dim, heads * dim, heads * dim, kv_heads * dim, *[0] * 5)
    words += struct.pack(f"{8 * len(tiles)}i", *[x for tile in tiles * 2 for x in tile])
    plan = device.memory(words)
    given = [device.memory(one[1]) for one in (q, k, v, d_o)]
    o, d_q = (device.memory(bytes(2 * n * heads * dim)) for _ in range(2))
    d_k, d_v = (device.memory(bytes(2 * n * kv_heads * dim)) for _ in range(2))
    lse, delta = (device.memory(pack([0.0] * (heads * n))) for _ in range(2))
    for name, count, args in (("forward", heads, (*given[:3], o, lse, plan)),
                              ("backward_query", heads, (*given[:3], o, given[3], lse, d_q, delta, plan)),
                              ("backward_key", kv_heads, (*given, lse, delta, d_k, d_v, plan))):
        device.launch(device.kernel(ptx, f"attention_{name}_kernel"), (count, len(tiles), 1), (128, 1, 1), 0, *args)
    want = definition(*(one[0] for one in (q, k, v, d_o)), heads, kv_heads, dim, segments, causal, scale)
    worst = []
    for pointer, expected in zip((o, d_q, d_k, d_v), want):
        words = struct.unpack(f"{len(expected)}H", device.data(pointer, 2 * len(expected)))
        got = [struct.unpack("f", struct.pack("I", word << 16))[0] for word in words]
        worst.append(max(abs(a - b) for a, b in zip(got, expected)) / max(map(abs, expected)))
    print(f"ok    attention, D {dim}, {heads} heads on {kv_heads}, segments {segments}, causal {causal}: o, dq, dk, dv within "
          + ", ".join(f"{one:.1e}" for one in worst) + " of the largest")
    # bf16 has 8 bits; P and dS are rounded to it on the way.
    assert max(worst) < 1e-2, worst


def main():
    os.environ["CUDA_MACHINE_MODE"] = "run"
    device = Device(sys.argv[1])
    for dim in (128, 72):
        ptx = Nvrtc(sys.argv[2], []).ptx(source(dim), "sm_86")
        for one in CASES:
            if one[0] == dim:
                case(device, ptx, *one)


if __name__ == "__main__":
    main()
