"""Poses of a folder of pictures with Ray Data: the class that tools/predict.py uses, on as many machines as Ray has.

    python examples/ray_poses.py photos found

Needs `pip install 'ray[data]'` beside this project, and one core more than processes look for poses: each of those
holds a core as long as the job runs, and who reads the files needs one, too. On GPUs give map_batches num_gpus=1 and a
larger batch_size; Ray then keeps one FindPoses, with its network, on each of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ray

from pose import Predictor
from pose.inference.bulk.finder import FindPoses
from pose.inference.images import IMAGE_SUFFIXES


def find(pictures: str, out: str, make_predictor=Predictor.from_weights, processes: int = 1) -> int:
    """Writes Parquet with a row a picture (docs/predict.md#schema); gives the number of rows.

    Args:
        pictures: A folder, with those below, here or wherever Ray reads from.
        out: A folder for the tables.
        make_predictor: Called once in each process.
        processes: How many look for poses.

    Raises:
        ValueError: Ray has no core left to read files, and would wait for one without end and without a word.
    """
    if not ray.is_initialized():
        ray.init()
    cores = int(ray.cluster_resources().get("CPU", 0))
    if cores <= processes:
        raise ValueError(f"{processes} processes and a reader need {processes + 1} cores, Ray has {cores}")
    endings = [ending[1:] for ending in IMAGE_SUFFIXES]
    files = ray.data.read_binary_files(pictures, include_paths=True, file_extensions=endings)
    found = files.map_batches(
        FindPoses,
        fn_constructor_kwargs={"predictor": make_predictor},
        batch_size=16,
        compute=ray.data.ActorPoolStrategy(size=processes),
        num_cpus=1,
    )
    found = found.materialize()
    found.write_parquet(out)
    return found.count()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        count = find(str(Path(sys.argv[1]).absolute()), str(Path(sys.argv[2]).absolute()))
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{count} pictures: {sys.argv[2]}")
