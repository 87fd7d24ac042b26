"""Can the network learn at all? DY-MobileNetV2 x0.5 Type-B memorises 32 real persons.

    python tests/slow/memorise.py --root data/coco

Takes a folder in COCO's layout, picks pictures whose persons come to 32, trains on them without
augmentation and tests on the same persons with annotated boxes. Exit status 1 below AP 0.90.
AP 0.925 when last run; a quarter of an hour on two CPU cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pose.config import load_settings
from pose.device import choose_device
from pose.engine.train import train
from pose.errors import DataError, command
from pose.files import read_json, write_json

CONFIG = Path(__file__).parents[2] / "configs/coco/mobilenet_v2_x0.5_type_b_dynamic.py"
PERSONS = 32
WANTED = 0.90


def choose_images(annotations: dict, persons: int) -> dict:
    """The annotation file cut down to pictures whose labelled persons come to exactly ``persons``."""
    counts: dict[int, int] = {}
    for annotation in annotations["annotations"]:
        if annotation["num_keypoints"] > 0 and not annotation["iscrowd"]:
            counts[annotation["image_id"]] = counts.get(annotation["image_id"], 0) + 1
    chosen, total = set(), 0
    for image, count in sorted(counts.items(), key=lambda item: item[1]):
        if total + count <= persons:
            chosen.add(image)
            total += count
    if total != persons:
        raise DataError(f"no choice of pictures has exactly {persons} persons, the nearest has {total}")
    return {
        **annotations,
        "images": [image for image in annotations["images"] if image["id"] in chosen],
        "annotations": [annotation for annotation in annotations["annotations"] if annotation["image_id"] in chosen],
    }


@command
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("data/coco"), help="default: %(default)s")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/memorise"), help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=120, help="default: %(default)s")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    source = read_json(arguments.root / "annotations/person_keypoints_train2017.json", "annotation file")
    subset = (arguments.work_dir / "persons.json").absolute()
    write_json(subset, choose_images(source, PERSONS))
    overrides = {
        "data.root": str(arguments.root),
        "data.train.annotations": str(subset),
        "data.val.annotations": str(subset),
        "data.val.images": "train2017",
        "data.workers": 0,
        "augmentation": None,
        "test.flip": False,  # a network that never saw a mirrored person cannot help with the mirrored crop
        "train.epochs": arguments.epochs,
        "train.batch_size": 16,
        "train.milestones": (arguments.epochs * 3 // 4, arguments.epochs * 9 // 10),
        "train.validate_every": 20,
    }
    settings = load_settings(CONFIG, overrides)
    summary = train(settings, arguments.work_dir, choose_device(arguments.device), resume=True)
    if summary["stopped"]:
        print("stopped before the end; the same command goes on")
        return 1
    average_precision = summary["best"]["AP"]
    print(f"AP {average_precision:.3f} on the {PERSONS} memorised persons (wanted {WANTED})")
    return 0 if average_precision >= WANTED else 1


if __name__ == "__main__":
    main()
