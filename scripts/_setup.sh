# Sourced by the scripts beside it: `ready EXTRA` leaves a virtual environment in $VENV that holds this package
# with that extra, installed once for each content of pyproject.toml and constraints.txt.
#
#   PYTHON   the interpreter to start from (default: the first of python3, python3.11 ... that is 3.10 to 3.13)
#   VENV     where the environment goes (default: .venv in this repository)

cd "$(dirname "$0")/.."
VENV=${VENV:-.venv}

die() {
    printf '%s: %s\n' "$(basename "$0")" "$1" >&2
    exit 2
}

supported() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        command -v "$PYTHON" >/dev/null 2>&1 || die "PYTHON=$PYTHON is not a program; name a Python 3.10 to 3.13"
        supported "$PYTHON" || die "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1); masklet needs Python 3.10 to 3.13"
        return
    fi
    for PYTHON in python3 python3.11 python3.12 python3.13 python3.10 python; do
        if supported "$PYTHON"; then return; fi
    done
    die "no Python 3.10 to 3.13 was found; install one, or name it: PYTHON=/path/to/python3.12 $0"
}

make_environment() {
    find_python
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$PYTHON cannot make virtual environments; install its venv module (Debian and Ubuntu: python3-venv)"
    printf 'making %s with %s\n' "$VENV" "$("$PYTHON" --version 2>&1)"
    "$PYTHON" -m venv "$VENV" || die "$VENV could not be made; remove what is left of it and try again"
}

ready() {
    bin=$VENV/bin
    [ -d "$VENV/Scripts" ] && bin=$VENV/Scripts
    if ! [ -x "$bin/python" ] && ! [ -x "$bin/python.exe" ]; then
        make_environment
        [ -d "$VENV/Scripts" ] && bin=$VENV/Scripts
    fi
    supported "$bin/python" || die "$VENV is $("$bin/python" --version 2>&1); remove it, or set VENV to another folder"
    stamp=$VENV/masklet-$1.stamp
    key=$("$bin/python" -c 'import hashlib, pathlib, sys
data = b"".join(pathlib.Path(name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
print(hashlib.sha256(data + sys.prefix.encode() + pathlib.Path.cwd().as_posix().encode()).hexdigest())')
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ]; then return; fi
    printf 'installing masklet with its extra %s into %s (once; torch is large: a few minutes)\n' "$1" "$VENV"
    "$bin/python" -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[$1]" ||
        die "the installation failed; pip says why above"
    printf '%s\n' "$key" >"$stamp"
}
