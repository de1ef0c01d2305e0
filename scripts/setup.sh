# Sourced by the other scripts: makes .venv beside them and installs this project with its extras.
# Usage: setup "run,data,report"  -- then `$python` is the environment's interpreter.
# PYTHON=python3.12 chooses the interpreter that the environment is made with.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
python="$PWD/.venv/bin/python"

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
            2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "No Python 3.11, 3.12 or 3.13 found; set PYTHON to one." >&2
    return 1
}

setup() {
    local extras=$1 stamp want
    stamp=".venv/installed-${extras//,/-}"
    want=$(cat pyproject.toml constraints.txt | cksum)
    if [ -x "$python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
        return
    fi
    echo "Installing into .venv (once; a few minutes)" >&2
    if ! [ -x "$python" ]; then
        "$(find_python)" -m venv .venv || exit 1
    fi
    "$python" -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable ".[$extras]" || exit 1
    echo "$want" >"$stamp"
}
