#!/usr/bin/env bash
# Makes the virtual environment .venv and installs the project with what its tests need.
# Done once; again only when setup.py changes. PYTHON=python3.12 chooses another interpreter.
# With --lowest it makes .venv-lowest, with the lowest version of each library that setup.py allows (uv chooses them).
set -eu
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "error: needs Python 3.10 or newer, '$python' is not; choose one with PYTHON=python3.12" >&2
    exit 2
fi
environment=.venv
if [ "${1:-}" = --lowest ]; then
    environment=.venv-lowest
    if ! "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then
        echo "error: the lowest versions are older than '$python'; choose one with PYTHON=python3.12" >&2
        exit 2
    fi
fi
wanted="$(cksum setup.py) $("$python" --version)"
if [ "$(cat "$environment/installed" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
echo "making $environment and installing PyTorch and the other libraries (several GB, 2 to 10 minutes) ..."
if ! "$python" -m venv "$environment"; then
    echo "error: no virtual environment could be made; on Debian or Ubuntu: apt-get install python3-venv" >&2
    exit 2
fi
pip() { "$environment/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
if [ "$environment" = .venv ]; then
    pip install --editable '.[test]'
else
    pip install 'uv>=0.5'
    "$environment/bin/uv" pip install --quiet --python "$environment/bin/python" --resolution lowest-direct --editable '.[test]'
fi
if ! "$environment/bin/python" -c 'import cv2' 2>/dev/null; then
    echo "error: OpenCV needs two system libraries; on Debian or Ubuntu: apt-get install libgl1 libglib2.0-0" >&2
    exit 2
fi
echo "$wanted" >"$environment/installed"
