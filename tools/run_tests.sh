#!/usr/bin/env bash
# Runs the tests; arguments go to pytest: `bash tools/run_tests.sh -m slow` runs the long ones.
# With --lowest first, in .venv-lowest with the lowest version of each library that setup.py allows.
set -eu
cd "$(dirname "$0")/.."
environment=.venv
if [ "${1:-}" = --lowest ]; then
    shift
    environment=.venv-lowest
    bash tools/setup_env.sh --lowest
else
    bash tools/setup_env.sh
fi
# The tests of pages need a browser and are skipped without one. A CI machine gets it; yours is left as it is.
if [ "${CI:-}" = true ] && ! command -v chromedriver >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    { apt-get update && apt-get install --yes --no-install-recommends chromium chromium-driver; } >/dev/null 2>&1 ||
        echo "no browser could be installed: the tests of pages will be skipped"
fi
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} # waiting threads that spin would fight for the cores of a busy machine
if [ "$environment" = .venv ]; then # style and types are those of today's versions
    .venv/bin/ruff check .
    .venv/bin/mypy
fi
# Files side by side on the cores: a file's tests stay together, with what they share.
exec "$environment/bin/python" -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile "$@"
