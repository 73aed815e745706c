"""`split` of a million records whose images a manifest knows: no image is opened."""

import json
import shutil

from bench import Row, median
from data import _million


def run(bench):
    root = _million.folder(bench)
    out = bench.work / "splits"

    def ours():
        shutil.rmtree(out, ignore_errors=True)
        result = bench.run([bench.vlft, "split", root / "all.jsonl", "--out", out, "-q", "--format", "json"])
        report = json.loads(result.out)
        assert sum(side["records"] for side in report["sides"]) == _million.RECORDS, report
        return result

    runs = bench.interleave({"ours": ours})["ours"]
    wall, peak = median(run.wall for run in runs), median(run.peak for run in runs)
    work = f"split, {_million.RECORDS:,} records, looks and bytes of images from the manifest"
    yield Row(work, f"{wall:.1f} s, {peak / 1e9:.2f} GB", "-", "-", "<= 15 s, <= 1 GB", wall <= 15 and peak <= 1e9)
    shutil.rmtree(out, ignore_errors=True)
