# Sourced by the other scripts: leaves $PYTHON pointing at an environment that has requirements.txt.
# VENV=DIR uses that environment as it is; otherwise .venv is made and kept up to date.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

if [ -n "${VENV:-}" ]; then
    PYTHON="$VENV/bin/python"
    [ -x "$PYTHON" ] || { echo "error: VENV=$VENV has no bin/python; unset VENV to make .venv here." >&2; exit 2; }
else
    PYTHON=.venv/bin/python
    stamp=.venv/requirements.installed
    if ! cmp -s requirements.txt "$stamp"; then
        base="${BASE_PYTHON:-python3}"
        "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
            echo "error: Python 3.10 or newer is needed; name one by BASE_PYTHON=/path/to/python3." >&2; exit 2; }
        echo "installing requirements.txt into .venv (torch is large: a few minutes)"
        [ -x "$PYTHON" ] || "$base" -m venv .venv || exit 1
        "$PYTHON" -m pip install --quiet --disable-pip-version-check -r requirements.txt || exit 1
        cp requirements.txt "$stamp"
    fi
fi
export PYTHON
