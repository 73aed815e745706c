#!/usr/bin/env python3
"""seeds.py CORPUS: small inputs of every kind for the fuzzers to start from."""
import io
import pathlib
import sys
import zipfile

corpus = pathlib.Path(sys.argv[1])
root = pathlib.Path(__file__).resolve().parent.parent


def seed(target: str, name: str, content: bytes) -> None:
    folder = corpus / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


example = (root / "examples/example.jsonl").read_bytes()
seed("jsonl", "example", example)
for number, line in enumerate(example.splitlines()):
    seed("jsonl", f"line-{number}", line)
first = example.splitlines()[0]
kinds = [b"\xef\xbb\xbf" + first + b"\r", b"", first, first[:80], b"\xff", first.replace(b'"id":"', b'"id":"x'), b" "]
seed("jsonl", "kinds", b"\n".join(kinds))

# The first two bytes choose the formats, in the order of `Format::ALL`.
png = (
    b"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJ"
    b"RU5ErkJggg=="
)
chats = [
    example.splitlines()[0],
    b'{"messages":[{"role":"system","content":"s"},{"role":"user","content":"<image>a"},{"role":"assistant","content":"b"}],"images":["'
    + png + b'"],"id":"x","meta":"{\\"weight\\":2}"}',
    b'[{"instruction":"<image>a","input":"b","output":"c","system":"s","history":[["q","r"]],"images":["' + png + b'"]}]',
    b'{"query":"a","response":"b","history":[["q","r"]],"images":["' + png + b'"],"channel":"c"}',
    b'[[{"image":"' + png + b'","conversations":[{"from":"human","value":"<image>a"},{"from":"gpt","value":"b"}]}]]',
    b'{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"'
    + png + b'","detail":"high"}}]},{"role":"assistant","content":"b","weight":0}]}',
]
for number, chat in enumerate(chats):
    for to in range(9):
        seed("convert", f"chat-{number}-{to}", bytes([number, to]) + chat)
task = (
    b'[{"id":7,"data":{"image":"a.png"},"annotations":[{"result":[{"id":"r","type":"rectanglelabels","value":{"x":1,'
    b'"rectanglelabels":["t"]}},{"id":"r","type":"textarea","from_name":"f","value":{"text":["1"]}}]}]}]'
)
seed("convert", "task", bytes([9, 0]) + task)
seed("convert", "page", bytes([8, 0]) + b"---\nprimary_language: en\nis_table: False\n---\ntext\n")

shipped = (root / "configs/bill-of-lading.mapping.toml").read_bytes()
seed("mapping", "shipped", shipped)
rich = b"""version = 1
document = "F"
decimal = "comma"
[prompt]
system = "JSON: {{schema}}"
user = "Read `a`: (integer). {{keys}}"
[pages]
take = "column"
column = "P"
[tables.t]
"x" = "y"
[label_studio]
annotations = "latest"
[[fields]]
name = "a"
type = "number"
default = 2
[[fields]]
name = "d"
type = "date"
dates = ["%d.%m.%Y"]
table = "t"
[[fields]]
name = "l"
type = "list"
unique = "n"
items = [{ name = "n", column = "N", type = "string", required = true }]
"""
seed("mapping", "rich", rich)
seed("mapping", "aliases", b"version = 1\n[aliases]\n'a.pdf' = 'b'\n'c.pdf' = ['d.png', 'e.png']\n")
rows = [
    (b"", b'[{"F":"a.pdf","a":"1,5","d":"01.02.2020","P":"1-2","N":"x"},\n{"F":"b.pdf","a":2}]'),
    (b"x", b'{"F":"a.pdf","a":"1.234,5"}\n{"F":"a - Copy (2).pdf"}\n'),
    (b"xx", b"F;a;d\r\n\"a.pdf\";1;\r\nb (1).pdf;2;x\r\n"),
    (
        b"",
        b'[{"id":7,"data":{"F":"/data/upload/3/0a1b2c3d-a%201.pdf"},"annotations":[{"result":['
        b'{"id":"r","from_name":"l","type":"rectanglelabels","value":{"rectanglelabels":["a"]}},'
        b'{"id":"r","from_name":"t","type":"textarea","value":{"text":["12,5"]}}]}]}]',
    ),
]
names = b"a_1.png\na_2.png\nb_1_.png\na.png\nb (1).png"
for number, (kind, labels) in enumerate(rows):
    for mapping in (shipped.replace(b'"Filename"', b'"F"'), rich):
        seed("rows", f"{number}-{len(mapping)}", b"\xff".join([mapping, kind, labels, names]))


def zipped(entries: dict, compression: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


pages = {"pages/a_1.png": b"png", "results.json": b"[]", "__MACOSX/._a": b"", "d/": b"", "inner.zip": b"PK"}
seed("zip", "stored", zipped(pages, zipfile.ZIP_STORED))
seed("zip", "deflated", zipped({"a.txt": b"a" * 5000}, zipfile.ZIP_DEFLATED))
hostile = {"../up": b"x", "/abs": b"x", "C:\\x": b"x", "NUL.txt": b"x", "a": b"1", "A": b"2", "\u65e5.png": b"3"}
seed("zip", "hostile", zipped(hostile, zipfile.ZIP_STORED))
seed("zip", "shift-jis", zipped({"AAAA.png": b"x"}, zipfile.ZIP_STORED).replace(b"AAAA", b"\x93\xfa\x96\x7b"))
