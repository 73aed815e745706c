#!/usr/bin/env bash
# The comparison on a GPU, one part per call: lora, qlora, parity, resume, start, packed, long, kernels, soak, goals.
#
#   tests/bench/gpu/pack.sh                        # here, once: what the GPU machine lacks, in gpu-carry/ (below 64 MiB)
#   tests/bench/gpu/run.sh lora                    # there, from the repository's root; OUT is where results go
#   tests/bench/gpu/run.sh all --device cpu        # anywhere: every line but the GPU's, with a toy
#
# The machine has PyTorch, transformers 5, peft, a driver; no Rust, no network. VLFT names the program where it is not
# carried, PYTHON the interpreter, WORK a folder for 25 GB that stays between calls, SITE what is added to Python's path.
set -euo pipefail
cd "$(dirname "$0")/../../.."
part=${1:?which part: lora, qlora, parity, resume, start, packed, long, kernels, soak, goals, all}
shift
OUT=${OUT:-gpu-out}
WORK=${WORK:-${TMPDIR:-/tmp}/vlft-gpu}
PYTHON=${PYTHON:-python3}
mkdir -p "$OUT" "$WORK"

if [ -z "${VLFT:-}" ]; then
    VLFT=$WORK/vlft
    # Unpacked again where another one was carried.
    if [ ! -x "$VLFT" ] || [ gpu-carry/vlft.xz -nt "$VLFT" ]; then
        "$PYTHON" -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), open(sys.argv[2], "wb"))' \
            gpu-carry/vlft.xz "$VLFT.partial"
        chmod +x "$VLFT.partial"
        mv "$VLFT.partial" "$VLFT"
    fi
fi
if [ -f gpu-carry/site.tar.xz ] && [ -z "${SITE:-}" ]; then
    SITE=$WORK/site
    if [ gpu-carry/site.tar.xz -nt "$SITE" ]; then
        rm -rf "$SITE"
        mkdir -p "$SITE"
        tar -xJf gpu-carry/site.tar.xz -C "$SITE" 2>/dev/null ||
            "$PYTHON" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2], filter="data")' gpu-carry/site.tar.xz "$SITE"
        touch "$SITE"
    fi
fi
export PYTHONPATH="${SITE:-}${SITE:+:}${PYTHONPATH:-}"
# Compiled kernels and what was tuned stay between the parts.
export XDG_CACHE_HOME="${XDG_CACHE_HOME:-$WORK/cache}"
exec "$PYTHON" tests/bench/gpu/parts.py "$part" --vlft "$VLFT" --work "$WORK" --out "$OUT" --python "$PYTHON" "$@"
