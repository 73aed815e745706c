#!/usr/bin/env python3
"""The dataset toolkit beside its peers: one row per claim of BENCHMARKS.md, measured in one run.

    data.py --vlft target/release/vlft --work /tmp/bench [--rounds 5] [--json OUT.json] [PART...]

Each part is a file in `data/`: it makes its own input under --work and runs ours and the peers in
turns, one round after the other, because machines are shared and a slow minute must hit both sides.
Figures are medians over the rounds; what is compared are ratios of one run. A part that lacks a peer
says so and goes on. Exit code 1 when a goal is missed.
"""

import argparse
import dataclasses
import importlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass
class Row:
    """One line of the table: what was done, what it came to, and whether that is the goal."""

    work: str
    ours: str
    peer: str
    ratio: str
    goal: str
    met: bool | None  # None: nothing to compare with here


@dataclasses.dataclass
class Run:
    wall: float  # seconds
    cpu: float  # seconds, user and system, children included
    peak: int  # bytes, the largest process
    out: str


class Bench:
    def __init__(self, vlft: str, work: pathlib.Path, rounds: int):
        self.vlft, self.work, self.rounds = vlft, work, rounds

    def run(self, command: list[str], expect=(0,), env=None) -> Run:
        """Runs a command; its wall and CPU time and its peak memory."""
        start = time.monotonic()
        process = subprocess.Popen(
            [str(c) for c in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        out, err = process.stdout, process.stderr
        errors = []
        reader = threading.Thread(target=lambda: errors.append(err.read()))
        reader.start()
        text = out.read()
        reader.join()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in expect:
            raise SystemExit(
                f"{' '.join(map(str, command))}\nended with {process.returncode}:\n"
                + errors[0].decode(errors="replace")[-2000:]
            )
        return Run(
            time.monotonic() - start,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss * 1024,
            text.decode(errors="replace"),
        )

    def interleave(self, sides: dict) -> dict[str, list]:
        """Calls every side once per round, in turns; name -> what each call returned."""
        results: dict[str, list] = {name: [] for name in sides}
        for _ in range(self.rounds):
            for name, side in sides.items():
                results[name].append(side())
        return results


def median(values) -> float:
    return statistics.median(values)


def python_with(*modules: str) -> str | None:
    """This Python when it has the modules; a part names its peer as missing otherwise."""
    try:
        for module in modules:
            importlib.import_module(module)
    except ImportError:
        return None
    return sys.executable


def main() -> None:
    known = sorted(p.stem for p in (HERE / "data").glob("*.py") if not p.stem.startswith("_"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(known))
    parser.add_argument("--vlft", required=True)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    unknown = set(args.parts) - set(known)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    args.work.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(HERE))
    sys.modules["bench"] = sys.modules["__main__"]  # parts say `from bench import Row`

    rows = []
    print("| work | vlft | peer | ratio | goal | met |\n|---|---|---|---|---|---|")
    for part in args.parts or known:
        scratch = args.work / part
        scratch.mkdir(exist_ok=True)
        bench = Bench(os.path.abspath(args.vlft), scratch, args.rounds)
        for row in importlib.import_module(f"data.{part}").run(bench):
            rows.append(row)
            met = {True: "yes", False: "NO", None: "-"}[row.met]
            print(f"| {row.work} | {row.ours} | {row.peer} | {row.ratio} | {row.goal} | {met} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps([dataclasses.asdict(r) for r in rows], indent=1))
    sys.exit(1 if any(r.met is False for r in rows) else 0)


if __name__ == "__main__":
    main()
