"""Broken PDFs by the thousand: no crash or hang of the parent, a verdict for every file, and every file
that pypdfium2 opens is opened.

`VLFT_CORPORA` names the folder with the PDFs; usual are the test files of pdf.js, PyMuPDF, pypdf and
py-pdf/sample-files. Nothing of them is in this repository.
"""

import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys

from bench import Row, python_with

PAGES = "1-5"
TIMEOUT_SECS = 60


def run(bench):
    corpora = os.environ.get("VLFT_CORPORA", "")
    if not os.path.isdir(corpora):
        yield Row("corpora of broken PDFs", "-", "not run: `VLFT_CORPORA` names no folder", "-", "0 crashes", None)
        return
    files = {
        path.relative_to(corpora).as_posix()
        for path in pathlib.Path(corpora).rglob("*")
        if path.suffix.lower() == ".pdf" and path.is_file() and not path.name.startswith("._")
    }
    limits = ["--timeout-secs", TIMEOUT_SECS, "--jobs", 2, "--pages", PAGES, "--format", "json", "-q"]

    ran = bench.run([bench.vlft, "inspect", corpora, *limits], expect=(0, 1))
    report = json.loads(ran.out)
    opened = {d["document"]: d for d in report["documents"]}
    rejected = {r["document"]: r["rule"] for r in report["rejects"] if r.get("page") is None}
    silent = files - opened.keys() - rejected.keys()
    verdicts = collections.Counter(d["verdict"] or "pages rejected" for d in opened.values())
    yield Row(
        f"inspect {len(files)} PDFs",
        f"{len(opened)} opened, {len(rejected)} rejected ({counted(rejected.values())}), {ran.wall:.1f} s",
        counted(verdicts.elements()),
        f"{len(silent)} without a verdict",
        "every file with a verdict",
        not silent and not opened.keys() & rejected.keys(),
    )

    out = bench.work / "pages"
    shutil.rmtree(out, ignore_errors=True)
    command = [bench.vlft, "rasterize", corpora, "--out", out, "--dpi", 100, *limits]
    ran = bench.run(command, expect=(0, 1))
    drawn = {json.loads(line)["document"] for line in (out / "manifest.jsonl").open()}
    rejects = [json.loads(line) for line in (out / "rejects.jsonl").open()]
    named = {r["document"] for r in rejects}
    pages = json.loads(ran.out)["pages"]
    silent = files - drawn - named
    yield Row(
        f"rasterize {len(files)} PDFs, pages {PAGES} at 100 dpi",
        f"{len(drawn)} with pages, {pages['written']} pages, {ran.wall:.1f} s",
        f"rejected: {counted(r['rule'] for r in rejects)}",
        f"{len(silent)} neither drawn nor rejected",
        "0 crashes or hangs of the parent",
        not silent,
    )
    shutil.rmtree(out, ignore_errors=True)

    if not python_with("pypdfium2"):
        yield Row("every file that pypdfium2 opens", "-", "not installed", "-", "all of them", None)
        return
    # In a process of its own: a crash there is the peer's.
    peers = [subprocess.run([sys.executable, "-c", OPEN, corpora], capture_output=True, text=True)]
    theirs = set(json.loads(peers[0].stdout))
    lost = theirs - opened.keys()
    yield Row(
        "files opened with a page",
        f"{len(opened)} of {len(files)}",
        f"pypdfium2: {len(theirs)}",
        f"{len(lost)} that it opens and we do not" + "".join(f" `{name}`" for name in sorted(lost)[:5]),
        "every file that pypdfium2 opens",
        not lost,
    )


def counted(words) -> str:
    return ", ".join(f"{n} {word}" for word, n in sorted(collections.Counter(words).items()))


OPEN = """
import json, pathlib, sys
import pypdfium2
opened = []
for path in pathlib.Path(sys.argv[1]).rglob("*"):
    if path.suffix.lower() != ".pdf" or not path.is_file():
        continue
    try:
        document = pypdfium2.PdfDocument(path)
        if len(document) > 0:
            opened.append(path.relative_to(sys.argv[1]).as_posix())
    except Exception:
        pass
print(json.dumps(opened))
"""

