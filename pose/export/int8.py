"""Networks in 8 bits: weights by channel, activations by what crops of training persons make of them; what AP is left.

ONNX's graph is quantized here; other runtimes' files by ``write_int8`` of their module in :mod:`pose.export.writers`.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from pose.config import Settings
from pose.datasets.crops import CropDataset
from pose.datasets.train_sets import read_train_sets
from pose.export.errors import ExportError
from pose.export.measured_networks import average_precision, take_part
from pose.export.proof import CHECKED_CROPS
from pose.prediction import ExportedModule, to_input

if TYPE_CHECKING:
    import onnx

MOST_LOST = 0.005
"""The AP, of 1, that a file may cost."""


def training_crops(settings: Settings, count: int) -> Tensor:
    """Plain crops of training persons drawn at random, always the same, as the network takes them.

    Args:
        settings: ``data`` says where the persons are.
        count: How many are to set ranges.

    Returns:
        (N, 3, H, W): ``count``, and as many to hold out, at most :data:`~pose.export.proof.CHECKED_CROPS`, as far
            as there are persons.

    Raises:
        DataError: The annotations or pictures cannot be used.
    """
    data, skeleton = settings.data, settings.skeleton()
    persons, root, *_ = read_train_sets(data.train, data.root, skeleton, data.category)
    rows = np.random.default_rng(0).permutation(len(persons))[: count + min(count, CHECKED_CROPS)]
    size = data.input_size
    dataset = CropDataset(persons.take(rows), root, skeleton, size, broken_share=data.broken_share)
    batch = dataset.batch([(0, row) for row in range(len(rows))])
    return to_input(batch.crops, "cpu")


@contextmanager
def ap_test(model: nn.Module, settings: Settings, persons: int) -> Iterator[Callable[[Path], tuple[float, float]]]:
    """A test of files that answer less exactly than the network: what AP is left, in annotated boxes.

    The persons are read before the block begins, so that a test set that cannot be used is told before a file is made.

    Args:
        model: The network, on the CPU.
        settings: The network's settings; ``data.tested`` says where the persons are.
        persons: How many persons with keypoints, the first ones; pictures are taken whole.

    Yields:
        What takes a file and returns the network's AP and the file's. It raises an ExportError where the file's is
        more than half a point below.

    Raises:
        DataError: The test set cannot be used.
    """
    tested = settings.data.tested
    with tempfile.TemporaryDirectory() as folder:
        annotations = Path(settings.data.path(tested.annotations))
        part = take_part(annotations, tested.images, persons, Path(folder, "part.json"))

        def test(path: Path) -> tuple[float, float]:
            expected = average_precision(model, settings, part)
            found = average_precision(ExportedModule(settings, path), settings, part)
            if not found >= expected - MOST_LOST:
                raise ExportError(
                    f"{path}: quantized, AP falls from {expected:.4f} to {found:.4f} on up to {persons} persons of "
                    f"{tested.annotations}, by more than {MOST_LOST:g}; not written: few persons say "
                    "little, so test more (--int8-test); more for --int8 may help, else leave it out"
                )
            return expected, found

        yield test


def quantize(file: onnx.ModelProto, crops: Tensor) -> onnx.ModelProto:
    """A static network's graph with 8-bit activations and 7-bit weights, as ONNX's QuantizeLinear and DequantizeLinear.

    Args:
        file: Its one input takes crops.
        crops: (N, 3, H, W) to find the activations' ranges with.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    (entry,) = file.graph.input

    class Crops(CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[Tensor] = iter(crops.split(1))

        def get_next(self) -> dict[str, np.ndarray] | None:
            crop = next(self.left, None)
            return None if crop is None else {entry.name: crop.numpy()}

    with tempfile.TemporaryDirectory() as folder:
        plain, ready, done = (str(Path(folder, f"{name}.onnx")) for name in ("plain", "ready", "done"))
        onnx.save(file, plain)
        level = logging.root.level
        logging.root.setLevel(logging.ERROR)  # it recommends what was just done
        try:
            quant_pre_process(plain, ready, skip_symbolic_shape=True)
            # Weights of 7 bits: processors without an instruction for sums of 8-bit products add two of them in 16
            # bits, which overflow, and a file must answer alike everywhere.
            options = dict(per_channel=True, reduce_range=True, activation_type=QuantType.QUInt8)
            quantize_static(ready, done, Crops(), **options)
        finally:
            logging.root.setLevel(level)
        return onnx.load(done)
