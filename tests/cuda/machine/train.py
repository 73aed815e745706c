#!/usr/bin/env python3
"""`vlft train --device cuda:0` on the software machine.

    train.py VLFT OUT [equal] [steps] [memory] [full]   (the script `run` calls it)

equal   the tiny model, in bf16 a small one that tensor cores can take, kernels run: losses and gradient norms against the CPU backend's
steps   the tiny model: what one more step costs in synchronisations, copies and memory
memory  the 8B model's shapes, kernels counted: launches, synchronisations, peak memory
full    a card without room: exit code 4 with a hint, not a panic
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import big_model

ROOT = pathlib.Path(__file__).resolve().parents[3]
FIXTURES = ROOT / "tests/fixtures"
GIB = 2**30
CONFIG = """[model]
path = "{model}"
base = "{base}"
compute = "{compute}"
{more}[lora]
rank = {rank}
[data]
train = "{train}"
max_tokens = {max_tokens}
{pixels}[train]
max_steps = {steps}
accumulate = {accumulate}
warmup_steps = 1
learning_rate = 2e-3
activation_offloading = {offloading}
[output]
checkpoint_every_steps = 1000
keep = 1
"""


class Failed(Exception):
    pass


class Machine:
    def __init__(self, vlft, out):
        self.vlft, self.out = vlft, out

    def run(self, name, device, mode="run", want=0, environment=(), limit=1500, **config):
        """One run; (lines of metrics.jsonl, report of the machine, seconds, stderr)."""
        folder = self.out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        given = {"model": FIXTURES / "tiny", "base": "f32", "compute": "f32", "more": "", "rank": 4, "accumulate": 2,
                 "train": FIXTURES / "data/train.jsonl", "max_tokens": 4096, "pixels": "",
                 "steps": 4, "offloading": "false", **config}
        (folder / "c.toml").write_text(CONFIG.format(**given))
        # What NVRTC compiled is kept from one run to the next.
        kept = self.out / "cubecl"
        (folder / "cubecl.toml").write_text(f'[compilation]\ncache = true\n[environment]\npath = {{ directory = "{kept}" }}\n')
        lib = self.out / "lib"
        env = {**os.environ, "LD_LIBRARY_PATH": str(lib), "CUDA_PATH": str(self.out / "cuda"), "CUDA_MACHINE_MODE": mode,
               "CUDA_MACHINE_REPORT": str(folder / "machine.json"), "CUDA_MACHINE_TRACE": str(folder / "machine.trace"),
               "CUBECL_AUTOTUNE_LEVEL": "minimal", **dict(environment)}
        start = time.time()
        done = subprocess.run([self.vlft, "train", "c.toml", "--out", "run", "--device", device], cwd=folder, env=env,
                              capture_output=True, text=True, timeout=limit, check=False)
        seconds = time.time() - start
        (folder / "stderr.txt").write_text(done.stderr)
        if done.returncode != want:
            raise Failed(f"{name}: exit code {done.returncode}, not {want}\n{done.stderr[-4000:]}")
        lines = folder / "run/metrics.jsonl"
        metrics = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
        report = folder / "machine.json"
        return metrics, json.loads(report.read_text()) if report.exists() else {}, seconds, done.stderr


def steps_of(metrics):
    return [line for line in metrics if line["type"] == "step"]


def equal(machine):
    """Ten steps on the machine and on the CPU. f32 differs by the order of sums; bf16 is compared with f32 of
    the CPU, so by what bf16 rounds away."""
    small = machine.out / "small"
    if not (small / "model.safetensors").exists():
        shutil.rmtree(small, ignore_errors=True)
        big_model.model(small, FIXTURES / "tiny", big_model.SMALL, seed=20261121)
    for base, compute, loss_bound, norm_bound in (("f32", "f32", 1e-4, 1e-3), ("nf4", "f32", 1e-4, 1e-3),
                                                  ("bf16", "bf16", 2e-2, 1e-1), ("nf4", "bf16", 2e-2, 1e-1)):
        # With odd sides CubeCL takes kernels without tensor cores, which NVRTC needs minutes for.
        model = {"model": small, "rank": 16} if compute == "bf16" else {}
        want = steps_of(machine.run(f"equal-{base}-{compute}-cpu", "cpu", base=base, steps=10, **model)[0])
        got, report, seconds, _ = machine.run(f"equal-{base}-{compute}", "cuda:0", base=base, compute=compute, steps=10,
                                              **model)
        got = steps_of(got)
        if len(got) != 10 or len(want) != 10:
            raise Failed(f"{base} {compute}: {len(got)} and {len(want)} steps")
        worst = [max(abs(a[key] - b[key]) / abs(b[key]) for a, b in zip(got, want)) for key in ("loss", "grad_norm")]
        print(f"equal {base:4} base, {compute:4}: 10 steps, loss {got[0]['loss']:.4f} to {got[-1]['loss']:.4f}, within "
              f"{worst[0]:.1e} of the CPU's, gradient norms {worst[1]:.1e}; {report['modules']} kernels, {seconds:.0f} s", flush=True)
        if worst[0] > loss_bound or worst[1] > norm_bound:
            raise Failed(f"{base} {compute}: bounds {loss_bound} and {norm_bound}")
        if got[-1]["loss"] >= got[0]["loss"]:
            raise Failed(f"{base} {compute}: nothing was learnt")
        if compute == "bf16":
            offloaded, report, _, _ = machine.run(f"equal-{base}-offloaded", "cuda:0", base=base, compute=compute, steps=10,
                                                  offloading="true", **model)
            same = [a["loss"] == b["loss"] and a["grad_norm"] == b["grad_norm"] for a, b in zip(steps_of(offloaded), got)]
            print(f"equal {base:4} base, inputs of blocks in the host's memory: {sum(same)} of 10 steps the same to the bit, "
                  f"{report['pinned_bytes_peak'] / 2**20:.0f} MiB pinned", flush=True)
            if sum(same) != 10:
                raise Failed(f"{base} {compute}: offloading changes numbers")


COSTS = ("launches", "synchronisations", "copies_to_host", "copies_to_device", "allocations")


def steps(machine):
    """What a step costs: the difference between 8 and 16 steps, by 8."""
    few, many = (machine.run(f"steps-{n}", "cuda:0", base="nf4", compute="f32", steps=n)[1] for n in (8, 16))
    per_step = {key: (many[key] - few[key]) / 8 for key in COSTS}
    grown = many["device_bytes_peak"] - few["device_bytes_peak"]
    print("steps a step of two micro-batches: " + ", ".join(f"{per_step[key]:g} {key.replace('_', ' ')}" for key in COSTS)
          + f"; peak memory grows by {grown} bytes", flush=True)


ROWS = (("QLoRA", "nf4", 1, 2500, "false"), ("QLoRA", "nf4", 5, 8192, "false"), ("QLoRA offloaded", "nf4", 5, 8192, "true"),
        ("LoRA", "bf16", 1, 2500, "false"), ("LoRA", "bf16", 5, 8192, "false"))


def memory(machine):
    folder = machine.out / "8b"
    if not (folder / "model.safetensors").exists():
        shutil.rmtree(folder, ignore_errors=True)
        big_model.model(folder, FIXTURES / "tiny")
    print(f"{'8B, rank 16':15} {'tokens':>6} {'peak GiB':>9} {'loaded GiB':>10} {'launches':>9} {'syncs':>6} {'kernels':>8} {'seconds':>8}")
    for name, base, pages, tokens, offloading in ROWS:
        data = machine.out / f"data-{tokens}"
        if not data.exists():
            big_model.records(data, pages, tokens)
        more = "double_quant = true\n" if base == "nf4" else ""
        metrics, report, seconds, _ = machine.run(
            # Counted kernels compute zeros, so the adapter stays as it was made, which train does not let pass.
            f"memory-{name}-{tokens}".replace(" ", "-"), "cuda:0", mode="count", want=1, model=folder, base=base, compute="bf16", more=more, rank=16,
            accumulate=1, train=data / "train.jsonl", max_tokens=tokens,
            pixels=f"max_pixels = {big_model.PIXELS}\n", steps=2, offloading=offloading)
        lines = (machine.out / f"memory-{name}-{tokens}".replace(" ", "-") / "machine.trace").read_text().splitlines()
        loaded = next((int(line.split()[3]) for line in lines if int(line.split()[5]) > 2000), 0)
        print(f"{name:15} {steps_of(metrics)[0]['tokens']:6} {report['device_bytes_peak'] / GIB:9.2f} {loaded / GIB:10.2f} "
              f"{report['launches']:9} {report['synchronisations']:6} {report['modules']:8} {seconds:8.0f}", flush=True)


def full(machine):
    """Room for the weights of the tiny model, but not for its step."""
    _, report, _, said = machine.run("full", "cuda:0", want=4, environment=[("CUDA_MACHINE_MEMORY", str(3 << 20))], steps=2)
    if not report["allocations_refused"] or "panicked" in said or "memory is full" not in said:
        raise Failed(f"out of memory: {said}")
    print("full  ends with exit code 4: " + said.strip().splitlines()[-1])


def main():
    vlft, out, *parts = sys.argv[1:]
    machine = Machine(os.path.abspath(vlft), pathlib.Path(out).absolute())
    failed = False
    for part in parts or ("equal", "steps", "memory", "full"):
        try:
            globals()[part](machine)
        except (Failed, subprocess.TimeoutExpired) as error:
            print(f"FAILED {part}: {error}", file=sys.stderr, flush=True)
            failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
