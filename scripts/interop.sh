#!/usr/bin/env bash
# Runs the pages docs/interop/NAME.md with the real packages, each in an environment of its own over that of the tests.
#   bash scripts/interop.sh                      # all of them
#   bash scripts/interop.sh fastai mmpretrain
set -euo pipefail
source "$(dirname "$0")/environment.sh"

base="$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
[ $# -gt 0 ] || set -- lightning hf_trainer fastai mmpretrain
for name in "$@"; do
    case "$name" in
        lightning) packages=(lightning) ;;
        hf_trainer) packages=(transformers accelerate) ;;
        fastai) packages=(fastai) ;;
        mmpretrain) packages=(mmpretrain mmengine "setuptools<81" wheel) ;;
        *) echo "error: no page ${name@Q}; allowed: lightning, hf_trainer, fastai, mmpretrain" >&2; exit 2 ;;
    esac
    "$PYTHON" -m venv "$place/$name"
    python="$place/$name/bin/python"
    echo "$base" > "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
    "$python" -m pip install --quiet --disable-pip-version-check "${packages[@]}"
    if [ "$name" = mmpretrain ]; then # whose sources are built with the setuptools of above
        "$python" -m pip install --quiet --disable-pip-version-check --no-build-isolation "mmcv-lite<2.2"
    fi
    echo "$name: $("$python" -m pip list 2>/dev/null | awk -v OFS=' ' '/^(lightning|transformers|accelerate|fastai|mmpretrain|mmcv-lite|torch) /{printf "%s %s  ", $1, $2}')"
    "$python" -m pytest -q -rs -k "python and interop and $name" tests/docs
done
