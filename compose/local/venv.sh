#!/bin/sh
# venv.sh PYTHON STAMP
#
# Makes .venv with Sluice and everything it needs, in the versions of constraints.txt, and writes STAMP last:
# without it a virtual environment counts as half-made. Needs nothing but what a bare Debian has; with uv, whose
# cache links packages instead of unpacking them, it takes seconds where another checkout was set up before.
set -eu
python=$1
stamp=$2

say() { printf '%s\n' "$*" >&2; }

install() {
    if ! command -v apt-get >/dev/null; then
        say "Error: $1 is missing, and there is no apt-get to install it"
        exit 1
    fi
    say "Installing $1, to make the virtual environment"
    sudo=
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    $sudo apt-get -qq -o DPkg::Lock::Timeout=120 update
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 install -y \
        --no-install-recommends "$1" >/dev/null
}

# Each of these breaks one of the tools below or of the local stack (setuptools, venv, apt, supervisord), late
# and with a riddle for a message.
case $PWD in
*[\$%:\"\\]* | *" #"* | *" ;"*)
    say "Error: the project's folder must have no \$ % : \" or \\ in its path, and no # or ; after a space: $PWD"
    exit 1
    ;;
esac

command -v "$python" >/dev/null || install "$python"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    say "Error: Sluice needs Python 3.11 or newer, and $python is $("$python" --version); call make PYTHON=python3.11"
    exit 1
fi
"$python" -c 'import ensurepip, venv' 2>/dev/null || install "$(basename "$python")-venv"

if [ -e .local/run/supervisord.pid ] && [ -x .venv/bin/python ]; then
    say "The packages changed: stopping the stack that runs on the old ones"
    .venv/bin/python -m compose.local down || say "It did not stop; installing the new packages anyway"
fi

say "Making the virtual environment .venv from constraints.txt: usually half a minute to two"
rm -rf .venv
"$python" -m venv .venv
log=.venv/install.log

with_uv() {
    command -v uv >/dev/null || return 1
    uv pip install --quiet --python .venv/bin/python -c constraints.txt -e '.[dev]' && return
    say "uv could not do it (it does not read pip's settings); trying pip"
    return 1
}

how_far() {
    if grep -q '^Installing collected packages' $log; then
        echo "installing them"
    else
        echo "$(grep -c '^Collecting ' $log) of about $(grep -c == constraints.txt) packages fetched"
    fi
}

with_pip() {
    .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off \
        -c constraints.txt -e '.[dev]' >$log 2>&1 &
    pip=$!
    # The shell lets a Ctrl-C pass by what runs in the background.
    trap 'kill $pip 2>/dev/null; exit 130' INT TERM
    seconds=0
    while sleep 1 && kill -0 $pip 2>/dev/null; do
        seconds=$((seconds + 1))
        if [ -t 2 ]; then
            printf '\r\033[K  %s' "$(how_far)" >&2
        elif [ $((seconds % 20)) = 0 ]; then
            say "  $(how_far)"
        fi
    done
    [ ! -t 2 ] || printf '\r\033[K' >&2
    trap - INT TERM
    wait $pip || {
        tail -n 20 $log >&2
        return 1
    }
}

with_uv || with_pip
: >"$stamp"
