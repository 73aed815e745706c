"""Peers of `vlft rasterize`, each in its usual way: LIST of PDFs, the first PAGES of each to PNG at DPI.

    _render_peers.py pypdfium2|pypdfium2-pool|pymupdf|pdftoppm LIST OUT DPI PAGES

Prints the number of pages written.
"""

import multiprocessing
import pathlib
import subprocess
import sys


def pypdfium2(task) -> int:
    import pypdfium2

    number, path, out, dpi, pages = task
    document = pypdfium2.PdfDocument(path)
    written = 0
    for index in range(min(pages, len(document))):
        image = document[index].render(scale=dpi / 72).to_pil()
        image.save(f"{out}/{number}-{index}.png")
        written += 1
    document.close()
    return written


def pymupdf(task) -> int:
    import pymupdf

    number, path, out, dpi, pages = task
    document = pymupdf.open(path)
    written = 0
    for index in range(min(pages, len(document))):
        document[index].get_pixmap(dpi=dpi).save(f"{out}/{number}-{index}.png")
        written += 1
    document.close()
    return written


def pdftoppm(task) -> int:
    number, path, out, dpi, pages = task
    command = ["pdftoppm", "-png", "-r", dpi, "-l", pages, path, f"{out}/{number}"]
    # It fails on a file or two of the list: what it wrote counts.
    subprocess.run([str(part) for part in command], stderr=subprocess.DEVNULL)
    return len(list(pathlib.Path(out).glob(f"{number}-*.png")))


def main():
    which, listed, out, dpi, pages = sys.argv[1:]
    paths = pathlib.Path(listed).read_text().splitlines()
    tasks = [(n, path, out, int(dpi), int(pages)) for n, path in enumerate(paths)]
    if which == "pypdfium2-pool":
        with multiprocessing.Pool(2) as pool:
            written = sum(pool.imap_unordered(pypdfium2, tasks))
    else:
        written = sum(map(globals()[which], tasks))
    print(written)


if __name__ == "__main__":
    main()
