#!/usr/bin/env python3
"""Reads what `vlft convert` wrote with the loaders it was written for, and compares every conversation.

    convert_peers.py --vlft target/release/vlft --work DIR [--qwen qwen-vl-finetune] [--olmocr REPO]

A loader that is not installed is named and left out; exit code 1 when one disagrees. Wants
`datasets pyarrow pillow pyyaml`, and for the loaders `llamafactory ms-swift trl` (with what they import).
"""

import argparse
import base64
import importlib
import importlib.metadata
import io
import json
import pathlib
import subprocess
import sys
import types

from PIL import Image

failed = []


def data(work: pathlib.Path) -> list[dict]:
    """Twelve records with everything that is awkward; the pages differ in size."""
    (work / "pages").mkdir(exist_ok=True)
    for i in range(6):
        mode = ["RGB", "L", "RGBA"][i % 3]
        Image.new(mode, (40 + i, 30 + 2 * i), tuple([i * 40] * len(mode)) if mode != "L" else i * 40).save(
            work / f"pages/{i}.png"
        )
    records = []
    for i in range(12):
        image = lambda n: {"type": "image", "image": f"pages/{n % 6}.png"}
        text = lambda t: {"type": "text", "text": t}
        user = [image(i), text(f"Read page {i}: 提单 №7")]
        if i % 3 == 1:
            user = [text("First "), image(i), text(" then "), image(i + 1), text(" compare.")]
        messages = [{"role": "user", "content": user}, {"role": "assistant", "content": [text(f'{{"n":{i}}}')]}]
        if i % 4 == 2:
            more = [{"role": "user", "content": [text("And the sum?")]}, {"role": "assistant", "content": [text("7")]}]
            messages += more
        if i % 2:
            messages.insert(0, {"role": "system", "content": [text("JSON only.")]})
        if i == 6:
            messages = [{"role": "user", "content": [text("No page.")]}, {"role": "assistant", "content": [text("{}")]}]
        records.append({"id": f"r{i}", "messages": messages, "meta": {"document": f"d{i}", "n": i if i % 2 else "x"}})
    (work / "ours.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))
    return records


def pixels(image) -> tuple:
    if isinstance(image, dict):
        image = io.BytesIO(image["bytes"]) if image.get("bytes") else image["path"]
    if not isinstance(image, Image.Image):
        image = Image.open(image)
    return image.size, image.convert("RGB").tobytes()


def plain(record: dict, work: pathlib.Path) -> list[tuple]:
    """(role, [text or pixels]) of a record of ours."""
    turns = []
    for message in record["messages"]:
        parts = [p["text"] if p["type"] == "text" else pixels(work / p["image"]) for p in message["content"]]
        turns.append((message["role"], parts))
    return turns


def tagged(turns: list[tuple[str, str]], images: list, strip=False) -> list[tuple]:
    """The same of texts with `<image>` and a list of images."""
    images = iter(images)
    out = []
    for role, text in turns:
        parts = []
        for i, piece in enumerate(text.split("<image>")):
            if i:
                parts.append(pixels(next(images)))
            if piece:
                parts.append(piece)
        out.append((role, parts))
    assert next(images, None) is None, "images are left over"
    return out


def compare(name: str, expected: list, found: list) -> None:
    same = expected == found
    print(f"{'ok  ' if same else 'FAIL'} {name}: {len(found)} of {len(expected)} records")
    if not same:
        failed.append(name)
        for e, f in zip(expected, found):
            if e != f:
                print("  expected", str(e)[:300], "\n  found   ", str(f)[:300])
                break


def convert(vlft: str, work: pathlib.Path, to: str, out: str, expect=(0,)) -> pathlib.Path:
    command = [vlft, "convert", work / "ours.jsonl", "--to", to, "--out", work / out, "--force"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert done.returncode in expect, done.stderr
    return work / out


def llama_factory(vlft, work, records):
    torchaudio = types.ModuleType("torchaudio")  # imported for audio only
    torchaudio.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
    sys.modules.setdefault("torchaudio", torchaudio)
    from datasets import load_dataset
    from llamafactory.data.converter import get_dataset_converter
    from llamafactory.data.parser import get_dataset_list

    for to, out in (("llama-factory", "lf.jsonl"), ("llama-factory", "lf2.json"), ("alpaca", "alpaca.json")):
        path = convert(vlft, work, to, out)
        (attr,) = get_dataset_list([path.stem], str(work))
        rows = load_dataset("json", data_files=str(path), split="train", cache_dir=str(work / "hf"))
        call = get_dataset_converter(attr.formatting, attr, types.SimpleNamespace(media_dir=str(work)))
        found = []
        for row in rows:
            row = call(row)
            turns = [(m["role"], m["content"]) for m in row["_prompt"] + row["_response"]]
            if row["_system"]:
                turns.insert(0, ("system", row["_system"]))
            found.append(tagged(turns, row["_images"] or []))
        version = importlib.metadata.version("llamafactory")
        compare(f"llamafactory {version}, {attr.formatting} from {out}", [plain(r, work) for r in records], found)


def swift(vlft, work, records):
    from datasets import load_dataset
    from swift.dataset import AutoPreprocessor

    path = convert(vlft, work, "ms-swift", "swift.jsonl")
    rows = load_dataset("json", data_files=str(path), split="train", cache_dir=str(work / "hf"))
    rows = AutoPreprocessor()(rows)
    found = []
    for row in rows:
        images = [i if isinstance(i, str) else (i.get("path") or i) for i in row.get("images") or []]
        images = [work / i if isinstance(i, str) else i for i in images]
        found.append(tagged([(m["role"], m["content"]) for m in row["messages"]], images))
    version = importlib.metadata.version("ms_swift")
    compare(f"ms-swift {version}", [plain(r, work) for r in records], found)


def qwen(vlft, work, records, folder):
    if not folder:
        raise ImportError("give --qwen the folder qwen-vl-finetune")
    # Only the function that reads an item is wanted: the module imports a trainer.
    source = (pathlib.Path(folder) / "qwenvl/data/data_processor.py").read_text()
    start = source.index("def _make_abs_paths")
    make = source[start : source.index("\ndef ", start + 1)]
    start = source.index("def _build_messages")
    build = source[start : source.index("\ndef ", start + 1)]
    space = {}
    exec("import re\nfrom pathlib import Path\nfrom typing import *\n" + make + build, space)
    found = []
    for row in json.loads(convert(vlft, work, "qwen", "qwen.json").read_text()):
        turns = []
        for message in space["_build_messages"](row, work):
            parts = [p["text"] if p["type"] == "text" else pixels(p["image"]) for p in message["content"]]
            turns.append((message["role"], parts))
        found.append(turns)
    # What it is said to lose: system turns, and white space around user texts.
    expected = []
    for record in records:
        turns = [(role, parts) for role, parts in plain(record, work) if role != "system"]
        strip = lambda role, p: p.strip() if isinstance(p, str) and role == "user" else p
        expected.append([(role, [strip(role, p) for p in parts]) for role, parts in turns])
    compare("Qwen's data_processor.py", expected, found)


def hugging_face(vlft, work, records):
    import datasets
    import pyarrow
    import pyarrow.parquet

    for to in ("trl", "trl-messages"):
        path = convert(vlft, work, to, f"{to}.parquet")
        rows = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(work / "hf"))
        inner = rows.features["images"]
        inner = inner[0] if isinstance(inner, list) else inner.feature
        assert isinstance(inner, datasets.Image), rows.features
        assert pyarrow.parquet.read_table(path).num_rows == len(records)
        found = []
        for row in rows:
            images = iter(row["images"])
            turns = []
            for message in row.get("messages") or row["prompt"] + row["completion"]:
                parts = [
                    p["text"] if p["type"] == "text" else pixels(next(images)) for p in message["content"]
                ]
                turns.append((message["role"], parts))
            found.append(turns)
        name = f"datasets {datasets.__version__}, pyarrow {pyarrow.__version__}, {to}"
        compare(name, [plain(r, work) for r in records], found)
        # And the way back, written by somebody else's writer.
        again = work / f"{to}-by-pyarrow.parquet"
        rows.to_parquet(str(again))
        back = work / f"{to}-back.jsonl"
        done = subprocess.run([vlft, "convert", str(again), "--to", "vlft", "--out", str(back), "--force"])
        assert done.returncode == 0
        returned = [json.loads(line) for line in back.read_text().splitlines()]
        compare(f"{to} written by datasets, read by vlft", [plain(r, work) for r in records], [plain(r, work) for r in returned])
        compare(f"{to}, ids and meta", [(r["id"], r["meta"]) for r in records], [(r["id"], r["meta"]) for r in returned])


def trl(vlft, work, records):
    import datasets
    from trl.data_utils import prepare_multimodal_messages

    path = convert(vlft, work, "trl", "trl.parquet")
    rows = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(work / "hf"))
    found = []
    for row in rows:
        messages = prepare_multimodal_messages(row["prompt"] + row["completion"], images=row["images"])
        turns = []
        for m in messages:
            parts = [p["text"] if p["type"] == "text" else pixels(p["image"]) for p in m["content"]]
            turns.append((m["role"], parts))
        found.append(turns)
    compare(f"trl {importlib.metadata.version('trl')}", [plain(r, work) for r in records], found)


def openai(vlft, work, records):
    """The limits of the guide, by Pillow and base64."""
    found = []
    for line in convert(vlft, work, "openai", "openai.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert set(row) == {"messages"}
        turns = []
        for message in row["messages"]:
            assert set(message) == {"role", "content"} and message["role"] in ("system", "user", "assistant")
            content = message["content"]
            content = [{"type": "text", "text": content}] if isinstance(content, str) else content
            parts = []
            for part in content:
                if part["type"] == "text":
                    parts.append(part["text"])
                    continue
                head, encoded = part["image_url"]["url"].split(",", 1)
                raw = base64.b64decode(encoded, validate=True)
                image = Image.open(io.BytesIO(raw))
                assert len(raw) <= 10_000_000 and image.mode in ("RGB", "RGBA") and message["role"] == "user"
                assert head == f"data:image/{image.format.lower()};base64"
                parts.append(pixels(image))
            turns.append((message["role"], parts))
        found.append(turns)
    compare("OpenAI's limits", [plain(r, work) for r in records], found)


def olmocr(vlft, work, records, repo):
    import yaml

    folder = convert(vlft, work, "olmocr", "pairs", expect=(1,))
    fit = [r for r in records if sum(len(m["content"]) for m in r["messages"] if m["role"] == "user") == 2]
    fit = [r for r in fit if sum(m["role"] == "user" for m in r["messages"]) == 1]
    found = []
    for path in sorted(folder.glob("*.md"), key=lambda p: int(p.stem[1:])):
        text = path.read_text()
        end = text.find("\n---", 4)  # as olmocr/train/front_matter.py does it
        front, body = yaml.safe_load(text[4:end]), text[end + 4 :].strip()
        assert isinstance(front["primary_language"], (str, type(None)))
        assert all(type(front[k]) is bool for k in ("is_rotation_valid", "is_table", "is_diagram"))
        assert front["rotation_correction"] in (0, 90, 180, 270)
        page = None
        try:
            import pypdfium2

            document = pypdfium2.PdfDocument(path.with_suffix(".pdf"))
            assert len(document) == 1
            page = document[0].render(scale=150 / 72).to_pil().size
        except ImportError:
            pass
        found.append((path.stem, body, page))
    size = lambda r: Image.open(work / next(p["image"] for m in r["messages"] for p in m["content"] if "image" in p)).size
    expected = [
        (r["id"], r["messages"][-1]["content"][0]["text"], size(r) if found and found[0][2] else None) for r in fit
    ]
    compare("olmOCR's front matter" + (", pages by pypdfium2" if found and found[0][2] else ""), expected, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--vlft", required=True)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--qwen")
    parser.add_argument("--olmocr")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    records = data(args.work)
    for part in (hugging_face, trl, llama_factory, swift, qwen, openai, olmocr):
        more = {qwen: [args.qwen], olmocr: [args.olmocr]}.get(part, [])
        try:
            part(args.vlft, args.work, records, *more)
        except ImportError as missing:
            print(f"-    {part.__name__}: left out, {missing}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
