"""180 real born-digital pages at 150 dpi to PNG, two processes, beside pypdfium2, PyMuPDF and pdftoppm.

The pages are the first five of each document in `rasterize_pages.txt`, from the test files of pdf.js,
PyMuPDF, pypdf and py-pdf/sample-files. `VLFT_CORPORA` names the folder that holds checkouts of the
four (`mozilla+pdf.js` and so on); nothing of them is in this repository.
"""

import os
import pathlib
import shutil
import sys

from bench import Row, median, python_with

HERE = pathlib.Path(__file__).parent
DPI, PAGES = 150, 5


def run(bench):
    corpora = os.environ.get("VLFT_CORPORA", "")
    names = (HERE / "rasterize_pages.txt").read_text().splitlines()
    paths = [pathlib.Path(corpora, name) for name in names if not name.startswith("#")]
    missing = [path for path in paths if not path.is_file()]
    if not corpora or missing:
        reason = f"{len(missing)} of {len(paths)} files missing" if corpora else "`VLFT_CORPORA` is not set"
        yield Row("born-digital pages", "-", f"not run: {reason}", "-", "3x", None)
        return
    listed = bench.work / "list.txt"
    listed.write_text("\n".join(map(str, paths)) + "\n")
    out = bench.work / "out"

    def ours(jobs):
        def side():
            shutil.rmtree(out, ignore_errors=True)
            command = [bench.vlft, "rasterize", *paths, "--out", out, "--dpi", DPI]
            ran = bench.run([*command, "--pages", f"1-{PAGES}", "--jobs", jobs, "-q"])
            return ran, pages_of(out)

        return side

    def peer(which):
        def side():
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            script = [sys.executable, HERE / "_render_peers.py", which, listed, out, DPI, PAGES]
            return bench.run(script), pages_of(out)

        return side

    sides = {"vlft, 2 workers": ours(2), "vlft, 1 worker": ours(1)}
    goals = {}
    for which, modules, goal in [
        ("pypdfium2", ("pypdfium2", "PIL"), 3.0),
        ("pypdfium2-pool", ("pypdfium2", "PIL"), 1.5),
        ("pymupdf", ("pymupdf",), 2.0),
    ]:
        if python_with(*modules):
            sides[which], goals[which] = peer(which), goal
        else:
            yield Row(f"pages/s against {which}", "-", "not installed", "-", f"{goal}x", None)
    if shutil.which("pdftoppm"):
        sides["pdftoppm"], goals["pdftoppm"] = peer("pdftoppm"), 5.0
    else:
        yield Row("pages/s against pdftoppm", "-", "not installed", "-", "5x", None)

    results = bench.interleave(sides)
    shutil.rmtree(out, ignore_errors=True)
    count, size = results["vlft, 2 workers"][0][1]
    rate = {name: median(pages / ran.wall for ran, (pages, _) in runs) for name, runs in results.items()}
    cpu = {name: median(ran.cpu / pages for ran, (pages, _) in runs) * 1e3 for name, runs in results.items()}
    for name, goal in goals.items():
        pages, bytes_ = results[name][0][1]
        # Ratios of the runs that stood side by side; a slow minute hits both.
        ratio = median(
            (a[1][0] / a[0].wall) / (b[1][0] / b[0].wall)
            for a, b in zip(results["vlft, 2 workers"], results[name])
        )
        smaller = (size / count) / (bytes_ / pages)
        size_goal = 1.05 if name.startswith("pypdfium2") else None
        yield Row(
            f"{count} born-digital pages at {DPI} dpi to PNG, against {name}",
            f"{rate['vlft, 2 workers']:.1f} pages/s, {cpu['vlft, 2 workers']:.1f} ms CPU a page",
            f"{rate[name]:.1f} pages/s, {cpu[name]:.1f} ms CPU, {pages} pages",
            f"{ratio:.2f}x, files {smaller:.2f}x",
            f"{goal}x" + (f", files {size_goal}x" if size_goal else ""),
            ratio >= goal and (size_goal is None or smaller <= size_goal),
        )
    scaling = median(
        b[0].wall / a[0].wall for a, b in zip(results["vlft, 2 workers"], results["vlft, 1 worker"])
    )
    yield Row(
        "the same, 2 workers against 1",
        f"{rate['vlft, 2 workers']:.1f} pages/s",
        f"{rate['vlft, 1 worker']:.1f} pages/s",
        f"{scaling:.2f}x",
        "1.8x on an idle machine",
        scaling >= 1.8,
    )


def pages_of(out):
    """(number of images, bytes of them)"""
    files = [path for path in out.rglob("*.png")]
    return len(files), sum(path.stat().st_size for path in files)
