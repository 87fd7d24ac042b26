#!/usr/bin/env bash
# yapf 0.43.0 with mmengine 0.10.7: processes that import mmengine at once on a new machine may fail with EOFError.
# mmengine.config imports yapf, which keeps its grammars in the user's cache folder. It writes a temporary file and
# renames it inside the `with` that closes it: what waits in the buffer is missing under the new name for a moment.
# Seen here: the file of PatternGrammar has 0 bytes with its new name, 1243 later (that of Grammar is whole). Processes
# that `torchrun` or a test run starts together read it then: "EOFError: Ran out of input", seen in one of three test
# workers. A file that stays empty, as a full disk leaves it, fails every import until somebody removes it.
# This project imports mmengine again until the file is whole (pose/config_files.py).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check yapf==0.43.0
cat >"$folder/show.py" <<'PY'
import os
import subprocess
import sys

sizes = {}
rename = os.rename


def watched(source, target):
    rename(source, target)
    sizes[target] = os.path.getsize(target)


os.rename = watched
import yapf  # mmengine/config/config.py begins with it

print(f"yapf {yapf.__version__}")
short = 0
for name, size in sizes.items():
    print(f"{os.path.basename(name)}: {size} bytes when it has its name, {os.path.getsize(name)} later")
    short += size < os.path.getsize(name)
assert short, "files are whole when they get their names now"

with open(next(name for name in sizes if "PatternGrammar" in name), "wb"):
    pass  # empty, as it was for a moment
error = subprocess.run([sys.executable, "-c", "import yapf"], capture_output=True, text=True).stderr.splitlines()[-1]
print(f"with an empty file: {error}")
assert "EOFError" in error or "UnpicklingError" in error, "a damaged file is made anew now"
PY
XDG_CACHE_HOME="$folder/cache" "$folder/env/bin/python" "$folder/show.py"
