#!/usr/bin/env bash
# openvino 2026.4.1: a bare `import openvino` reports the use to Google Analytics, by openvino-telemetry, its dependency.
# Nobody is asked and no line is printed; an identifier is kept in ~/intel/openvino_ga_cid for the next time.
# Seen here, with an empty home and the sending replaced by a list: one report, and a file with an identifier.
# This project imports OpenVINO with openvino_telemetry shut out (pose/runtimes/openvino.py); then nothing is sent.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 openvino-telemetry==2025.2.0
cat >"$folder/show.py" <<'PY'
import time
from importlib.metadata import version
from pathlib import Path

from openvino_telemetry.backend import backend_ga4

sent = []
backend_ga4.GA4Backend.send = lambda self, message: sent.append(message)
import openvino  # noqa: E402, F401

time.sleep(3)  # it is sent by a thread
kept = sorted(path.name for path in Path.home().glob("intel/*"))
print(f"openvino {version('openvino')}, openvino-telemetry {version('openvino-telemetry')}: "
      f"{len(sent)} report by the import, kept in ~/intel: {kept}")
assert sent and kept, "an import reports nothing now"
PY
mkdir "$folder/home"
HOME="$folder/home" "$folder/env/bin/python" "$folder/show.py"
