"""`vlft stats --model` on 10,000 records, beside transformers: its processor called on each record, and
its tokenizer with the arithmetic of image sizes alone (texts rendered beforehand, headers read by
Pillow). Peer: transformers 5 with Pillow, in the Python that runs this.

The model folder is the tiny one of the fixtures with a tokenizer of real size: byte-level BPE of 100,000
tokens with Qwen's splitting, trained here on the sources of Python's own library. Pages are A4 at
150 dpi. transformers is asked for the pace of a part of the records, since all would take minutes.
"""

import json
import os
import pathlib
import random
import shutil
import subprocess
import sys

from bench import Row, median, python_with

RECORDS = 10_000
DISTINCT = 100  # page images; the other names are links to them
SLOW_PART = 120  # records that the processor is asked for
ROOT = pathlib.Path(__file__).resolve().parents[3]

FIELDS = ["bl_number", "shipper", "consignee", "notify_party", "vessel", "voyage", "port_of_loading",
          "port_of_discharge", "place_of_delivery", "freight_terms", "gross_weight", "issue_date"]
WORDS = "RICE COTTON STEEL TRADING CO LTD BERHAD BANGKOK SHANGHAI ROTTERDAM PORT KLANG MAERSK COSCO EXPORT".split()

PROMPT = "Read this bill of lading and answer with one JSON object and nothing else.\nKeys, in this order:\n" + "".join(
    f"- {name}: as printed on the document, text, null where it is not there; no guessing and no abbreviations\n" for name in FIELDS
) + "- containers: a list, one object each with container_no, seal_no, type (such as 40HC), packages (integer), weight_kg (number)\n"

PEER = r"""
import json, sys, time
from PIL import Image
from transformers import AutoProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize
model, data, mode, first, count = sys.argv[1:]
processor = AutoProcessor.from_pretrained(model)
records = [json.loads(line) for line in open(data + "/d.jsonl")][int(first):int(first) + int(count)]
size = processor.image_processor.size
low, high = size["shortest_edge"], size["longest_edge"]
texts = [processor.apply_chat_template(r["messages"], tokenize=False) for r in records]
paths = [[data + "/" + p["image"] for m in r["messages"] for p in m["content"] if p["type"] == "image"] for r in records]
processor.tokenizer("warm")
start = time.perf_counter()
total = 0
if mode == "processor":
    for text, pages in zip(texts, paths):
        out = processor(text=[text], images=[Image.open(p).convert("RGB") for p in pages], return_tensors="pt")
        total += out["input_ids"].shape[1]
else:
    if mode == "batch":
        lengths = [len(ids) for at in range(0, len(texts), 512) for ids in processor.tokenizer(texts[at:at + 512])["input_ids"]]
    for i, (text, pages) in enumerate(zip(texts, paths)):
        total += (lengths[i] if mode == "batch" else len(processor.tokenizer(text)["input_ids"])) - len(pages)
        for p in pages:
            width, height = Image.open(p).size
            h, w = smart_resize(height, width, factor=32, min_pixels=low, max_pixels=high)
            total += h * w // 1024
print(json.dumps({"rate": len(records) / (time.perf_counter() - start), "tokens": total}))
"""


def make_model(out: pathlib.Path) -> None:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    shutil.copytree(ROOT / "tests/fixtures/tiny", out, ignore=shutil.ignore_patterns("*.safetensors"))
    old = json.loads((out / "tokenizer.json").read_text())
    special = [token["content"] for token in sorted(old["added_tokens"], key=lambda t: t["id"])]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    pattern = old["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=100_000, show_progress=False, special_tokens=[], initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    sources = sorted(pathlib.Path(os.__file__).parent.rglob("*.py"))[:1500]
    tokenizer.train_from_iterator((p.read_text(errors="replace") for p in sources), trainer)
    made = json.loads(tokenizer.to_str())
    first = len(made["model"]["vocab"])
    ids = {token: first + i for i, token in enumerate(special)}
    made["added_tokens"] = [{**token, "id": ids[token["content"]]} for token in old["added_tokens"]]
    (out / "tokenizer.json").write_text(json.dumps(made))
    config = json.loads((out / "config.json").read_text())
    config["text_config"]["vocab_size"] = first + len(special)
    for key, token in [("image_token_id", "<|image_pad|>"), ("vision_start_token_id", "<|vision_start|>"),
                       ("vision_end_token_id", "<|vision_end|>"), ("video_token_id", "<|video_pad|>")]:
        config[key] = ids[token]
    (out / "config.json").write_text(json.dumps(config))
    settings = json.loads((out / "tokenizer_config.json").read_text())
    if "added_tokens_decoder" in settings:
        settings["added_tokens_decoder"] = {str(ids[t["content"]]): t for t in settings["added_tokens_decoder"].values()}
    (out / "tokenizer_config.json").write_text(json.dumps(settings))
    settings = json.loads((out / "preprocessor_config.json").read_text())
    settings["size"] = {"shortest_edge": 65_536, "longest_edge": 16_777_216}
    for old_spelling in ("min_pixels", "max_pixels"):
        settings.pop(old_spelling, None)
    (out / "preprocessor_config.json").write_text(json.dumps(settings))


def make_data(out: pathlib.Path) -> None:
    from PIL import Image, ImageDraw

    dice = random.Random(7)
    pages = out / "pages"
    pages.mkdir(parents=True)
    for page in range(DISTINCT):
        image = Image.new("L", (1240, 1754), 255)
        draw = ImageDraw.Draw(image)
        for y in range(60, 1700, 24):
            draw.text((60, y), " ".join(dice.choices(WORDS, k=14)), fill=dice.randrange(80))
        image.save(pages / f"{page}.png")
    with open(out / "d.jsonl", "w") as file:
        for number in range(RECORDS):
            name = f"pages/p{number}.png"
            os.link(pages / f"{number % DISTINCT}.png", out / name)
            answer = {field: " ".join(dice.choices(WORDS, k=4)) + f" {dice.randrange(10**6)}" for field in FIELDS}
            answer["containers"] = [
                {"container_no": f"MSCU{dice.randrange(10**7):07}", "seal_no": f"SL{dice.randrange(10**6)}", "type": "40HC",
                 "packages": dice.randrange(900), "weight_kg": dice.randrange(10**7) / 100} for _ in range(dice.randrange(1, 6))]
            file.write(json.dumps({"id": f"doc-{number}", "messages": [
                {"role": "user", "content": [{"type": "image", "image": name}, {"type": "text", "text": PROMPT}]},
                {"role": "assistant", "content": [{"type": "text", "text": json.dumps(answer)}]}], "meta": {"document": f"doc-{number}"}}) + "\n")


def run(bench):
    work = f"`stats --model`, {RECORDS:,} records"
    python = python_with("transformers", "PIL", "tokenizers", "torch")
    if python is None:
        yield Row(work, "-", "transformers is not installed", "-", "5x and 2x", None)
        return
    model, data = bench.work / "model", bench.work / "data"
    for folder, make in [(model, make_model), (data, make_data)]:
        if not folder.exists():
            shutil.rmtree(f"{folder}.part", ignore_errors=True)
            make(pathlib.Path(f"{folder}.part"))
            os.rename(f"{folder}.part", folder)

    def peer(mode: str, count: int):
        def call():
            out = subprocess.run([python, "-c", PEER, str(model), str(data), mode, "0", str(count)], check=True, capture_output=True, text=True,
                                 env={**os.environ, "TOKENIZERS_PARALLELISM": "true", "OMP_NUM_THREADS": "2"})
            return json.loads(out.stdout.splitlines()[-1])
        return call

    def ours():
        run = bench.run([bench.vlft, "stats", data / "d.jsonl", "--model", model, "--format", "json"], env={"RAYON_NUM_THREADS": "2"})
        return {"rate": RECORDS / run.wall, "tokens": json.loads(run.out)["total_tokens"]}

    sides = bench.interleave({"ours": ours, "processor": peer("processor", SLOW_PART),
                              "tokenizer": peer("tokenizer", 2000), "batch": peer("batch", RECORDS)})
    if sides["ours"][0]["tokens"] != sides["batch"][0]["tokens"]:
        raise SystemExit(f"token counts differ: {sides['ours'][0]['tokens']} and {sides['batch'][0]['tokens']}")
    rate = {name: median(r["rate"] for r in results) for name, results in sides.items()}
    for name, what, goal in [("processor", "transformers' processor, record by record", 5.0),
                             ("tokenizer", "its tokenizer and image sizes alone, record by record", 2.0),
                             ("batch", "the same, 512 texts at a time on two threads", None)]:
        ratio = rate["ours"] / rate[name]
        yield Row(f"{work}, beside {what}", f"{rate['ours']:,.0f} records/s", f"{rate[name]:,.0f} records/s", f"{ratio:.1f}x",
                  f"{goal:.0f}x" if goal else "-", ratio >= goal if goal else None)
