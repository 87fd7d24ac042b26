"""Makes the files beside it: persons of drawn scenes, what a network might have found of them, and the ten figures.

    python tests/data/keypoint_check/make.py

The figures are plain pycocotools', by none of this project's own evaluation.
"""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pose.datasets.synthetic.scenes import draw_scene
from pose.skeleton import COCO as SKELETON

FOLDER = Path(__file__).parent
IMAGES = 60
KINDS = ("AP", "AP50", "AP75", "AP(M)", "AP(L)", "AR", "AR50", "AR75", "AR(M)", "AR(L)")


def annotations(rng: np.random.Generator) -> dict:
    """Every fifth picture has a region of persons who are not told apart, every seventh a person without keypoints.

    Every ninth person has labels of the head alone.
    """
    images, persons = [], []
    for image_id in range(1, IMAGES + 1):
        height = int(np.exp(rng.uniform(np.log(80), np.log(640))))
        width = int(height * rng.uniform(0.8, 1.4))
        images.append({"id": image_id, "file_name": f"{image_id}.jpg", "width": width, "height": height})
        drawn = draw_scene(rng, width, height, 4).annotations
        if image_id % 7 == 0 and len(drawn) > 1:
            drawn[0] |= {"keypoints": [0] * 51, "num_keypoints": 0}
        if image_id % 5 == 0:
            area = width // 2 * (height // 3)
            region = {"bbox": [0, 0, width // 2, height // 3], "area": area, "iscrowd": 1}
            drawn.append({**region, "keypoints": [0] * 51, "num_keypoints": 0})
        for record in drawn:
            keypoints = [round(value) for value in record["keypoints"]]
            own = {"id": len(persons) + 1, "image_id": image_id, "category_id": 1}
            if own["id"] % 9 == 0:
                keypoints[15:] = [0] * 36
            own["num_keypoints"] = sum(flag > 0 for flag in keypoints[2::3])
            persons.append({"iscrowd": 0, **record, "keypoints": keypoints, **own})
    category = {"id": 1, "name": "person", "keypoints": list(SKELETON.keypoints)}
    return {"images": images, "annotations": persons, "categories": [category]}


def results(rng: np.random.Generator, truth: dict) -> list[dict]:
    """Most persons, each as far off as chance has it, some of them twice or with their sides exchanged."""
    found = []
    for person in truth["annotations"]:
        keypoints = np.array(person["keypoints"], float).reshape(17, 3)
        size = np.sqrt(person["area"])
        for _ in range(rng.choice(3, p=(0.15, 0.75, 0.1))):
            off = np.exp(rng.normal(-3.3, 0.8))
            guessed = keypoints.copy()
            unseen = keypoints[:, 2] == 0
            guessed[unseen, :2] = person["bbox"][:2] + rng.random((unseen.sum(), 2)) * person["bbox"][2:]
            if rng.random() < 0.1:
                guessed = guessed[SKELETON.flip_index]
            guessed[:, :2] += rng.normal(0, off * size, (17, 2))
            guessed[:, 2] = 1
            score = np.clip(0.9 - 3 * off + rng.normal(0, 0.15), 0.02, 0.99)
            entry = {"image_id": person["image_id"], "category_id": 1}
            found.append({**entry, "keypoints": guessed.round().astype(int).ravel().tolist(), "score": round(score, 3)})
    return found


def figures(annotation_file: Path, result_file: Path) -> dict[str, float]:
    """By COCO's own program alone."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(annotation_file)
        evaluation = COCOeval(truth, truth.loadRes(str(result_file)), "keypoints")
        evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
    return {name: round(value, 6) for name, value in zip(KINDS, evaluation.stats.tolist(), strict=True)}


if __name__ == "__main__":
    generator = np.random.default_rng(2014)
    truth = annotations(generator)
    made = {"annotations": truth, "results": results(generator, truth)}
    for name, contents in made.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(contents, separators=(",", ":")) + "\n")
    known = figures(FOLDER / "annotations.json", FOLDER / "results.json")
    (FOLDER / "figures.json").write_text(json.dumps(known, indent=1) + "\n")
