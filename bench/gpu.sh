#!/bin/sh
# The training benchmark on a GPU: random weights of a 1 B geometry (3 B with CASES=gpu-3b-lora), rounds in turns,
# MFU against the matrix peak measured in the same run. Needs no network: each peer must be importable in PYTHON's own
# environment and is otherwise left out and named. Liger joins where it can be imported.
#
#     bench/gpu.sh                        # results in bench/results
#     OUT=/tmp/out CASES="gpu-1b-lora" DATA=/data bench/gpu.sh
#     DEVICE=cpu CASES="dry-lora dry-tickets" bench/gpu.sh   # a dry run without a GPU
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
DEVICE=${DEVICE:-cuda}
OUT=${OUT:-bench/results}
CASES=${CASES:-gpu-1b-lora gpu-1b-full}
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"

has() { "$PYTHON" -c "import importlib.util as u, sys; sys.exit(u.find_spec('$1') is None)"; }
has torch && has transformers || { echo "PYTHON=$PYTHON has no torch and transformers." >&2; exit 2; }

SYSTEMS="trainer"
[ "$DEVICE" = cuda ] && SYSTEMS="trainer-autocast"
has peft || CASES=$(echo "$CASES" | tr ' ' '\n' | grep -v lora | tr '\n' ' ')
[ -n "$(echo "$CASES" | tr -d ' ')" ] || { echo "The cases with LoRA need peft, which is not installed." >&2; exit 2; }
if has trl && has datasets; then
    SYSTEMS="$SYSTEMS trl-default trl-best"
    has liger_kernel && SYSTEMS="$SYSTEMS trl-liger"
fi
echo "cases: $CASES; peers: $SYSTEMS" >&2

# shellcheck disable=SC2086
exec "$PYTHON" bench/train.py --here --device "$DEVICE" --cases $CASES --systems $SYSTEMS ${DATA:+--data "$DATA"} \
    --rounds "${ROUNDS:-8}" --steps "${STEPS:-4}" --warm-up "${WARM_UP:-4}" --seeds "${SEEDS:-1}" --loss-steps 16 \
    --memory-steps 4 --minutes "${MINUTES:-2}" --out "$OUT" --name "${NAME:-gpu}"
