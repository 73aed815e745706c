#!/usr/bin/env python3
"""Compiles the hand-written CUDA C++ with NVRTC for each architecture it shall run on, then with ptxas,
and prints registers, spills and shared memory per kernel. Needs no GPU.

A syntax error, a wrong inline PTX, a spill, or more than 48 KB of shared memory fails. The compilers come
from NVIDIA's wheels, by pip into a cache folder; without them this says so and passes
(CUDA_WHEELS_REQUIRED=1 makes that a failure)."""
import argparse
import concurrent.futures
import ctypes
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ROOT / "crates/vlft-kernels/src/attention/cuda"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "vlft-cuda-wheels"
CACHE = pathlib.Path(os.environ.get("VLFT_CUDA_WHEELS", CACHE))
# One set or the other: CUDA 13 dropped the suffix.
WHEELS = [
    ["nvidia-cuda-nvrtc-cu12==12.8.93", "nvidia-cuda-nvcc-cu12==12.8.93"],
    ["nvidia-cuda-nvrtc==13.0.88", "nvidia-cuda-nvcc==13.0.88"],
]
# (element, head dimension) -> architectures. Language and vision everywhere, the rest once.
MAIN = ["sm_80", "sm_86", "sm_89", "sm_90", "sm_90a", "sm_100", "sm_120"]
JOBS = {("bf16", 128): MAIN, ("bf16", 72): MAIN, ("float", 128): ["sm_80", "sm_90a"], ("float", 72): ["sm_80", "sm_90a"]}
for dim in (8, 16, 32, 64):
    JOBS["bf16", dim] = ["sm_80"]
    JOBS["float", dim] = ["sm_80"]


def installed(cache):
    def find(pattern):
        return next(iter(sorted(cache.rglob(pattern))), None)

    library, ptxas = find("libnvrtc.so.1[0-9]"), find("bin/ptxas")
    return (library, ptxas) if library and ptxas else None


def install(cache):
    for wheels in WHEELS:
        if found := installed(cache):
            return found
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*command, "--target", str(cache), *wheels], stderr=subprocess.DEVNULL, check=False)
    return installed(cache)


def source(element, dim):
    """The text as the trainer hands it over: macros, then `attention.cu` with its includes put in, each once."""
    seen = set()

    def inline(name):
        if name in seen:
            return ""
        seen.add(name)
        lines = (SOURCES / name).read_text().splitlines(keepends=True)
        return "".join(inline(m[1]) if (m := re.match(r'#include "(.+)"', line)) else line for line in lines if "#pragma once" not in line)

    return f"#define ELEMENT {element}\n#define HEAD_DIM {dim}\n" + inline("attention.cu")


class Nvrtc:
    def __init__(self, library):
        # The builtins are opened by name: they must be loaded already.
        for builtins in library.parent.glob("libnvrtc-builtins.so*"):
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
        self.library = ctypes.CDLL(str(library))
        version = ctypes.c_int(), ctypes.c_int()
        self.library.nvrtcVersion(*map(ctypes.byref, version))
        self.version = f"{version[0].value}.{version[1].value}"
        count = ctypes.c_int()
        self.library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
        archs = (ctypes.c_int * count.value)()
        self.library.nvrtcGetSupportedArchs(archs)
        self.archs = {f"sm_{a}" for a in archs}

    def text(self, program, what):
        size = ctypes.c_size_t()
        getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        getattr(self.library, f"nvrtcGet{what}")(program, text)
        return text.value.decode()

    def compile(self, text, arch):
        """PTX and log; PTX is None when it does not compile."""
        program = ctypes.c_void_p()
        self.library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"attention.cu", 0, None, None)
        # What cubecl-cuda passes.
        options = [f"--gpu-architecture={arch}".encode(), b"-lineinfo"]
        result = self.library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        log = self.text(program, "ProgramLog")
        ptx = self.text(program, "PTX") if result == 0 else None
        self.library.nvrtcDestroyProgram(ctypes.byref(program))
        return ptx, log


def assemble(ptxas, ptx, arch, out="/dev/null"):
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        command = [str(ptxas), "-v", f"-arch={arch}", file.name, "-o", out]
        return subprocess.run(command, capture_output=True, text=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=pathlib.Path, default=CACHE)
    parser.add_argument("--only", help="for example bf16/128/sm_86")
    args = parser.parse_args()
    found = install(args.cache)
    if not found:
        print("tests/cuda: SKIPPED, NOTHING WAS COMPILED: NVIDIA's wheels cannot be installed here", file=sys.stderr)
        return int(os.environ.get("CUDA_WHEELS_REQUIRED", "0"))
    nvrtc, ptxas = Nvrtc(found[0]), found[1]
    os.chmod(ptxas, 0o755)
    print(f"NVRTC {nvrtc.version}")
    print(f"{'kernel':26} {'element':7} {'dim':>4} {'arch':8} {'registers':>9} {'spills':>7} {'shared':>7}")
    jobs = [(e, d, a) for (e, d), archs in JOBS.items() for a in archs]
    jobs = [j for j in jobs if (not args.only or "/".join(map(str, j)).startswith(args.only))]
    for arch in sorted({a for *_, a in jobs if a.rstrip("a") not in nvrtc.archs}):
        print(f"{arch}: unknown to this NVRTC, left out")
    jobs = [j for j in jobs if j[2].rstrip("a") in nvrtc.archs]

    def run(job):
        element, dim, arch = job
        ptx, log = nvrtc.compile(source(element, dim), arch)
        if ptx is None or "warning" in log:
            return [f"{element} {dim} {arch}: {log}"], []
        done = assemble(ptxas, ptx, arch)
        if done.returncode:
            return [f"{element} {dim} {arch}: ptxas: {done.stderr}"], []
        rows, problems = [], []
        pattern = r"Function properties for (\w+)\n.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)"
        for name, stores, loads, registers, shared in re.findall(pattern, done.stderr, re.S):
            shared = (re.search(r"(\d+) bytes smem", shared) or [0, 0])[1]
            name = name.removeprefix("attention_").removesuffix("_kernel")
            spills = int(stores) + int(loads)
            rows.append(f"{name:26} {element:7} {dim:4} {arch:8} {registers:>9} {spills:7} {shared:>7}")
            if spills or int(shared) > 48 * 1024:
                problems.append("spills, or too much shared memory: " + rows[-1])
        if len(rows) != 3:
            problems.append(f"{element} {dim} {arch}: expected 3 kernels, found {len(rows)}: {done.stderr}")
        return problems, rows

    failed = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for problems, rows in pool.map(run, jobs):
            failed += problems
            if rows:
                print("\n".join(rows), flush=True)
    for problem in failed:
        print(f"FAILED: {problem}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
