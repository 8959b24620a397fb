#!/usr/bin/env bash
# The loggers with the real packages of their services, offline, in an environment that is thrown away. Downloads about
# 350 MB (MLflow most of it); bash scripts/test.sh runs the test of wandb alone. Arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
"$PYTHON" -m venv "$place/venv"
site() { "$1" -c "import sysconfig; print(sysconfig.get_paths()['purelib'])"; }
echo "import site; site.addsitedir('$(site "$(realpath -s "$PYTHON")")')" > "$(site "$place/venv/bin/python")/others.pth"
"$place/venv/bin/python" -m pip install --quiet --disable-pip-version-check wandb mlflow trackio
"$place/venv/bin/python" -c "import mlflow, trackio, wandb
for package in (mlflow, trackio, wandb):  # all three are here, so no test below is skipped
    print(package.__name__, package.__version__)"
OMP_NUM_THREADS=1 "$place/venv/bin/python" -m pytest -q -p no:cacheprovider tests/loggers "$@"
