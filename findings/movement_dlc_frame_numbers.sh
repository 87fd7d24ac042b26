#!/usr/bin/env bash
# movement 0.15.0: the frame numbers of a DeepLabCut table are not read, so that times are wrong where frames are missing.
# The first column of DeepLabCut's CSV is the frame. load_poses.from_dlc_file takes the rows for frames 0, 1, 2 ...
# instead: of frames 100, 101 and 105 at 1 frame a second it says the times 0, 1 and 2, and a speed from them is wrong
# by a factor of 4 across the gap. This project writes a row for every frame from 0 on, empty where nobody was found.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check movement==0.15.0
cat >"$folder/show.py" <<'PY'
import sys
from importlib.metadata import version
from pathlib import Path

from movement.io import load_poses

table = Path(sys.argv[1], "poses.csv")
rows = ["scorer,s,s,s", "bodyparts,nose,nose,nose", "coords,x,y,likelihood", "100,1,2,.9", "101,3,4,.9", "105,5,6,.9"]
table.write_text("\n".join(rows) + "\n")
poses = load_poses.from_dlc_file(table, fps=1)
print(f"movement {version('movement')}: frames 100, 101, 105 have the times {poses.time.values.tolist()}")
assert poses.time.values.tolist() == [0, 1, 2], "frame numbers are read now"
PY
"$folder/env/bin/python" "$folder/show.py" "$folder"
