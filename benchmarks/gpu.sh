#!/usr/bin/env bash
# Checks and times all that a GPU does: its tests, an epoch of each workload against plain steps and the idiomatic loop,
# and the time to an accuracy. Takes at most 8 minutes. Needs a build of torch with CUDA and `pip install -e '.[test]'`;
# with lightning and keras installed they are timed too. Needs MNIST under CNNTRAIN_DATA_DIR, and CIFAR-10 there or as a
# folder of images that CNNTRAIN_CIFAR10_FOLDER names; without either it is downloaded.
set -euo pipefail
cd "$(dirname "$0")/.."

python3 -c 'import cnntrain.app.train, hypothesis, pytest, pytest_timeout, scipy, torch' || {
    echo "benchmarks/gpu.sh needs what the tests need: pip install -e '.[test]'" >&2
    exit 1
}
# Warnings are shown, for torch may be another than that of other checks. What a test lacks or finds wrong is in the
# exit status, and keeps neither other tests nor the timings from being run.
status=0
tests=$(grep -rl 'mark.gpu' --include 'test_*.py' tests)
# shellcheck disable=SC2086
CNNTRAIN_TEST_GPU=1 timeout 150 python3 -m pytest -q -m gpu -W default $tests || status=$?
timeout $((475 - SECONDS)) python3 -m benchmarks.gpu || status=$?
exit "$status"
