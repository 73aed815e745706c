"""`vlft convert`: text alone into LLaMA-Factory's format, images into OpenAI's data URLs and into parquet,
beside the few lines of Python that people write for it (json and base64; `datasets` for parquet)."""

import json
import os
import random
import sys

from bench import Row, median, python_with

TEXTS, PAGES, SHOWN = 100_000, 60, 600

LOOP = """
import json, os, sys
base = os.path.dirname(sys.argv[1])
with open(sys.argv[1]) as source, open(sys.argv[2], "w") as out:
    for line in source:
        record = json.loads(line)
        images, messages = [], []
        for message in record["messages"]:
            text = ""
            for part in message["content"]:
                if part["type"] == "image":
                    path = os.path.join(base, part["image"])
                    assert os.path.isfile(path)
                    images.append(os.path.relpath(path, os.path.dirname(sys.argv[2])))
                    text += "<image>"
                else:
                    assert "<image>" not in part["text"]
                    text += part["text"]
            messages.append({"role": message["role"], "content": text})
        out.write(json.dumps({"messages": messages, "images": images, "id": record["id"]}, ensure_ascii=False) + "\\n")
"""

URLS = """
import base64, json, os, sys
base = os.path.dirname(sys.argv[1])
with open(sys.argv[1]) as source, open(sys.argv[2], "w") as out:
    for line in source:
        messages = []
        for message in json.loads(line)["messages"]:
            parts = []
            for part in message["content"]:
                if part["type"] == "image":
                    data = base64.b64encode(open(os.path.join(base, part["image"]), "rb").read()).decode()
                    parts.append({"type": "image_url", "image_url": {"url": "data:image/png;base64," + data}})
                else:
                    parts.append(part)
            messages.append({"role": message["role"], "content": parts})
        out.write(json.dumps({"messages": messages}) + "\\n")
"""

PARQUET = """
import json, os, sys
import datasets
base = os.path.dirname(sys.argv[1])
def rows():
    for line in open(sys.argv[1]):
        record, images = json.loads(line), []
        for message in record["messages"]:
            for part in message["content"]:
                if part["type"] == "image":
                    path = os.path.join(base, part.pop("image"))
                    images.append({"bytes": open(path, "rb").read(), "path": os.path.basename(path)})
                    part["text"] = None
        yield {"id": record["id"], "images": images, "messages": record["messages"]}
text = datasets.Value("string")
features = datasets.Features({"id": text, "images": datasets.List(datasets.Image()),
    "messages": datasets.List({"role": text, "content": datasets.List({"type": text, "text": text})})})
datasets.Dataset.from_generator(rows, features=features, cache_dir=sys.argv[3]).to_parquet(sys.argv[2])
"""


def run(bench):
    texts, pages = prepare(bench.work)
    yield row(bench, "text records to llama-factory", texts, "llama-factory", "jsonl", LOOP, "Python json")
    yield row(bench, "page images to openai data URLs", pages, "openai", "jsonl", URLS, "Python base64")
    if python_with("datasets"):
        yield row(bench, "page images to parquet", pages, "trl-messages", "parquet", PARQUET, "datasets")


def row(bench, work, source, to, ending, script, peer):
    size = source.stat().st_size
    out = {side: bench.work / f"{side}-{to}.{ending}" for side in ("ours", "peer")}
    if to != "llama-factory":
        size = sum(os.path.getsize(bench.work / f"p/{n % PAGES}.png") for n in range(SHOWN))

    def ours():
        return bench.run([bench.vlft, "convert", source, "--to", to, "--out", out["ours"], "--force"], expect=(0,))

    def theirs():
        cache = bench.work / "cache"
        os.system(f"rm -rf {cache}")
        return bench.run([sys.executable, "-c", script, source, out["peer"], cache])

    runs = bench.interleave({"ours": ours, "peer": theirs})
    wall = {side: median([r.wall for r in runs[side]]) for side in runs}
    peak = {side: median([r.peak for r in runs[side]]) / 2**20 for side in runs}
    show = lambda side: f"{size / 1e6 / wall[side]:.0f} MB/s, {peak[side]:.0f} MiB"
    return Row(f"convert, {work}", show("ours"), f"{peer}: {show('peer')}", f"{wall['peer'] / wall['ours']:.1f}x", "-", None)


def prepare(work):
    texts, pages = work / "texts.jsonl", work / "pages.jsonl"
    if pages.exists():
        return texts, pages
    dice = random.Random(1)
    (work / "p").mkdir(exist_ok=True)
    for n in range(PAGES):
        # Noise in a PNG of stored blocks: as large as a scanned page, and made without a library.
        (work / f"p/{n}.png").write_bytes(png(640, 400, dice))
    part = lambda text: {"type": "text", "text": text}

    def record(n):
        target = {f"field_{k}": f"value {n} {k} 提单" for k in range(20)}
        user = [{"type": "image", "image": f"p/{n % PAGES}.png"}, part("Extract the fields of this page as JSON.")]
        return {
            "id": f"r{n}",
            "messages": [
                {"role": "system", "content": [part("You answer in JSON.")]},
                {"role": "user", "content": user},
                {"role": "assistant", "content": [part(json.dumps(target, ensure_ascii=False))]},
            ],
            "meta": {"document": f"d{n}"},
        }

    for path, count in ((texts, TEXTS), (pages, SHOWN)):
        with open(path, "w") as out:
            for n in range(count):
                out.write(json.dumps(record(n), ensure_ascii=False) + "\n")
    return texts, pages


def png(width, height, dice):
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + dice.randbytes(width * 3) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")
