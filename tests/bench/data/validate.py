"""`validate` on a million records: schema rules beside Python's jsonschema, all rules that open no
image, memory."""

import json
import pathlib
import sys

from bench import Row, median, python_with
from data import _million

ROOT = pathlib.Path(__file__).resolve().parents[3]

# The same work: every line parsed, every fault of its shape found. On a part of the file, because a
# million would take it most of an hour; the rate does not depend on the number.
PEER = """
import json, sys, time
import jsonschema
schema = json.load(open(sys.argv[1]))
validator = jsonschema.Draft202012Validator(schema)
start = time.monotonic()
count = faults = 0
for line in open(sys.argv[2]):
    faults += sum(1 for _ in validator.iter_errors(json.loads(line)))
    count += 1
    if count == int(sys.argv[3]):
        break
print(json.dumps({"rate": count / (time.monotonic() - start), "faults": faults}))
"""


def run(bench):
    root = _million.folder(bench)
    records, part = _million.RECORDS, 10_000
    quiet = ["--decode", "none", "-q", "--format", "json"]

    def ours(file, threads, *options):
        result = bench.run([bench.vlft, "validate", root / file, *quiet, *options], env={"RAYON_NUM_THREADS": str(threads)})
        summary = json.loads(result.out.splitlines()[-1])
        assert summary["invalid"] == 0 and summary["records"] == (records if file == "all.jsonl" else records // 10), summary
        return result

    sides = {"ours": lambda: ours("all.jsonl", 1, "--only", "lines,schema")}
    python = python_with("jsonschema")
    if python:
        def peer():
            out = bench.run([python, "-c", PEER, ROOT / "schemas/record.schema.json", root / "all.jsonl", part]).out
            found = json.loads(out)
            assert found["faults"] == 0, found
            return found["rate"]
        sides["peer"] = peer
    results = bench.interleave(sides)
    rate = records / median(run.wall for run in results["ours"])
    work = f"validate, {records:,} records, schema rules alone, one thread"
    if python:
        theirs = median(results["peer"])
        ratio = rate / theirs
        yield Row(work, f"{rate:,.0f}/s", f"jsonschema {theirs:,.0f}/s", f"{ratio:.0f}x", ">= 30x", ratio >= 30)
    else:
        yield Row(work, f"{rate:,.0f}/s", "jsonschema is not installed", "-", ">= 30x", None)

    every = lambda file: ours(file, 2, "--target-schema", root / "schema.json")
    results = bench.interleave({"all": lambda: every("all.jsonl"), "tenth": lambda: every("tenth.jsonl")})
    rate = records / median(run.wall for run in results["all"])
    yield Row("the same, all rules that open no image, target schema, two threads", f"{rate:,.0f}/s", "-", "-", ">= 100,000/s", rate >= 100_000)
    peak = median(run.peak for run in results["all"])
    growth = (peak - median(run.peak for run in results["tenth"])) / (records * 0.9)
    yield Row("its memory", f"{peak / 2**20:.0f} MiB, {growth:.0f} bytes a record", "-", "-", "<= 200 MB, <= 100 bytes", peak <= 200e6 and growth <= 100)
