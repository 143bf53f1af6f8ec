#!/usr/bin/env bash
# Runs every chain of nnunet-uhf once on a graphics card, in some eight minutes; prints a table; status 0 or 1.
#   benchmarks/cuda_check.sh [OUT]            with a card; OUT is a folder for the work, a temporary one by default
#   benchmarks/cuda_check.sh OUT -c 2d            those of one configuration; the other's may run beside it, in another folder
#   benchmarks/cuda_check.sh --dry-run [OUT]  the same on the CPU with next to no training, to see that it runs
# PYTHON names the interpreter. On a machine without network: install the wheels of nnunet-uhf and its dependencies first, or put them on PYTHONPATH.
set -euo pipefail
dry=(); if [ "${1:-}" = --dry-run ]; then dry=(--dry-run); shift; fi
out=${1:-$(mktemp -d)}; shift || true
exec "${PYTHON:-python3}" "$(dirname "$(realpath "$0")")/cuda_check.py" --out "$out" "${dry[@]}" "$@"
