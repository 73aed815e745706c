#!/usr/bin/env python3
"""Opens the page of `vlft stats --html` in headless Chromium, with 10,000 records, and uses it: it must
load fast, sort, search, filter, page and open records by mouse and keyboard, in light and in dark,
without a console error and without asking the network for anything.

    stats_page.py --vlft target/debug/vlft [--records 10000] [--pictures DIR]

Needs Chromium (CHROMIUM names another one) and Python, nothing else.
"""

import argparse
import json
import os
import pathlib
import random
import struct
import subprocess
import tempfile
import time
import zlib

from cdp import Browser, find_chromium

WORDS = "rice cotton steel trading berhad bangkok shanghai rotterdam klang maersk cosco export santos oslo".split()
PORTS = ["Rotterdam", "Port Klang", "Shanghai", "Santos", "Bangkok"]
DISTINCT = 60  # page images; the other names are links to them


def png(width: int, height: int, rows: list[bytes]) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + r for r in rows), 1)) + chunk(b"IEND", b"")


def page_image(dice: random.Random, width=620, height=877) -> bytes:
    """Something that looks like a page: lines of words, a table, a stamp."""
    blank = b"\xff" * width
    rows = [blank] * height
    for top in range(40, height - 60, 14):
        line = bytearray(blank)
        at = 40
        while at < width - 60 - dice.randrange(160):
            length = dice.randrange(12, 60)
            for x in range(at, min(width - 40, at + length)):
                if (x * 7 + top) % 5:
                    line[x] = 40 + (x * 13 + top) % 60
            at += length + 9
        for y in range(top, top + 7):
            rows[y] = bytes(line)
    for y in (height // 2, height // 2 + 90):
        for thick in range(2):
            rows[y + thick] = b"\xff" * 40 + b"\x30" * (width - 80) + b"\xff" * 40
    return png(width, height, rows)


def make(folder: pathlib.Path, records: int) -> pathlib.Path:
    dice = random.Random(11)
    pages = folder / "pages"
    pages.mkdir(parents=True)
    kinds = []
    for n in range(DISTINCT):
        small = n % 15 == 14
        (pages / f"kind{n}.png").write_bytes(page_image(dice, *((310, 438) if small else (620, 877))))
    lines = []
    for n in range(records):
        name = f"pages/ABCDR2017{n:06}_C _2_.png"
        if n % 997 != 996:
            os.link(pages / f"kind{n % DISTINCT}.png", folder / name)
        answer = {
            "bl_number": f"ABCDR2017{n:06}", "shipper": " ".join(dice.choices(WORDS, k=4)).upper(),
            "port_of_loading": dice.choice(PORTS), "port_of_discharge": dice.choice(PORTS) if n % 7 else None,
            "gross_weight_kg": dice.randrange(100, 2_900_000) / 100 if n % 501 else "12,5",
            "containers": [{"number": f"MSCU{dice.randrange(10**7):07}", "size": dice.choice(["20", "40", "40HC"])} for _ in range(1 + int(dice.expovariate(0.7)))],
        }
        text = json.dumps(answer) if n % 1999 != 7 else "```json\n{}\n```"
        if n == 5:
            text = json.dumps({"bl_number": "</script><img src=x onerror=alert(1)>", "shipper": "<b>x</b>"})
        lines.append(json.dumps({"id": f"bl-{n:05}", "messages": [
            {"role": "user", "content": [{"type": "image", "image": name}, {"type": "text", "text": "Read the bill of lading."}]},
            {"role": "assistant", "content": [{"type": "text", "text": text}]}], "meta": {"document": f"ABCDR2017{n:06}_C _2_.PDF"}}))
    lines.insert(42, '{"id":"cut')
    file = folder / "all.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--vlft", required=True)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--pictures", type=pathlib.Path)
    args = parser.parse_args()
    program = find_chromium()
    if program is None:
        raise SystemExit("no Chromium: install it, or name it in CHROMIUM")
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch, "data")
        file = make(folder, args.records)
        page = folder / "look" / "all.html"
        start = time.monotonic()
        made = subprocess.run([os.path.abspath(args.vlft), "stats", str(file), "--html", str(page), "--format", "json", "-q"],
                              capture_output=True, text=True)
        assert made.returncode == 1, f"one line is broken, so exit 1: {made.returncode} {made.stderr[-2000:]}"
        report = json.loads(made.stdout)
        assert report["records"] == args.records and report["broken_lines"] == 1, made.stdout[:300]
        print(f"made in {time.monotonic() - start:.1f} s: {page.stat().st_size / 2**20:.1f} MiB, "
              f"{report['page']['thumbnails']:,} thumbnails of {args.records:,} records")
        browser = Browser(program)
        try:
            use(browser, page, args)
        finally:
            browser.close()


def use(browser: Browser, page: pathlib.Path, args) -> None:
    for domain in ("Page", "Runtime", "Log", "Network"):
        browser.send(f"{domain}.enable")
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    picture = (lambda name: browser.picture(args.pictures / f"{name}.png")) if args.pictures else (lambda name: None)
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)

    start = time.monotonic()
    browser.send("Page.navigate", url=page.as_uri())
    browser.wait("document.documentElement?.dataset.ready === 'true' && document.querySelectorAll('#records tbody tr').length > 0", 60)
    browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
    loaded = time.monotonic() - start
    print(f"loaded and drawn in {loaded:.2f} s")
    assert loaded < 15, "10,000 records must load in seconds, also on a shared machine"

    ids = "[...document.querySelectorAll('.who button')].map(b => b.textContent)"
    count = "document.getElementById('count').textContent.replaceAll('\\u202f', '')"
    total = args.records + 1
    steps = {}

    def timed(name, script, until):
        begin = time.monotonic()
        browser.run(script)
        browser.wait(until, 20)
        steps[name] = time.monotonic() - begin

    # Worst first: errors on the first rows, drawn pictures beside them.
    assert browser.run("document.querySelectorAll('#records tbody tr').length") == 50
    assert browser.run("document.querySelector('#records tbody tr .mark').className") == "mark l0"
    assert browser.run(count) == f"1 to 50 of {total} records", browser.run(count)
    picture("light")
    browser.run("document.getElementById('h-keys').scrollIntoView()")
    picture("light-tables")
    browser.run("document.getElementById('h-records').scrollIntoView()")

    # Sort by a head, both ways; values come in order.
    weights = "[...document.querySelectorAll('#records tbody tr')].map(r => Number(r.querySelectorAll('.nums')[1].textContent.replaceAll('\\u202f', '')))"
    timed("sort", "[...document.querySelectorAll('#records th button')].find(b => b.title === 'Answer length').click()",
          "document.querySelector('th[aria-sort]').getAttribute('aria-sort') === 'descending'")
    values = browser.run(weights)
    assert values == sorted(values, reverse=True) and values[0] > values[-1], values
    browser.run("document.getElementById('sort').value = 'id up'; document.getElementById('sort').dispatchEvent(new Event('change'))")
    assert browser.run(ids)[1:4] == ["bl-00000", "bl-00001", "bl-00002"], browser.run(ids)[:4]
    assert browser.run("[...document.querySelectorAll('#records tbody img')].every(i => i.src.startsWith('data:image/jpeg;base64,'))")
    assert browser.run("document.querySelectorAll('#records tbody img').length") >= 45
    browser.wait("[...document.querySelectorAll('#records tbody img')].slice(0, 3).every(i => i.complete && i.naturalWidth > 40)")
    picture("rows")

    # Page with the keyboard and with the field.
    browser.run("document.activeElement.blur()")
    browser.press("ArrowRight")
    assert browser.run(count).startswith("51 to 100 "), browser.run(count)
    browser.press("ArrowLeft")
    timed("page", "const p = document.getElementById('page'); p.value = 100; p.dispatchEvent(new Event('change'))",
          f"{count}.startsWith('4951 to 5000 ')" if args.records >= 10_000 else "true")

    # Search with the keyboard; the words are marked.
    browser.run("document.activeElement.blur()")
    browser.press("/")
    assert browser.run("document.activeElement.id") == "search"
    begin = time.monotonic()
    browser.send("Input.insertText", text="bl-00077")
    browser.wait("document.querySelectorAll('#records tbody tr').length === 1", 20)
    steps["search"] = time.monotonic() - begin
    assert browser.run(ids) == ["bl-00077"]
    assert browser.run("document.querySelector('.who mark').textContent") == "bl-00077"
    browser.press("Escape")
    browser.press("j")
    browser.press("Enter")
    browser.wait("document.getElementById('detail').open")
    assert browser.run("document.getElementById('d-title').textContent") == "bl-00077"
    assert "ABCDR2017000077" in browser.run("document.querySelector('.d-text pre').textContent")
    link = browser.run("document.querySelector('.d-pages a').getAttribute('href')")
    assert link == "../pages/ABCDR2017000077_C%20_2_.png", link
    picture("record")
    browser.press("Escape")
    browser.wait("!document.getElementById('detail').open")

    # What a record holds stays text.
    browser.run("const s = document.getElementById('search'); s.value = 'onerror'; s.dispatchEvent(new Event('input'))")
    browser.wait("document.querySelectorAll('#records tbody tr').length === 1")
    assert browser.run("document.querySelector('.who button').click(), document.querySelectorAll('#detail img[src=x], #records img[src=x]').length") == 0
    browser.press("Escape")
    browser.run("const e = document.getElementById('search'); e.value = ''; e.dispatchEvent(new Event('input'))")
    browser.wait(f"{count} === '1 to 50 of {total} records'")

    # Filter by a rule, then by a bar of a histogram; the chip takes it back.
    browser.run("const r = document.getElementById('rule'); r.value = [...r.options].find(o => o.textContent.startsWith('image-missing')).value; r.dispatchEvent(new Event('change'))")
    missing = args.records // 997
    assert browser.run(count).startswith(f"1 to {missing} of {missing} records, out of "), browser.run(count)
    browser.run("const q = document.getElementById('rule'); q.value = ''; q.dispatchEvent(new Event('change'))")
    timed("filter", "document.querySelectorAll('.chart')[0].querySelectorAll('g')[0].dispatchEvent(new MouseEvent('click'))",
          "document.querySelectorAll('.chip').length === 1")
    assert "out of" in browser.run(count)
    picture("filtered")
    browser.run("document.querySelector('.chip').click()")
    assert browser.run(count).endswith(f"of {total} records"), browser.run(count)

    # Dark.
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.wait("document.documentElement.dataset.theme === 'dark'")
    browser.run("scrollTo(0, 0)")
    picture("dark")
    browser.run("document.getElementById('h-records').scrollIntoView()")
    browser.run("document.querySelectorAll('.who button')[1].click()")
    picture("dark-record")

    print(", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in steps.items()))
    assert all(seconds < 3 for seconds in steps.values()), steps

    asked = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    foreign = [url[:100] for url in asked if not url.startswith("data:") and url != page.as_uri()]
    assert not foreign, f"the page asked for {foreign}"
    wrong = [e["params"] for e in browser.events if e.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")
             or (e.get("method") == "Runtime.consoleAPICalled" and e["params"]["type"] in ("error", "warning", "assert"))]
    assert not wrong, json.dumps(wrong)[:2000]
    print("no console message, no request")


if __name__ == "__main__":
    main()
