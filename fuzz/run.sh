#!/usr/bin/env bash
# run.sh MINUTES [TARGET..]: runs every fuzz target (or those named) for so many minutes each, at the
# lowest priority, side by side with JOBS=N. An input may take TIMEOUT seconds by the clock: give it more
# where others work too. Needs a C++ compiler; the Rust of rust-toolchain.toml does.
# What was found lies in fuzz/artifacts; the corpus in fuzz/corpus is kept for the next run.
set -euo pipefail
minutes=${1:?run.sh MINUTES [TARGET..]}; shift
cd "$(dirname "$0")"
targets=("$@"); [ $# -gt 0 ] || targets=(convert jsonl mapping parquet rows zip)
export RUSTC_WRAPPER="$PWD/rustc.sh"
cargo build --quiet
bin=${CARGO_TARGET_DIR:-target}/debug
python3 seeds.py corpus
mkdir -p artifacts
run() {
    nice -n 19 "$bin/$1" "corpus/$1" -max_total_time=$((minutes * 60)) -timeout="${TIMEOUT:-20}" -rss_limit_mb=2048 \
        -artifact_prefix="artifacts/$1-" -print_final_stats=1 -verbosity=0 >"artifacts/$1.log" 2>&1 \
        && status=quiet || status="FOUND SOMETHING, see fuzz/artifacts/$1.log"
    echo "$1: $(grep -o 'number_of_executed_units: *[0-9]*' "artifacts/$1.log" | grep -o '[0-9]*$') executions, $status"
}
export SEEDS=$PWD/corpus/parquet   # made by that target itself
export TMPDIR=${TMPDIR:-/dev/shm}
for target in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-1}" ]; do wait -n; done
    run "$target" &
done
wait
! ls artifacts/*-crash-* artifacts/*-timeout-* artifacts/*-oom-* 2>/dev/null
