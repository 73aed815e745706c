#!/usr/bin/env python3
"""blackbox.py VLFT MINUTES [TARGET..]: the targets of run.sh against the finished program, without a
build and without coverage: seeds with some wrong bytes, in a process each. For machines where the real
fuzzers cannot be built; far fewer executions. Findings lie in artifacts/."""
import collections
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time

here = pathlib.Path(__file__).resolve().parent
FORMATS = ["vlft", "llama-factory", "alpaca", "ms-swift", "qwen", "openai", "trl", "trl-messages", "olmocr", "label-studio"]
TARGETS = ["convert", "jsonl", "mapping", "parquet", "rows", "zip"]
LABELS = b'[{"F":"a.pdf","Filename":"a.pdf","a":"1,5","d":"01.02.2020","N":"x","P":"1"}]'
# Done, found something, could not, nothing to do. A panic is 101, a signal is negative.
EXPECTED = {0, 1, 2, 3}


def mutated(seed: bytes, others: list[bytes], dice: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(dice.choice([0, 1, 1, 2, 3, 8])):
        at = dice.randrange(len(data) + 1)
        kind = dice.randrange(7)
        if kind == 0 and data:
            data[at % len(data)] = dice.randrange(256)
        elif kind == 1:
            data[at:at] = dice.choice([b"\0", b"\xff\xff\xff\xff", b'"', b"{", b"[[", b"-1", b"1e999", b"\xed\xa0\x80", b"\\u0000", b"<image>", b"\n"])
        elif kind == 2:
            del data[at : at + dice.randrange(1, 40)]
        elif kind == 3:
            piece = data[at : at + dice.randrange(1, 200)]
            data[at:at] = piece * dice.choice([1, 1, 2, 50])
        elif kind == 4:
            other = dice.choice(others)
            start = dice.randrange(len(other) + 1)
            data[at:at] = other[start : start + dice.randrange(1, 200)]
        elif kind == 5 and data:
            data[at % len(data)] ^= 1 << dice.randrange(8)
        elif kind == 6:
            del data[at:]
    return bytes(data)


def command(target: str, data: bytes, dir: pathlib.Path) -> list:
    """What to run on these bytes; inputs are written into `dir`."""
    if target == "jsonl":
        (dir / "f.jsonl").write_bytes(data)
        return ["validate", "f.jsonl", "--decode", "header", "--format", "json"]
    if target == "zip":
        (dir / "a.zip").write_bytes(data)
        return ["unpack", "a.zip", "--out", "out"]
    if target in ("mapping", "rows"):
        parts = data.split(b"\xff", 3) if target == "rows" else [data, b"", LABELS, b"a.png"]
        mapping, kind, labels, names = (parts + [b""] * 4)[:4]
        (dir / "images").mkdir()
        for name in names.split(b"\n")[:8]:
            try:
                (dir / "images" / name.decode()).write_bytes(b"")
            except (OSError, ValueError):
                pass
        labels_file = "l." + ["json", "jsonl", "csv"][len(kind) % 3]
        (dir / labels_file).write_bytes(labels)
        (dir / "m.toml").write_bytes(mapping)
        return ["build-jsonl", "--labels", labels_file, "--images", "images", "--mapping", "m.toml", "--out", "o.jsonl"]
    if target == "parquet":
        (dir / "f.parquet").write_bytes(data)
        return ["convert", "f.parquet", "--from", "trl", "--to", "openai", "--out", "o.jsonl"]
    source, to = (FORMATS[byte % len(FORMATS)] for byte in (data + b"\0\0")[:2])
    (dir / "f.json").write_bytes(data[2:])
    return ["convert", "f.json", "--from", source, "--to", to if to != "label-studio" else "vlft", "--out", "o"]


def limits() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))


def parquet_seeds(vlft: str, corpus: pathlib.Path) -> None:
    out = corpus / "parquet"
    out.mkdir(exist_ok=True)
    for kind in ("trl", "trl-messages"):
        seed = corpus / "convert" / "chat-1-0"
        with tempfile.TemporaryDirectory() as dir:
            (pathlib.Path(dir) / "f.jsonl").write_bytes(seed.read_bytes()[2:] + b"\n")
            made = ["convert", "f.jsonl", "--from", "llama-factory", "--to", kind, "--out", str(out / f"{kind}.parquet"), "--force", "-q"]
            subprocess.run([vlft, *made], cwd=dir, check=True)
    for lineage in out.glob("*.json*"):
        lineage.unlink()


def fuzz(vlft: str, target: str, minutes: float, corpus: pathlib.Path) -> bool:
    seeds = [path.read_bytes() for path in sorted((corpus / target).iterdir()) if path.is_file()]
    seed = int(time.time())
    dice = random.Random(seed)
    codes, found = collections.Counter(), 0
    end = time.monotonic() + minutes * 60
    scratch = pathlib.Path(tempfile.mkdtemp(dir="/dev/shm" if pathlib.Path("/dev/shm").is_dir() else None))
    try:
        while time.monotonic() < end:
            data = mutated(dice.choice(seeds), seeds, dice)
            outer = scratch / "outer"
            dir = outer / "dir"
            dir.mkdir(parents=True)
            arguments = command(target, data, dir)
            try:
                done = subprocess.run([vlft, *arguments], cwd=dir, capture_output=True, timeout=60, preexec_fn=limits)
                code, said = done.returncode, done.stderr
            except subprocess.TimeoutExpired:
                code, said = "timeout", b""
            codes[code] += 1
            escaped = {path.name for path in outer.iterdir()} != {"dir"} or {path.name for path in scratch.iterdir()} != {"outer"}
            left = [path.name for path in dir.iterdir() if ".partial" in path.name]
            if code not in EXPECTED or escaped or left:
                found += 1
                name = here / "artifacts" / f"{target}-blackbox-{found}"
                name.parent.mkdir(exist_ok=True)
                name.write_bytes(data)
                print(f"{target}: {' '.join(arguments)} -> {code}, escaped {escaped}, left {left}; {name}\n{said[-600:].decode(errors='replace')}", flush=True)
            shutil.rmtree(outer)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    shown = ", ".join(f"{count} x {code}" for code, count in sorted(codes.items(), key=str))
    print(f"{target}: {sum(codes.values())} executions in {minutes:g} min (seed {seed}): {shown}; {found} findings", flush=True)
    return found == 0


def main() -> None:
    vlft, minutes, *targets = sys.argv[1:]
    corpus = here / "corpus"
    subprocess.run([sys.executable, here / "seeds.py", corpus], check=True)
    vlft = str(pathlib.Path(vlft).resolve())
    targets = targets or TARGETS
    if "parquet" in targets:
        parquet_seeds(vlft, corpus)
    good = [fuzz(vlft, target, float(minutes), corpus) for target in targets]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
