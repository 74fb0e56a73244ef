#!/bin/sh
# venv.sh PYTHON FOLDER
#
# Makes a virtual environment. Debian's Python comes without the part that does so: it is installed if needed.
set -eu
python=$1
folder=$2

command -v "$python" >/dev/null || { echo "There is no $python; install Python 3.11 or newer (apt-get install python3)" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Sluice needs Python 3.11 or newer, and $python is $("$python" --version); call make PYTHON=python3.11" >&2
    exit 1
}
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "Installing python3-venv, with which the virtual environment is made"
    sudo=
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 update >/dev/null
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends \
        python3-venv >/dev/null
fi
exec "$python" -m venv "$folder"
