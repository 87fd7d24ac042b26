#!/usr/bin/env bash
# Makes the virtual environment .venv and installs the project with what its tests need.
# Done once; again only when setup.py changes. PYTHON=python3.12 chooses another interpreter.
set -eu
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "error: needs Python 3.10 or newer, '$python' is not; choose one with PYTHON=python3.12" >&2
    exit 2
fi
wanted="$(cksum setup.py) $("$python" --version)"
if [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
echo "making .venv and installing PyTorch and the other libraries (several GB, 2 to 10 minutes) ..."
if ! "$python" -m venv .venv; then
    echo "error: no virtual environment could be made; on Debian or Ubuntu: apt-get install python3-venv" >&2
    exit 2
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
if ! .venv/bin/python -c 'import cv2' 2>/dev/null; then
    echo "error: OpenCV needs two system libraries; on Debian or Ubuntu: apt-get install libgl1 libglib2.0-0" >&2
    exit 2
fi
echo "$wanted" >.venv/installed
