"""unpack: 1 GB of stored page images, beside Info-ZIP's unzip. Both check every checksum; ours also
hashes the archive for the lineage, writes under a temporary name and waits for the disk.

Every round has a folder of its own, and all are removed in the end: ext4 does not give out the numbers
of files again that were deleted in the last minute, and searching past 2000 of them took either side
longer than its work. So this needs 10 GB."""

import itertools
import random
import shutil
import zipfile

from bench import Row, median

FILES, BYTES = 2000, 500_000


def make(path) -> None:
    generator = random.Random(1)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for n in range(FILES):
            name = f"pages/doc_{n // 4:04}_{n % 4 + 1}.jpg"
            archive.writestr(name, generator.randbytes(BYTES))


def run(bench):
    archive, outs = bench.work / "pages.zip", bench.work / "out"
    shutil.rmtree(outs, ignore_errors=True)
    outs.mkdir()
    number = itertools.count()
    if not archive.exists():
        make(archive)
    unzip = shutil.which("unzip")

    def fresh():
        return outs / str(next(number))

    sides = {"vlft": lambda: bench.run([bench.vlft, "unpack", archive, "--out", fresh(), "--quiet"])}
    if unzip:
        sides["unzip"] = lambda: bench.run([unzip, "-q", archive, "-d", fresh()])
    try:
        results = bench.interleave(sides)
    finally:
        shutil.rmtree(outs)
    ours = {what: median(getattr(r, what) for r in results["vlft"]) for what in ("cpu", "wall")}
    goals = {"cpu": (2.0, "half the CPU time"), "wall": (1.5, "1.5x the speed")}
    for what, (goal, text) in goals.items():
        work = f"unpack {FILES * BYTES / 1e9:.0f} GB of stored images, {what} time"
        if not unzip:
            yield Row(work, f"{ours[what]:.2f} s", "unzip is not installed", "-", text, None)
            continue
        peer = median(getattr(r, what) for r in results["unzip"])
        ratio = peer / ours[what]
        yield Row(work, f"{ours[what]:.2f} s", f"unzip {peer:.2f} s", f"{ratio:.2f}x", text, ratio >= goal)
