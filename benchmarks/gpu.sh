#!/usr/bin/env bash
# Checks and times the CUDA engine: its tests, then an epoch of each workload against plain steps and the idiomatic loop.
# Takes a few minutes on one GPU. Needs MNIST under CNNTRAIN_DATA_DIR.
set -euo pipefail
cd "$(dirname "$0")/.."

timeout 120 python -m pytest -q tests/training/test_engine.py tests/app/test_turns.py
timeout 360 python -m benchmarks.gpu "$@"
