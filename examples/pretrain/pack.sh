#!/usr/bin/env bash
# bash pack.sh READY ARCHIVE: what prepare.py made (and READY/measured, where it is) in one small file for travel.
set -euo pipefail
ready=$1 archive=$2
parts=(data start held_out manifest.json)
if [ -e "$ready/measured" ]; then parts+=(measured); fi
tar cf - -C "$ready" --sort=name --owner=0 --group=0 --mtime=@0 "${parts[@]}" | xz -9e -T1 --lzma2=preset=9e,dict=256MiB >"$archive"
ls -l "$archive"
