#!/bin/sh
# Makes or refreshes the virtual environment; called by `make setup`.
#
#   .ci/make_venv.sh VENV        settings by environment: PYTHON, PIP_ARGS, TORCH_INDEX
#
# - Up to date (stamp = checksum of requirements.txt, pyproject.toml and the settings): returns at once.
# - Requirements changed: pip updates the environment in place.
# - A set-up was interrupted (its marker is still there), or the interpreter is gone: made anew,
#   because pip takes a half-unpacked package for an installed one.
set -eu

venv=$1
stamp=$venv/.stamp            # written last
marker=$venv/.setup-running   # holds the process id of the set-up at work
python=$venv/bin/python

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

wanted=$( { cat requirements.txt pyproject.toml; echo "${PIP_ARGS:-} ${TORCH_INDEX:-}"; } | cksum )

usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then echo "$PYTHON"; return; fi
    # 3.11 and later first: 3.10 gets older numpy and pandas (see requirements.txt).
    for candidate in python3.11 python3.12 python3.13 python3.14 python3 python3.10 python; do
        if usable "$candidate"; then echo "$candidate"; return; fi
    done
    fail "no Python 3.10 or newer found (python3 is: $(python3 --version 2>&1 || true)). Install one, or name it: make setup PYTHON=/path/to/python3"
}

version() { "$1" -c 'import sys; print(sys.version_info[:2])'; }

if [ -n "${PYTHON:-}" ] && ! usable "$PYTHON"; then
    fail "PYTHON=$PYTHON is not a Python 3.10 or newer"
fi
if [ -n "${PYTHON:-}" ] && usable "$python" && [ "$(version "$python")" != "$(version "$PYTHON")" ]; then
    say "$venv was made with another Python than $PYTHON; making it anew"
    rm -rf "$venv"
fi
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && usable "$python"; then
    exit 0
fi

if [ -f "$marker" ]; then
    other=$(cat "$marker")
    if [ -n "$other" ] && kill -0 "$other" 2>/dev/null; then
        fail "another set-up (process $other) is at work in $venv; wait for it to end"
    fi
    say "the last set-up was interrupted; making $venv anew"
    rm -rf "$venv"
elif [ -d "$venv" ] && ! usable "$python"; then
    say "$venv has no working Python; making it anew"
    rm -rf "$venv"
fi

started=$(date +%s)
if [ ! -d "$venv" ]; then
    base=$(find_python)
    "$base" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$base lacks the venv module (Debian and Ubuntu: apt install python3-venv)"
    say "making $venv with $("$base" --version) (about 5 GB, one to two minutes; see README for the small CPU build)"
    mkdir -p "$venv"
    echo $$ >"$marker"
    "$base" -m venv "$venv"
else
    say "updating $venv (requirements or settings changed)"
    echo $$ >"$marker"
fi
rm -f "$stamp"

# --no-compile: byte code is made at first import, for the few modules that are used.
# Somebody at a terminal sees pip's progress; a log gets errors only.
quiet=-qq
if [ -t 1 ]; then quiet=; fi
pip() { "$python" -m pip install --no-compile --disable-pip-version-check $quiet "$@"; }
# A recent pip unpacks this set of wheels in half the time (measured: 87 s with pip 23.2, 50 to 64 s with 26.3).
# shellcheck disable=SC2086
pip ${PIP_ARGS:-} 'pip>=25.1' || say "keeping the pip that came with Python"
if [ -n "${TORCH_INDEX:-}" ]; then   # both from one index: a CPU torch with a CUDA torchaudio cannot be imported
    grep -E '^torch(audio)?==' requirements.txt | sed 's/ *#.*//' >"$venv/torch.txt"
    # shellcheck disable=SC2086
    pip --index-url "$TORCH_INDEX" ${PIP_ARGS:-} -r "$venv/torch.txt"
fi
# shellcheck disable=SC2086
pip ${PIP_ARGS:-} -r requirements.txt
# shellcheck disable=SC2086
pip ${PIP_ARGS:-} --no-deps --no-build-isolation -e . 2>"$venv/editable.log" || fail "$(cat "$venv/editable.log")"

echo "$wanted" >"$stamp"
rm -f "$marker"
say "$venv is ready after $(( $(date +%s) - started )) s"
