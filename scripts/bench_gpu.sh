#!/usr/bin/env bash
# The rows of docs/performance.md for a CUDA GPU, the most telling first; each call has its time, 10 minutes in all.
# Weights of llia-sd15 are random: speed does not depend on their values.
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
OUT=${OUT:-output}
mkdir -p "$OUT"

bench() { # name, seconds allowed, options
    local name=$1 limit=$2
    shift 2
    timeout "$limit" "$PYTHON" -m llia_core bench --device cuda --json "$OUT/gpu_$name.json" "$@" ||
        echo "bench $name ended with status $? (124: out of time)"
}

bench int8 150 --model sd15 --size 384 512 --steps 1 2 4 --precision int8 --engine serial pipeline --seconds 3
bench bf16 100 --model sd15 --size 384 512 --steps 1 2 4 --precision bfloat16 --engine serial pipeline --seconds 3
bench ddim 60 --model sd15 --size 384 512 --steps 10 --precision bfloat16 --engine serial --seconds 2
bench compiled 200 --model sd15 --size 384 512 --steps 1 2 --precision bfloat16 --engine compiled --seconds 3
bench tiny 60 --size 256 512 --steps 1 2 --precision float32 --engine serial pipeline --seconds 4
