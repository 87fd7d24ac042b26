#!/usr/bin/env bash
# label-studio-sdk 2.1.2: the COCO export of keypoints merges the persons of an image, and may exchange their names.
# Converter.convert_to_coco makes one annotation of all points of an image: of two related persons the second's points
# take the places of the first's. It orders the points by the labels' model_index, but names them in the category in the
# order of the configuration, so that with model_index in another order nose and neck trade names. Places are rounded
# to whole pixels. Seen here: two persons of two points become one annotation of two, with the wrong names. This
# project reads Label Studio's own JSON, where relations and parent regions tie points to persons.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check label-studio-sdk==2.1.2
cat >"$folder/show.py" <<'PY'
import json
import logging
import sys
from importlib.metadata import version
from pathlib import Path

from label_studio_sdk.converter import Converter

logging.disable(logging.WARNING)
folder = Path(sys.argv[1])
CONFIG = """<View><Image name="image" value="$image"/>
<RectangleLabels name="person" toName="image"><Label value="person"/></RectangleLabels>
<KeyPointLabels name="keypoints" toName="image">
<Label value="nose" model_index="1"/><Label value="neck" model_index="0"/></KeyPointLabels></View>"""
common = {"to_name": "image", "original_width": 200, "original_height": 100, "image_rotation": 0}


def person(number, x):
    box = {"id": f"p{number}", "type": "rectanglelabels", "from_name": "person", **common,
           "value": {"x": x, "y": 10, "width": 20, "height": 50, "rotation": 0, "rectanglelabels": ["person"]}}
    regions = [box]
    for name, y in (("nose", 20), ("neck", 40)):
        point = {"x": x + 5, "y": y, "width": 0.5, "keypointlabels": [name]}
        regions.append({"id": f"{name}{number}", "type": "keypointlabels", "from_name": "keypoints", **common,
                        "value": point})
        regions.append({"type": "relation", "from_id": f"{name}{number}", "to_id": box["id"], "direction": "right"})
    return regions


task = {"id": 1, "data": {"image": "a.jpg"}, "annotations": [
    {"id": 1, "result": person(1, 10) + person(2, 60), "was_cancelled": False, "completed_by": {"id": 1},
     "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}]}
(folder / "tasks.json").write_text(json.dumps([task]))
converter = Converter(CONFIG, str(folder), download_resources=False)
converter.convert_to_coco(str(folder / "tasks.json"), str(folder / "out"), is_dir=False)
result = json.loads((folder / "out" / "result.json").read_text())
found = [annotation for annotation in result["annotations"] if annotation.get("keypoints")]
names = next(category["keypoints"] for category in result["categories"] if category.get("keypoints"))
print(f"label-studio-sdk {version('label-studio-sdk')}: 2 persons become {len(found)} annotation with keypoints")
print(f"noses at (30, 20) and (130, 20); exported as {names}: {found[0]['keypoints']}")
assert len(found) == 1, "persons are kept apart now"
assert names == ["nose", "neck"] and found[0]["keypoints"][:2] == [130, 40], "names and points agree now"
PY
"$folder/env/bin/python" "$folder/show.py" "$folder"
