#!/usr/bin/env python3
"""bitsandbytes without the variants of its library that nobody here loads: Python and `libbitsandbytes_cudaNNN.so`
(and the CPU's, which it wants at import), as a tar that is unpacked beside what is installed.

    repack_bitsandbytes.py 128,130 site.tar.xz [--wheel bitsandbytes-*.whl] [--also "nvidia-cuda-cccl-cu12==12.8.*"]

`--also` takes other wheels along as they are: PyTorch brings NVRTC and the headers of the runtime, not always those of CCCL.
"""

import argparse
import io
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile


def download(name, folder):
    """The wheel of a package, as pip would install it here."""
    before = set(pathlib.Path(folder).glob("*.whl"))
    subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", folder, name],
                   check=True, stdout=subprocess.DEVNULL)
    return next(iter(set(pathlib.Path(folder).glob("*.whl")) - before))


def add(tar, archive, entry):
    info = tarfile.TarInfo(entry.filename)
    info.size, info.mode = entry.file_size, 0o644
    tar.addfile(info, io.BytesIO(archive.read(entry)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cuda", help="such as 128 for CUDA 12.8; several with commas")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--wheel", type=pathlib.Path, help="instead of asking pip for it")
    parser.add_argument("--version", default="", help="such as ==0.50.2")
    parser.add_argument("--also", action="append", default=[], help="another wheel, as pip names it; may be repeated")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = args.wheel
        if wheel is None:
            wheel = download("bitsandbytes" + args.version, folder)
        keep = {"libbitsandbytes_cpu.so"} | {f"libbitsandbytes_cuda{version}.so" for version in args.cuda.split(",")}
        kept, left_out = set(), []
        with zipfile.ZipFile(wheel) as archive, tarfile.open(args.out, "w:xz", preset=6) as tar:
            for entry in archive.infolist():
                name = entry.filename.rsplit("/", 1)[-1]
                if re.fullmatch(r"libbitsandbytes_.*\.(so|dll|dylib)", name):
                    if name not in keep:
                        left_out.append(name)
                        continue
                    kept.add(name)
                if entry.is_dir():
                    continue
                add(tar, archive, entry)
            for name in args.also:
                with zipfile.ZipFile(download(name, folder)) as other:
                    for entry in other.infolist():
                        # Without it the folder joins the one of the same name that is installed, instead of hiding it.
                        if not entry.is_dir() and entry.filename != "nvidia/__init__.py":
                            add(tar, other, entry)
    if kept != keep:
        args.out.unlink()
        sys.exit(f"no {', '.join(sorted(keep - kept))} in {wheel.name}; there are {', '.join(sorted(left_out))}")
    print(f"{args.out}: {args.out.stat().st_size / 2**20:.1f} MiB of {wheel.name}; kept {', '.join(sorted(kept))}")


if __name__ == "__main__":
    main()
