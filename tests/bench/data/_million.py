"""A million invented records with their images (empty files) and a manifest, made once: what
`validate.py` and `split.py` measure with. No image is opened, so that they are empty is no matter.

VLFT_BENCH_RECORDS makes fewer of them."""

import hashlib
import json
import os
import pathlib
import random

RECORDS = int(os.environ.get("VLFT_BENCH_RECORDS", "1000000"))

PROMPT = (
    "Read this bill of lading and answer with one JSON object: the number, the shipper, the consignee, "
    "both ports, the vessel, the free days and all containers. Copy every value as it is printed."
)

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["bl_number", "shipper", "consignee", "port_of_loading", "free_days", "containers"],
    "properties": {
        "bl_number": {"type": "string", "minLength": 4},
        "shipper": {"type": "string"},
        "consignee": {"type": "string"},
        "port_of_loading": {"type": "string"},
        "port_of_discharge": {"type": ["string", "null"]},
        "vessel": {"type": ["string", "null"]},
        "free_days": {"type": ["integer", "null"]},
        "containers": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["number", "size"],
                "properties": {"number": {"type": "string"}, "size": {"enum": ["20GP", "40HC", "40RF"]}},
            },
        },
    },
}


def record(n: int, dice: random.Random) -> dict:
    answer = {
        "bl_number": f"ABCD{n:08}",
        "shipper": f"SHIPPER NUMBER {dice.randrange(10**6)} CO., LTD.",
        "consignee": f"BUYER {dice.randrange(10**6)} (MALAYSIA) SDN BHD",
        "port_of_loading": dice.choice(["SHANGHAI", "HAIPHONG", "LAEM CHABANG", "CHENNAI"]),
        "port_of_discharge": dice.choice(["HAMBURG", "BUSAN", None]),
        "vessel": "NORTHERN CRANE 317W",
        "free_days": dice.choice([7, 10, 14, None]),
        "containers": [
            {"number": f"MSTU{dice.randrange(10**7):07}", "size": dice.choice(["20GP", "40HC", "40RF"])}
            for _ in range(dice.randrange(1, 4))
        ],
    }
    return {
        "id": f"ABCD{n:08}_p1",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image", "image": f"pages/{n // 1000:04}/{n % 1000:03}.png"},
                    {"type": "text", "text": PROMPT},
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": json.dumps(answer)}]},
        ],
        "meta": {"document": f"ABCD{n:08}_C _2_.PDF", "pages": [1], "doc_type": "bill_of_lading"},
    }


def page(n: int) -> dict:
    looks = hashlib.shake_128(b"looks %d" % n).hexdigest(64)
    return {
        "version": 1,
        "document": f"ABCD{n:08}_C _2_.PDF",
        "source_sha256": hashlib.sha256(b"source %d" % n).hexdigest(),
        "page": 1,
        "pages": 1,
        "file": f"{n // 1000:04}/{n % 1000:03}.png",
        "width": 1240,
        "height": 1754,
        "dpi": 150.0,
        "requested": {"dpi": 150},
        "format": "png",
        "sha256": hashlib.sha256(b"image %d" % n).hexdigest(),
        "bytes": 0,
        "text_chars": 1200,
        "rasterizer": "pdfium 8149",
        "page_hash": looks,
    }


def folder(bench) -> pathlib.Path:
    """`all.jsonl` (RECORDS lines), `tenth.jsonl`, `schema.json`, `pages/` with `manifest.jsonl`."""
    root = bench.work.parent / "million"
    if (root / "done").exists():
        return root
    dice = random.Random(1)
    (root / "pages").mkdir(parents=True, exist_ok=True)
    for n in range((RECORDS + 999) // 1000):
        (root / "pages" / f"{n:04}").mkdir(exist_ok=True)
    with (
        open(root / "all.jsonl", "w") as all_,
        open(root / "tenth.jsonl", "w") as tenth,
        open(root / "pages" / "manifest.jsonl", "w") as manifest,
    ):
        for n in range(RECORDS):
            line = json.dumps(record(n, dice)) + "\n"
            all_.write(line)
            if n < RECORDS // 10:
                tenth.write(line)
            manifest.write(json.dumps(page(n)) + "\n")
            os.close(os.open(root / "pages" / f"{n // 1000:04}" / f"{n % 1000:03}.png", os.O_CREAT | os.O_WRONLY))
    (root / "schema.json").write_text(json.dumps(SCHEMA))
    (root / "done").touch()
    return root
