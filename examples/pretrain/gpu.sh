#!/usr/bin/env bash
# Trains and measures the embedded base on a machine with a GPU, in commands of a few minutes each:
#
#   bash examples/pretrain/gpu.sh probe   OUT ARCHIVE   40 steps: how long is one? (then set STEPS if need be)
#   bash examples/pretrain/gpu.sh train   OUT ARCHIVE   trains both parts; stopped after SECONDS, the same command goes on
#   bash examples/pretrain/gpu.sh measure OUT ARCHIVE   bits per byte, samples; copies weights, tokenizer and numbers
#   bash examples/pretrain/gpu.sh transfer OUT ARCHIVE  fine-tuning from it and from scratch (needs BANKING77=folder)
#
# ARCHIVE is what `pack.sh` made; OUT receives files of at most 16 MiB. Nothing is installed: SITE (default /tmp/site)
# may hold what is missing. Settings by environment: WORK, STEPS and LAST_STEPS (of the two parts), SECONDS_A_COMMAND,
# MORE (further settings of the run).
set -euo pipefail
part=$1 out=$2 archive=$3
here=$(cd "$(dirname "$0")" && pwd)
work=${WORK:-/tmp/finesmith-pretrain} seconds=${SECONDS_A_COMMAND:-510} steps=${STEPS:-} last=${LAST_STEPS:-}
export PYTHONPATH="$here/../../src:${SITE:-/tmp/site}${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export TOKENIZERS_PARALLELISM=true
ready=$work/ready run=$work/run decay=$work/decay
mkdir -p "$work" "$out"

if [ ! -e "$ready/manifest.json" ]; then
    mkdir -p "$ready.part"
    python3 -m tarfile -e "$archive" "$ready.part"
    mv "$ready.part" "$ready"
fi

# shellcheck disable=SC2206
wide=("data.path=$ready/data" train.micro_batch_tokens=65536 ${MORE:-})
tune=(python3 -m finesmith tune "$here/recipe.yaml" "model.name=$ready/start" "${wide[@]}")
then=(python3 -m finesmith tune "$here/decay.yaml" "model.name=$run/model" "${wide[@]}")

progress() { # RUN
    python3 - "$1/steps.jsonl" <<'PY'
import json, statistics, sys
steps = [json.loads(line) for line in open(sys.argv[1])]
late = steps[len(steps) // 4:]
seconds = statistics.median(step["seconds"] for step in late)
tokens = statistics.mean(step["tokens"] for step in late)
print(f"{len(steps)} steps, loss {steps[-1]['loss']:.3f}, {1000 * seconds:.0f} ms and {tokens:.0f} tokens a step, "
      f"{tokens / seconds:.0f} tokens/s; validation: "
      + ", ".join(f"{step['step']}: {step['validation']['log_probability']:.3f}" for step in steps if "validation" in step))
PY
}

bounded() { # stops with Ctrl-C, after which everything is saved
    local code=0
    timeout --signal=INT --kill-after=40 "$seconds" "$@" || code=$?
    if [ "$code" != 0 ] && [ "$code" != 124 ] && [ "$code" != 130 ]; then return "$code"; fi
}

part_of() { # RUN COMMAND...: begins it, goes on with it, or leaves it if it is finished
    local folder=$1
    shift
    if [ -e "$folder/evidence.json" ]; then
        return 0
    elif [ -e "$folder/checkpoint" ]; then
        bounded python3 -m finesmith resume "$folder"
    else
        rm -rf "$folder"
        bounded "$@" "out=$folder"
    fi
}

case $part in
probe)
    rm -rf "$work/probe"
    "${tune[@]}" "out=$work/probe" train.max_steps=40 train.evaluations=1
    progress "$work/probe"
    ;;
train)
    began=$SECONDS
    part_of "$run" "${tune[@]}" ${steps:+train.max_steps=$steps}
    if [ -e "$run/evidence.json" ]; then
        seconds=$((seconds - SECONDS + began))
        if [ "$seconds" -gt 30 ]; then part_of "$decay" "${then[@]}" ${last:+train.max_steps=$last}; fi
    fi
    for each in "$run" "$decay"; do
        if [ -e "$each/steps.jsonl" ]; then progress "$each"; fi
    done
    if [ -e "$decay/evidence.json" ]; then echo "training is finished"; else echo "not finished: the same command goes on"; fi
    ;;
measure)
    mkdir -p "$work/measured"
    if [ ! -e "$work/measured/quality.json" ] && [ -e "$ready/measured/quality.json" ]; then
        cp "$ready/measured/quality.json" "$work/measured/" # the 5-gram model, made beforehand
    fi
    python3 "$here/measure.py" "$decay/model" "$ready" "$work/measured"
    python3 "$here/card.py" "$ready" "$run" "$decay" "$work/measured" "$out/README.md" --force
    cp "$decay"/model/{model.safetensors,config.json,generation_config.json,tokenizer.json,tokenizer_config.json} "$out/"
    chmod 644 "$out"/*
    tar czf "$out/numbers.tar.gz" -C "$work" measured {run,decay}/{steps.jsonl,recipe.yaml,manifest.json,evidence.json}
    ls -l "$out"
    ;;
transfer)
    python3 "$here/transfer.py" "$decay/model" "$work/measured" --banking77 "$BANKING77"
    cp "$work/measured/transfer.json" "$out/"
    python3 "$here/card.py" "$ready" "$run" "$decay" "$work/measured" "$out/README.md" --force
    ;;
*)
    echo "unknown part '$part': probe, train, measure or transfer" >&2
    exit 2
    ;;
esac
