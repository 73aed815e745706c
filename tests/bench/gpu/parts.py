"""The parts of the comparison on a GPU. `run.sh` calls this; `--device cpu` runs every line on a machine without one,
with a tiny model, to see that it works: its figures mean nothing.

Each part prints its table, writes OUT/PART.json, and ends in less than nine minutes. `goals` reads what is there and
says which goal is met; it runs after every part.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

import adapter

HERE = pathlib.Path(__file__).resolve().parent
LEARNING_RATE = 2e-4
# Steps of a process that are not counted.
WARM_UP = 4
# A key of the config that makes sums on a GPU come in one order; the resume part asks for it.
DETERMINISTIC = [option for option in os.environ.get("VLFT_DETERMINISTIC", "").split() if option]

# What is measured: pages, tokens and steps of a real task on a GPU, and a toy of the same form elsewhere.
REAL = {"size": "8b", "max_pixels": 1_310_720, "prompt": 600, "answer": 600, "records": 8, "steps": 50, "later": 14,
        "long": 5, "long_text": (900, 880), "short": (140, 140), "pack": 4096, "soak": 1000, "cut": 16}
TOY = {"size": "tiny", "max_pixels": 30_000, "prompt": 30, "answer": 30, "records": 4, "steps": 10, "later": 8,
       "long": 3, "long_text": (40, 40), "short": (10, 12), "pack": 256, "soak": 120, "cut": 200}


class Failed(Exception):
    """A part that cannot say anything."""


class Memory:
    """The most that the card had in use while something ran, above what it had before: the same for both sides."""

    def __init__(self, args):
        self.on = args.device.startswith("cuda") and shutil.which("nvidia-smi")
        self.index = args.device.partition(":")[2] or "0"
        self.seen = []

    def used(self):
        said = subprocess.run(["nvidia-smi", "-i", self.index, "--query-gpu=memory.used", "--format=csv,noheader,nounits"],
                              capture_output=True, text=True, check=True).stdout
        return int(said.split()[0]) << 20

    def __enter__(self):
        if self.on:
            self.before = self.used()
            self.done = threading.Event()
            self.thread = threading.Thread(target=self.watch)
            self.thread.start()
        return self

    def watch(self):
        while not self.done.wait(0.1):
            self.seen.append(self.used())

    def __exit__(self, *_):
        if self.on:
            self.done.set()
            self.thread.join()

    def peak(self):
        return max(self.seen) - self.before if self.on and self.seen else None


def command(args, words, **options):
    env = dict(os.environ, **options.pop("env", {}))
    said = subprocess.run([str(word) for word in words], capture_output=True, text=True, env=env, **options)
    if said.returncode != 0:
        raise Failed(f"{' '.join(map(str, words))}\nended with {said.returncode}:\n{said.stderr[-4000:]}\n{said.stdout[-1000:]}")
    return said.stdout


def vlft(args, *words, **options):
    return command(args, [args.vlft, *words], **options)


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])


def model(args):
    """Random weights in the shapes of a published model; written once per machine."""
    path = args.work / f"model-{args.what['size']}"
    if not path.exists():
        start = time.perf_counter()
        vlft(args, "bench", "--write-model", args.what["size"], "--out", path, "-q")
        print(f"wrote {path.name} in {time.perf_counter() - start:.0f} s", flush=True)
    return path


def shape(args, images=1, text=None):
    prompt, answer = text or (args.what["prompt"], args.what["answer"])
    return ["--records", args.what["records"], "--images", images, "--max-pixels", args.what["max_pixels"],
            "--prompt-tokens", prompt, "--answer-tokens", answer]


def settings(args, base, *more):
    """What both sides are told, in our words."""
    first = adapter.write(model(args), args.work / "adapter")
    set_ = [f"lora.init={first}", "data.shuffle=false", f"train.learning_rate={LEARNING_RATE}", "train.max_grad_norm=1.0",
            "train.gradient_checkpointing=true", *more]
    out = ["--base", base, "--compute", args.compute, "--device", args.device]
    for key in set_:
        out += ["--set", key]
    return out


def ours(args, name, base, steps, shaped, *more, profile=False, warm_up=WARM_UP, env=None):
    """`vlft bench`: its JSON, with the memory of the card beside it."""
    words = ["bench", "--model", model(args), "--out", args.work / name, "--steps", steps - warm_up, "--warm-up", warm_up,
             "--format", "json", "-q", *shaped, *settings(args, base, *more)]
    if args.rate:
        words += ["--matmul-rate", args.rate / 1e12]
    if profile:
        words += ["--profile"]
    with Memory(args) as memory:
        report = last_json(vlft(args, *words, env=env or {}))
    report["card_bytes"] = memory.peak()
    return report


def theirs(args, name, base, steps):
    data = args.work / name / "data/train.jsonl"
    words = [args.python, HERE / "peer.py", "train", "--device", args.device, "--model", model(args), "--data", data,
             "--adapter", args.work / "adapter", "--base", base, "--compute", args.compute, "--steps", steps,
             "--max-pixels", args.what["max_pixels"], "--learning-rate", LEARNING_RATE, "--threads", args.threads]
    with Memory(args) as memory:
        report = last_json(command(args, words))
    report["card_bytes"] = memory.peak()
    return report


def measured_rate(args):
    """The card's bf16 products, as torch reaches them."""
    return last_json(command(args, [args.python, HERE / "peer.py", "rate", "--device", args.device]))


def gib(count):
    return "-" if count is None else f"{count / 2**30:.2f} GiB"


def compare(args, part, base):
    """Rounds of ours and theirs in turns; the first has all the steps whose losses are compared."""
    rate = measured_rate(args)
    args.rate = rate["operations_per_second"]
    rounds = [args.what["steps"]] + [args.what["later"]] * (args.rounds - 1)
    seconds, memory, tokens, worst, reports = {"vlft": [], "peer": []}, {"vlft": [], "peer": []}, None, 0.0, []
    curves = None
    for number, steps in enumerate(rounds):
        left = ours(args, part, base, steps, shape(args))
        right = theirs(args, part, base, steps)
        reports.append(left)
        if len(left["losses"]) != len(right["steps"]):
            raise Failed("not the same number of steps")
        counted = {step["tokens"] for step in right["steps"]}
        if counted != {round(left["tokens_per_step"])}:
            raise Failed(f"not the same tokens: {left['tokens_per_step']} and {counted}")
        losses = list(zip(left["losses"], (step["loss"] for step in right["steps"])))
        worst = max(worst, max(abs(a - b) / abs(b) for a, b in losses))
        curves = curves or losses
        tokens = left["tokens_per_step"]
        seconds["vlft"] += left["seconds"][WARM_UP:]
        seconds["peer"] += [step["seconds"] for step in right["steps"]][WARM_UP:]
        memory["vlft"].append(left["card_bytes"] or left["memory"]["peak_bytes"])
        memory["peer"].append(right["card_bytes"] or right["peak_bytes"])
        for side, report in (("vlft", left), ("peer", right)):
            print(f"round {number + 1}  {side}  {statistics.median(seconds[side][-(steps - WARM_UP):]):.3f} s per step, "
                  f"{gib(memory[side][-1])}, first step after {report['first_step_seconds']:.1f} s", flush=True)
    median = {side: statistics.median(values) for side, values in seconds.items()}
    speed = {side: tokens / value for side, value in median.items()}
    peak = {side: max(values) for side, values in memory.items()}
    necessary = reports[0]["operations"]["necessary"] / median["vlft"] / args.rate
    computed = reports[0]["operations"]["computed"] / median["vlft"] / args.rate
    print(f"\n{part}: {args.what['size']}, {base}, {tokens:.0f} tokens a step, {args.rounds} rounds in turns, medians")
    print(f"{'':<22}{'vlft':>14}{'peer':>14}{'ratio':>9}")
    print(f"{'tokens/s':<22}{speed['vlft']:>14.0f}{speed['peer']:>14.0f}{speed['vlft'] / speed['peer']:>8.2f}x")
    print(f"{'s per step':<22}{median['vlft']:>14.3f}{median['peer']:>14.3f}{median['vlft'] / median['peer']:>8.2f}x")
    print(f"{'peak memory':<22}{gib(peak['vlft']):>14}{gib(peak['peer']):>14}{peak['vlft'] / peak['peer']:>8.2f}x")
    print(f"{'utilisation, 4N':<22}{necessary:>13.1%}   of {args.rate / 1e12:.1f} T/s (torch, {rate['side']})")
    print(f"{'utilisation, 6N':<22}{computed:>13.1%}")
    print(f"{'losses':<22}{worst:>13.2%}   largest difference at a step; {curves[0][0]:.3f} to {curves[-1][0]:.3f}, "
          f"peer {curves[0][1]:.3f} to {curves[-1][1]:.3f}")
    profiled = ours(args, part, base, args.what["later"], shape(args), profile=True)
    total = sum(spent for _, spent in profiled["profile"])
    for family, spent in profiled["profile"]:
        print(f"  {family:<20}{spent:>14.4f} s {spent / total:>7.1%}")
    return {"speed": speed, "seconds": median, "memory": peak, "utilisation": {"4N": necessary, "6N": computed},
            "rate": rate, "worst_loss": worst, "losses": curves, "profile": profiled["profile"],
            "data_wait": reports[0]["data_wait"], "predicted": reports[0]["memory"].get("predicted"),
            "pools": reports[0]["memory"]["peak_bytes"], "torch": right["torch"]}


def lora(args):
    return compare(args, "lora", "bf16")


def qlora(args):
    return compare(args, "qlora", "nf4")


def parity(args):
    """A tiny model, f32 and bf16, dense and in four bits: the device's losses beside those of the reference and, in f32,
    of this program on the CPU."""
    real, args.what = args.what, TOY
    rows, met = [], True
    try:
        for base, compute, tolerance in (("f32", "f32", 1e-4), ("bf16", "f32", 1e-4), ("nf4", "f32", 1e-3),
                                         ("bf16", "bf16", 1e-2), ("nf4", "bf16", 1e-2)):
            args.compute = compute
            name = f"parity-{base}-{compute}"
            here = ours(args, name, base, 8, shape(args), warm_up=1)["losses"]
            device, args.device = args.device, "cpu"
            cpu = ours(args, name, base, 8, shape(args), warm_up=1)["losses"]
            args.device = device
            peer = [step["loss"] for step in theirs(args, name, base, 8)["steps"]]
            apart = lambda other: max(abs(a - b) / abs(b) for a, b in zip(here, other, strict=True))
            row = {"base": base, "compute": compute, "cpu": apart(cpu), "peer": apart(peer), "tolerance": tolerance}
            row["met"] = row["cpu"] <= tolerance and row["peer"] <= tolerance
            met &= row["met"]
            rows.append(row)
    finally:
        args.what, args.compute = real, "bf16"
    print(f"{'base':<8}{'compute':<9}{'from our CPU':>14}{'from peer':>12}{'allowed':>10}")
    for row in rows:
        print(f"{row['base']:<8}{row['compute']:<9}{row['cpu']:>14.1e}{row['peer']:>12.1e}{row['tolerance']:>10.0e}"
              f"{'' if row['met'] else '   NO'}")
    return {"rows": rows, "met": met}


def resume(args):
    """A run that is interrupted goes on with the same losses and ends with the same adapter, to the last bit."""
    ours(args, "resume", "bf16", 6, shape(args, text=args.what["short"], images=0), warm_up=1)
    folder = args.work / "resume"
    words = ["train", folder / "bench.toml", "--device", args.device, "-q"]
    for key in [f"train.max_steps={args.what['cut']}", "train.warmup_steps=0", "output.checkpoint_every_steps=5", "eval.every_steps=0",
                f"model.compute={args.compute}", "train.learning_rate=2e-4", *DETERMINISTIC]:
        words += ["--set", key]
    for run in ("whole", "cut"):
        shutil.rmtree(folder / run, ignore_errors=True)
    vlft(args, *words, "--out", folder / "whole")
    running = subprocess.Popen([str(word) for word in [args.vlft, *words, "--out", folder / "cut"]], stderr=subprocess.PIPE, text=True)
    log = folder / "cut/metrics.jsonl"
    while running.poll() is None and not (log.exists() and log.read_text().count("\n") >= 7):
        time.sleep(0.01)
    running.send_signal(signal.SIGTERM)
    said = running.communicate()[1]
    interrupted = running.returncode
    if interrupted not in (130, 0):
        raise Failed(f"the run that was cut ended with {interrupted}: {said}")
    vlft(args, *words, "--out", folder / "cut")
    losses = {run: [json.loads(line)["loss"] for line in open(folder / run / "metrics.jsonl") if '"step"' in line and '"lr"' in line]
              for run in ("whole", "cut")}
    bits = {run: (folder / run / "adapter/adapter_model.safetensors").read_bytes() for run in ("whole", "cut")}
    met = losses["whole"] == losses["cut"] and bits["whole"] == bits["cut"] and interrupted == 130
    print(f"cut after {'a signal' if interrupted == 130 else 'nothing: it was too quick'}, {len(losses['cut'])} steps; "
          f"losses {'the same' if losses['whole'] == losses['cut'] else 'DIFFER'}, "
          f"adapter {'the same' if bits['whole'] == bits['cut'] else 'DIFFERS'}")
    return {"met": met, "losses": losses, "interrupted": interrupted}


def start(args):
    """The first step with nothing cached, and with what that left."""
    cache = args.work / "cold-cache"
    shutil.rmtree(cache, ignore_errors=True)
    env = {"XDG_CACHE_HOME": str(cache), "CUDA_CACHE_PATH": str(cache / "nv")}
    seconds = {}
    for name in ("cold", "warm"):
        report = ours(args, "start", "bf16", 3, shape(args), warm_up=1, env=env)
        seconds[name] = report["first_step_seconds"]
        print(f"{name}: first step after {report['first_step_seconds']:.1f} s, the model was loaded after "
              f"{report['loaded_after_seconds']:.1f} s", flush=True)
    return {"seconds": seconds}


def packed(args):
    """Short records one by one and several to a row."""
    shaped = shape(args, images=0, text=args.what["short"])
    shaped[1] = 64
    one = ours(args, "packed", "bf16", args.what["later"], shaped)
    row = args.what["pack"]
    many = ours(args, "packed", "bf16", args.what["later"], shaped, "data.packing=true", f"data.pack_tokens={row}")
    speed = {"one": one["samples_per_second"], "packed": many["samples_per_second"]}
    print(f"{one['tokens_per_step']:.0f} tokens a record: {speed['one']:.2f} samples/s one by one, {speed['packed']:.2f} "
          f"in rows of {row}: {speed['packed'] / speed['one']:.2f}x")
    return {"speed": speed, "ratio": speed["packed"] / speed["one"], "tokens": one["tokens_per_step"]}


def long(args):
    """The longest record that the configs for 48 GB allow; then with the inputs of blocks in the host's memory."""
    shaped = shape(args, images=args.what["long"], text=args.what["long_text"])
    shaped[1] = 2
    rows = []
    for where in ("card", "host"):
        offloading = f"train.activation_offloading={str(where == 'host').lower()}"
        report = ours(args, "long", "bf16", 5, shaped, offloading, warm_up=2)
        rows.append({"tokens": report["tokens_per_step"], "memory": report["card_bytes"] or report["memory"]["peak_bytes"],
                     "predicted": report["memory"]["predicted"]["total_bytes"], "seconds": report["seconds_per_step"],
                     "losses": report["losses"]})
        print(f"{rows[-1]['tokens']:.0f} tokens, inputs of blocks in the {where}'s memory: {gib(rows[-1]['memory'])} at most, "
              f"{gib(rows[-1]['predicted'])} planned, {rows[-1]['seconds']:.2f} s per step")
    on_card, on_host = rows
    same = on_card["losses"] == on_host["losses"]
    print(f"losses {'the same to the bit' if same else 'DIFFER'}")
    return {**on_card, "offloaded": on_host, "same_losses": same}


def soak(args):
    """A thousand steps: what is held at the end is what was held after the first tenth."""
    shaped = shape(args, images=0, text=args.what["short"])
    steps = args.what["soak"]
    report = ours(args, "soak", "nf4", steps, shaped, warm_up=10)
    held = report["memory"]["after_steps_bytes"]
    tenth = len(held) // 10
    early, late = statistics.mean(held[tenth:2 * tenth]), statistics.mean(held[-tenth:])
    print(f"{len(held)} steps at {report['seconds_per_step']:.3f} s: {gib(early)} in the second tenth, {gib(late)} in the last "
          f"({late / early - 1:+.2%}); loss {report['losses'][0]:.3f} to {report['losses'][-1]:.3f}")
    return {"steps": len(held), "early": early, "late": late, "growth": late / early - 1}


def kernels(args):
    """The attention kernels by themselves: right, the same bits twice, timed."""
    if not args.device.startswith("cuda"):
        print("needs a GPU: not run")
        return {"attention": []}
    report = args.out / "attention.json"
    run = [sys.executable, str(HERE.parents[1] / "cuda/gpu.py"), "--json", str(report)]
    if subprocess.run(run, check=False).returncode:
        raise Failed("tests/cuda/gpu.py failed, see above")
    return json.loads(report.read_text())


PARTS = {"lora": lora, "qlora": qlora, "parity": parity, "resume": resume, "start": start, "packed": packed, "long": long,
         "kernels": kernels, "soak": soak}
SECONDS = 540


def goals(args):
    """What the project promised, and what these parts measured."""
    read = lambda part: json.loads((args.out / f"{part}.json").read_text()) if (args.out / f"{part}.json").exists() else None
    found = {part: read(part) for part in PARTS}
    left, four, rows = found["lora"], found["qlora"], []

    def row(what, goal, part, value, met):
        rows.append((what, goal, value(found[part]) if found[part] else "not run", met(found[part]) if found[part] else None))

    row("LoRA bf16, tokens/s against PEFT", "1.5x", "lora", lambda r: f"{r['speed']['vlft'] / r['speed']['peer']:.2f}x",
        lambda r: r["speed"]["vlft"] >= 1.5 * r["speed"]["peer"])
    row("QLoRA NF4, tokens/s against PEFT + bitsandbytes", "2x", "qlora", lambda r: f"{r['speed']['vlft'] / r['speed']['peer']:.2f}x",
        lambda r: r["speed"]["vlft"] >= 2 * r["speed"]["peer"])
    row("utilisation, LoRA", "45 % (6N)", "lora", lambda r: f"{r['utilisation']['6N']:.1%} (4N: {r['utilisation']['4N']:.1%})",
        lambda r: r["utilisation"]["6N"] >= 0.45)
    row("peak memory, QLoRA", "10 GiB, 0.7x of the peer's", "qlora",
        lambda r: f"{gib(r['memory']['vlft'])}, {r['memory']['vlft'] / r['memory']['peer']:.2f}x",
        lambda r: r["memory"]["vlft"] <= 10 * 2**30 and r["memory"]["vlft"] <= 0.7 * r["memory"]["peer"])
    row("peak memory, LoRA bf16", "22 GiB", "lora", lambda r: gib(r["memory"]["vlft"]), lambda r: r["memory"]["vlft"] <= 22 * 2**30)
    row("peak memory, LoRA bf16 at 8,192 tokens", "46 GiB", "long", lambda r: gib(r["memory"]), lambda r: r["memory"] <= 46 * 2**30)
    row("memory as planned, LoRA", "5 %", "lora", lambda r: f"{r['predicted']['total_bytes'] / r['memory']['vlft'] - 1:+.1%}",
        lambda r: abs(r["predicted"]["total_bytes"] / r["memory"]["vlft"] - 1) <= 0.05)
    row("memory as planned, QLoRA", "5 %", "qlora", lambda r: f"{r['predicted']['total_bytes'] / r['memory']['vlft'] - 1:+.1%}",
        lambda r: abs(r["predicted"]["total_bytes"] / r["memory"]["vlft"] - 1) <= 0.05)
    row("losses of LoRA against the peer's, every step", "1 %", "lora", lambda r: f"{r['worst_loss']:.2%}", lambda r: r["worst_loss"] <= 0.01)
    row("losses of QLoRA against the peer's, every step", "1 %", "qlora", lambda r: f"{r['worst_loss']:.2%}", lambda r: r["worst_loss"] <= 0.01)
    row("first step, cold cache", "4 min", "start", lambda r: f"{r['seconds']['cold']:.0f} s", lambda r: r["seconds"]["cold"] <= 240)
    row("first step, warm cache", "30 s", "start", lambda r: f"{r['seconds']['warm']:.0f} s", lambda r: r["seconds"]["warm"] <= 30)
    row("packed short records, samples/s", "4x", "packed", lambda r: f"{r['ratio']:.2f}x", lambda r: r["ratio"] >= 4)
    row("parity, f32 and bf16, dense and NF4", "as stated", "parity", lambda r: "see its table", lambda r: r["met"])
    row("resume, to the last bit", "equal", "resume", lambda r: "equal" if r["met"] else "not equal", lambda r: r["met"])
    row("1,000 steps without growth of memory", "1 %", "soak", lambda r: f"{r['growth']:+.2%} over {r['steps']}",
        lambda r: r["growth"] <= 0.01 and r["steps"] >= 1000)
    lines = ["| goal | asked | measured | met |", "|---|---|---|---|"]
    for what, goal, value, met in rows:
        # What a toy on a CPU can say: whether the same work is done, not how fast or in how much.
        if met is not None and args.device == "cpu" and not what.startswith(("losses", "parity", "resume")):
            met = "dry"
        lines.append(f"| {what} | {goal} | {value} | {'' if met is None else met if met == 'dry' else 'yes' if met else 'no'} |")
    text = "\n".join(lines) + "\n"
    if args.device == "cpu":
        text += "\nA dry run on a CPU with a toy: these figures mean nothing.\n"
    print("\n" + text)
    (args.out / "goals.md").write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "goals", "all"])
    parser.add_argument("--vlft", type=pathlib.Path, required=True)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="model, data and runs; some 25 GB")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSON and tables")
    parser.add_argument("--python", default=sys.executable, help="with torch, transformers 5, peft and bitsandbytes")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0, help="of torch on a CPU")
    args = parser.parse_args()
    args.vlft, args.work, args.out = args.vlft.resolve(), args.work.resolve(), args.out.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    args.what, args.compute, args.rate = (TOY if args.device == "cpu" else REAL), "bf16", None
    failed = False
    for part in PARTS if args.part == "all" else [args.part]:
        if part == "goals":
            continue
        print(f"\n== {part}: {PARTS[part].__doc__ or ''}".rstrip(), flush=True)
        start = time.perf_counter()
        try:
            result = PARTS[part](args)
        except Failed as error:
            print(f"{part} FAILED: {error}", flush=True)
            failed = True
            continue
        spent = time.perf_counter() - start
        print(f"{part}: {spent:.0f} s{' (too long: it may have been cut)' if spent > SECONDS else ''}", flush=True)
        (args.out / f"{part}.json").write_text(json.dumps({**result, "part_seconds": spent}, indent=1))
    goals(args)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
