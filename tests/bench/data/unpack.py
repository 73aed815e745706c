"""unpack: 1 GB of stored page images, beside Info-ZIP's unzip. Both check every checksum; ours also
hashes the archive for the lineage, writes under a temporary name and waits for the disk."""

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
    archive, out = bench.work / "pages.zip", bench.work / "out"
    if not archive.exists():
        make(archive)
    unzip = shutil.which("unzip")

    def side(command):
        def go():
            shutil.rmtree(out, ignore_errors=True)
            return bench.run(command)

        return go

    sides = {"vlft": side([bench.vlft, "unpack", archive, "--out", out, "--quiet"])}
    if unzip:
        sides["unzip"] = side([unzip, "-q", archive, "-d", out])
    results = bench.interleave(sides)
    shutil.rmtree(out, ignore_errors=True)
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
