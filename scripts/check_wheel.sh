#!/usr/bin/env bash
# Builds the sdist and from it the wheel, installs this into an environment of its own and uses it from an empty folder,
# as after `pip install`. Nothing is downloaded: the other packages are those of .venv (or of VENV=DIR). A minute on two
# cores.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

PYTHON="$(realpath -s "$PYTHON")"
place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
unset PYTHONPATH

fail() { echo "error: $*" >&2; exit 1; }

# A copy: setuptools builds in the folder of the project and takes along what an earlier build left there.
mkdir "$place/project" "$place/empty"
git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -cT - 2>/dev/null |
    tar -xC "$place/project"
(cd "$place/project" && "$PYTHON" -c "import setuptools.build_meta as b; b.build_sdist('$place')" >/dev/null 2>&1) ||
    fail "the sdist cannot be built"
tar -xzf "$place"/gcp_suite-*.tar.gz -C "$place"
for file in LICENSE CHANGELOG.md configs/schema.json configs/digits/base.yaml gcp/kernels/heads.cu gcp/py.typed; do
    [ -f "$(echo "$place"/gcp_suite-*/)$file" ] || fail "$file is missing in the sdist"
done
"$PYTHON" -m pip wheel "$place"/gcp_suite-*/ --no-deps --no-build-isolation --no-index -q -w "$place" ||
    fail "the wheel cannot be built"
if "$PYTHON" -m twine --version >/dev/null 2>&1; then
    "$PYTHON" -m twine check --strict "$place"/gcp_suite-*.whl "$place"/gcp_suite-*.tar.gz || fail "twine finds faults"
else
    echo "  twine is not installed: the metadata for the index is not checked (pip install '.[release]')"
fi

"$PYTHON" -m venv --without-pip "$place/venv"
site() { "$1" -c "import sysconfig; print(sysconfig.get_paths()['purelib'])"; }
echo "import site; site.addsitedir('$(site "$PYTHON")')" > "$(site "$place/venv/bin/python")/others.pth"
"$place/venv/bin/python" -m pip install --no-deps --no-index --force-reinstall -q --disable-pip-version-check \
    "$place"/gcp_suite-*.whl || fail "the wheel cannot be installed"
export PATH="$place/venv/bin:$PATH"
cd "$place/empty"

python - <<'CODE' || fail "the installed package is not whole"
import sys, pathlib, gcp
home = pathlib.Path(gcp.__file__).parent
assert home.is_relative_to(sys.prefix), f"gcp comes from {home}, not from the wheel"
for name in ("py.typed", "kernels/heads.cu", "recipes/digits/base.yaml", "recipes/schema.json"):
    assert (home / name).is_file(), f"{name} is missing"
CODE

# says TEXT COMMAND...: the command ends well and prints TEXT
says() {
    local text="$1" out
    shift
    echo "  $*"
    out="$("$@" 2>&1)" || fail "$* ended with code $?:"$'\n'"$out"
    [[ "$out" == *"$text"* ]] || fail "$* does not say ${text@Q}:"$'\n'"$out"
}

# refuses TEXT COMMAND...: the command ends with code 2 and one message with TEXT in it
refuses() {
    local text="$1" out code=0
    shift
    echo "  $*"
    out="$("$@" 2>&1)" || code=$?
    [ "$code" = 2 ] || fail "$* ended with code $code, not 2:"$'\n'"$out"
    [[ "$out" == *"$text"* && "$out" != *Traceback* ]] || fail "$* does not say ${text@Q}:"$'\n'"$out"
}

says "gcp COMMAND" gcp --help
says "gcp COMMAND" python -m gcp --help
says "gcp 0." gcp --version
for command in $(gcp --help | sed -n 's/^  \([a-z-]*\)  .*/\1/p' | grep -v gcp); do
    says "gcp $command" gcp "$command" --help
done
says "gcp-train --config" gcp-train --help
says "digits/resnet " gcp list recipes
refuses "Did you mean 'train'?" gcp trian
refuses "did you mean 'digits/resnet'" gcp train --config digits/resnt
refuses "Did you mean 'digits-heads-few'?" python -m gcp ablate --study digits-heads-fw
refuses "gcp train --config digits/resnet" gcp train
refuses "gcp-evaluate --checkpoint" gcp-evaluate

small="model.backbone=resnet8_cifar head.dim=16 data.per_class=20"
says "final weights" gcp train --config digits/resnet train.epochs=1 run.name=run
says "top-1" gcp evaluate --checkpoint run
says "predict" gcp predict runs/run "$(python -c "import matplotlib; print(matplotlib.get_data_path())")/images"
[ -s predictions.csv ] || fail "predictions.csv is missing"
# shellcheck disable=SC2086 (several settings)
says "report.html" gcp ablate --study digits-heads-few --heads average --seeds 1 train.epochs=2 $small

# Images of one's own, in folders by class.
python - <<'CODE'
from pathlib import Path
from PIL import Image
for number, name in enumerate(("dark", "light")):
    folder = Path("photos", name)
    folder.mkdir(parents=True)
    for i in range(10):
        Image.new("RGB", (40, 32), (120 * number + 5 * i, 100, 90)).save(folder / f"{i}.jpg")
CODE
own="data.name=folder data.root=photos data.in_chans=3 data.image_size=32 train.batch_size=4"
# shellcheck disable=SC2086 (several settings)
says "final weights" gcp train --config digits/resnet $own model.backbone=resnet8_cifar head.dim=16 train.epochs=1 \
    run.name=own
refuses "Did you mean 'photos'?" gcp train --config finetune data.root=photo
says "agrees" gcp export own own.onnx
says "own-params-0.5/best.pt" gcp compress own --params 0.5 --images 8 --repeats 1
says "top-1" gcp evaluate own-params-0.5
python -c "import gcp; print(gcp.load('runs/run'))" >/dev/null || fail "gcp.load"
echo "the wheel works"
