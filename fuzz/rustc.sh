#!/usr/bin/env bash
# Stands between cargo and rustc: our own crates, the parquet library and the targets are compiled with
# the coverage that libFuzzer follows. These are stable flags; no nightly and no sanitizer is needed for safe code.
rustc=$1; shift
case " $* " in
    *" --crate-name vlft_"*|*" --crate-name parquet "*|*" targets/"*)
        exec "$rustc" "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
            -Cllvm-args=-sanitizer-coverage-trace-compares ;;
    *) exec "$rustc" "$@" ;;
esac
