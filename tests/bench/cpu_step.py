#!/usr/bin/env python3
"""Seconds per training step and peak memory of `vlft train` on the CPU, beside PEFT on torch.

Both train the same LoRA (r 16, every linear layer of the language model) on the same model of 41 M
parameters (d 512, 8 layers, vision tower of 8 x 256), one 448x448 picture and about 420 tokens per
step, f32, activation checkpointing off, two threads. They run in turns, each in a process of its own;
the first steps of a process are left out; the losses of all steps must agree.

    cpu_step.py --oracle DIR --python PYTHON --vlft target/release/vlft --work /tmp/bench

DIR has the reference's make_tiny.py, make_data.py, init_adapter.py and lora_train.py; PYTHON has torch,
transformers and peft. A step is forward, backward, clipping and AdamW on both sides; ours also opens
and resizes the picture within the step, theirs has done that before the first step.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

CONFIG = """\
[model]
path = "{work}/small"
base = "f32"
[data]
train = "{work}/data/train.jsonl"
shuffle = false
[lora]
rank = 16
alpha = 32
init = "{work}/adapter"
[train]
max_steps = {steps}
micro_batch = 1
accumulate = 1
learning_rate = 1e-3
schedule = "linear"
warmup_steps = 0
gradient_checkpointing = false
[eval]
every_steps = 0
[output]
checkpoint_every_steps = 1000000
"""
# Steps of a process that are not counted: first touches of memory, caches, thread pools.
WARM_UP = 2


def run(command, cwd=None, threads=2):
    """Runs to the end; returns user + system seconds and the peak RSS in MiB."""
    env = dict(os.environ, OMP_NUM_THREADS=str(threads), RAYON_NUM_THREADS=str(threads), TRANSFORMERS_VERBOSITY="error")
    child = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {child.returncode}:\n{output}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def make_inputs(args):
    """Model, data and first adapter, made once per work folder."""
    work, python = args.work, args.python
    script = lambda name, *rest: run([python, f"{args.oracle}/{name}", *rest], cwd=args.oracle)
    if not (work / "small/model.safetensors").exists():
        script("make_tiny.py", "--out", f"{work}/small", "--preset", "small", "--seed", "5")
    if not (work / "data/train.jsonl").exists():
        script("make_data.py", "--out", f"{work}/data", "--n", "4", "--seed", "9", "--size", "448x448", "--max-images", "1", "--answer-words", "24")
    if not (work / "adapter/adapter_config.json").exists():
        script("init_adapter.py", "--model", f"{work}/small", "--out", f"{work}/adapter", "--r", "16", "--alpha", "32")


def train_theirs(args):
    out = args.work / "theirs"
    used = run([args.python, f"{args.oracle}/lora_train.py", "--model", f"{args.work}/small", "--data", f"{args.work}/data/train.jsonl",
                "--adapter", f"{args.work}/adapter", "--out", out, "--steps", str(args.steps), "--batch", "1",
                "--threads", str(args.threads), "--attn", "sdpa"], cwd=args.oracle, threads=args.threads)
    return used, [json.loads(line) for line in open(out / "log.jsonl")]


def train_ours(args):
    out = args.work / "ours"
    config = args.work / "config.toml"
    config.write_text(CONFIG.format(work=args.work, steps=args.steps))
    used = run([args.vlft, "train", config, "--out", out, "--force"], threads=args.threads)
    lines = [json.loads(line) for line in open(out / "metrics.jsonl")]
    return used, [line for line in lines if "grad_norm" in line]


def busy(seconds=1.0):
    """Share of all processors that was in use, by anyone."""
    def now():
        values = list(map(int, open("/proc/stat").readline().split()[1:9]))
        return sum(values), values[3] + values[4]
    before, idle_before = now()
    time.sleep(seconds)
    after, idle_after = now()
    return 1 - (idle_after - idle_before) / max(1, after - before)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle", type=pathlib.Path, required=True, help="folder of the reference's scripts")
    parser.add_argument("--python", default=sys.executable, help="a Python with torch, transformers and peft")
    parser.add_argument("--vlft", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="model, data and runs are put here")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.work, args.vlft = args.work.resolve(), args.vlft.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    make_inputs(args)

    sides = {"torch": train_theirs, "vlft": train_ours}
    seconds, memory, cpu = ({side: [] for side in sides} for _ in range(3))
    for number in range(args.rounds):
        losses = {}
        for side, train in sides.items():
            others = busy()
            (used, peak), steps = train(args)
            counted = [step["seconds"] for step in steps[WARM_UP:]]
            seconds[side] += counted
            memory[side].append(peak)
            cpu[side].append(used)
            losses[side] = [step["loss"] for step in steps]
            print(f"round {number + 1}  {side:<6} best {min(counted):.3f} s, median {statistics.median(counted):.3f} s per step, "
                  f"peak {peak:.0f} MiB, {used:.1f} CPU s in all; others used {others:.0%} of the machine before", flush=True)
        worst = max(abs(a - b) / abs(a) for a, b in zip(losses["torch"], losses["vlft"], strict=True))
        if worst > 1e-3:
            sys.exit(f"the losses differ by {worst:.1e}: the two do not train the same thing")

    rows = [("best s/step", min), ("median s/step", statistics.median)]
    print(f"\n{'':<14} {'torch':>9} {'vlft':>9} {'ratio':>7}")
    for name, summary in rows:
        theirs, ours = summary(seconds["torch"]), summary(seconds["vlft"])
        print(f"{name:<14} {theirs:>9.3f} {ours:>9.3f} {ours / theirs:>7.2f}")
    theirs, ours = max(memory["torch"]), max(memory["vlft"])
    print(f"{'peak MiB':<14} {theirs:>9.0f} {ours:>9.0f} {ours / theirs:>7.2f}")
    print(f"largest difference of a loss in the last round: {worst:.1e}")


if __name__ == "__main__":
    main()
