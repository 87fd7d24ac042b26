"""How fast heatmaps are decoded and a full-size val2017 is scored, on one CPU core.

    python tools/benchmark_evaluation.py
    python tools/benchmark_evaluation.py --images 500 --boxes 10400 --persons 1100    # a tenth, seconds

Decoding is printed in persons per second beside NumPy's bare argmax over the same maps, the floor.
Scoring (rescoring, OKS-NMS and the figures) is printed beside what pycocotools takes for `evaluate`
and `accumulate` alone on the same results. All are timed in turns by the processor's clock, which other
programs disturb little, and the best of each counts. --write docs/tables/evaluation.md writes a page.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import contextlib
import io
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pose import heatmap
from pose.benchmark import machine
from pose.command_line import CommandParser, count
from pose.datasets.synthetic.dataset import write_annotations_only
from pose.errors import command
from pose.evaluation.coco_eval import load_annotations, score
from pose.evaluation.results import Predictions
from pose.skeleton import COCO as SKELETON
from pose.tables import Page, check_page, table_lines

BATCH = 64
REFERENCE = "pycocotools evaluate and accumulate"


@command
def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument("--images", type=count(), default=5000)
    parser.add_argument("--boxes", type=count(), default=104_000)
    parser.add_argument("--persons", type=count(), default=11_000, help="annotated persons")
    parser.add_argument("--repeats", type=count(), default=3)
    parser.add_argument("--seed", type=count(0), default=0)
    parser.add_argument("--write", type=Path, help="a Markdown file for the tables; it is replaced")
    arguments = parser.parse_args()
    check_page(arguments.write)
    torch.set_num_threads(1)
    rng = np.random.default_rng(arguments.seed)
    page = Page("Decoding and scoring", f"{machine()}, 1 thread, processor time, the best of all turns")
    page.add(f"**Decoding ({BATCH}, 17, 64, 48) heatmaps**", "")
    times = best_seconds(decoders(rng), 20 * arguments.repeats)
    rows = [[name, f"{BATCH / seconds:,.0f}"] for name, seconds in times.items()]
    page.add(*table_lines(["method", "persons/s"], rows, 1), "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "annotations.json")
        write_annotations_only(path, arguments.images, arguments.persons, arguments.seed)
        truth = load_annotations(path)
    predictions = made_up_predictions(rng, truth, arguments.boxes)
    page.add(
        f"**Scoring {len(predictions):,} persons on {arguments.images:,} images, {arguments.persons:,} annotated**", ""
    )
    times = best_seconds(scorers(truth, predictions), arguments.repeats)
    reference = times[REFERENCE]
    rows = [[name, f"{seconds:.2f}", f"{seconds / reference:.2f}"] for name, seconds in times.items()]
    page.add(*table_lines(["", "s", "ratio to pycocotools"], rows, 1), "")
    page.add(f"Peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")
    page.write(arguments.write)


def best_seconds(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Each function's shortest processor time, all of them called in turns; a function may return its own seconds."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.process_time()
            own = function()
            elapsed = own if isinstance(own, float) else time.process_time() - start
            best[name] = min(best[name], elapsed)
    return best


def decoders(rng: np.random.Generator) -> dict[str, Callable[[], object]]:
    """Every way to decode a batch of noisy Gaussian heatmaps, and NumPy's argmax, which none can undercut."""
    keypoints = torch.from_numpy(rng.uniform(8, 184, (BATCH, SKELETON.num_keypoints, 2)))
    maps, _ = heatmap.encode(keypoints, torch.ones(keypoints.shape[:2], dtype=torch.bool), (48, 64))
    maps += torch.from_numpy(rng.normal(0, 0.02, maps.shape)).float()
    mirrored = maps[:, SKELETON.flip_index.tolist()].flip(-1).clone()
    flat = maps.numpy().reshape(-1, 64 * 48)
    found: dict[str, Callable[[], object]] = {"argmax alone": lambda: flat.argmax(1)}
    for method in heatmap.DECODERS:
        found[method] = lambda method=method: heatmap.decode(maps, method)
        found[f"{method}, flip average"] = lambda method=method: heatmap.decode_with_flip(
            maps, mirrored, SKELETON.flip_index, 1, method
        )
    return found


def made_up_predictions(rng: np.random.Generator, truth: COCO, count: int) -> Predictions:
    """Boxes as a detector without suppression gives them: seven in ten around annotated persons, the rest anywhere."""
    annotations = truth.dataset["annotations"]
    keypoints = np.array([annotation["keypoints"] for annotation in annotations]).reshape(-1, 17, 3)
    boxes = np.array([annotation["bbox"] for annotation in annotations])
    images = np.array([annotation["image_id"] for annotation in annotations])
    chosen = rng.integers(0, len(annotations), count)
    size = np.sqrt(boxes[chosen, 2:].prod(axis=1))
    points = keypoints[chosen].astype(np.float64)
    hidden = points[..., 2] == 0
    points[hidden, :2] = (boxes[chosen, None, :2] + boxes[chosen, None, 2:] * rng.random((count, 17, 2)))[hidden]
    points[..., :2] += rng.normal(0, 0.05, (count, 17, 2)) * size[:, None, None]
    points[..., 2] = rng.random((count, 17))
    elsewhere = rng.random(count) < 0.3
    points[elsewhere, :, :2] += rng.uniform(-300, 300, (elsewhere.sum(), 1, 2))
    order = np.argsort(images[chosen], kind="stable")
    return Predictions(
        image_ids=images[chosen][order],
        keypoints=points[order],
        boxes=boxes[chosen][order],
        box_scores=rng.random(count),
        areas=(size[order] * 1.25) ** 2,
    )


def scorers(truth: COCO, predictions: Predictions) -> dict[str, Callable[[], object]]:
    """The ways to score; pycocotools gets finished results, and its own two steps alone are timed."""
    records = score(predictions, truth)[1].records()

    def plain() -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(truth, truth.loadRes([dict(record) for record in records]), "keypoints")
            start = time.process_time()
            evaluation.evaluate()
            evaluation.accumulate()
            return time.process_time() - start

    return {
        REFERENCE: plain,
        "score()": lambda: score(predictions, truth),
        "score(), faster-coco-eval": lambda: score(predictions, truth, backend="faster-coco-eval"),
    }


if __name__ == "__main__":
    main()
