#!/usr/bin/env bash
# bash pack.sh READY ARCHIVE: what prepare.py made (and READY/measured, where it is) in one small file for travel.
set -euo pipefail
cd "$1"
parts=(data start held_out manifest.json)
if [ -e measured ]; then parts+=(measured); fi
tar cf - --sort=name --owner=0 --group=0 --mtime=@0 "${parts[@]}" | xz -9e -T1 --lzma2=preset=9e,dict=256MiB >"$2"
ls -l "$2"
