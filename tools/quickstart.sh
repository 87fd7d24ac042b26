#!/usr/bin/env bash
# From a fresh clone to drawn skeletons: environment, data, training, test, pictures.
set -eu
cd "$(dirname "$0")/.."
bash tools/setup_env.sh
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} # waiting threads that spin would fight for the cores of a busy machine
exec .venv/bin/python tools/quickstart.py "$@"
