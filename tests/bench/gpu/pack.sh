#!/usr/bin/env bash
# Packs what the GPU machine lacks into gpu-carry/ (git ignores it): the program, and bitsandbytes with the variants of
# its library that the machine's PyTorch may ask for.
#
#   cargo build --release --features cuda -p vlft
#   tests/bench/gpu/pack.sh target/release/vlft 128,130    # CUDA 12.8 and 13.0; `torch.version.cuda` there says which
#   tests/bench/gpu/pack.sh target/release/vlft 128 --also "nvidia-cuda-cccl-cu12==12.8.*"   # headers that it lacks
#   tests/bench/gpu/pack.sh target/release/vlft            # without bitsandbytes, where the machine has it
set -euo pipefail
cd "$(dirname "$0")/../../.."
program=${1:-target/release/vlft}
mkdir -p gpu-carry
python3 - "$program" gpu-carry/vlft.xz <<'PY'
import lzma, sys
data = open(sys.argv[1], "rb").read()
packed = lzma.compress(data, preset=6)
open(sys.argv[2], "wb").write(packed)
print(f"{sys.argv[2]}: {len(packed) / 2**20:.1f} MiB of {len(data) / 2**20:.1f}")
PY
if [ -n "${2:-}" ]; then
    shift
    python3 tests/bench/gpu/repack_bitsandbytes.py "$1" gpu-carry/site.tar.xz "${@:2}"
fi
size=$(du -sm gpu-carry | cut -f1)
echo "gpu-carry: $size MiB together"
[ "$size" -le 64 ] || { echo "more than the 64 MiB that can be carried" >&2; exit 1; }
