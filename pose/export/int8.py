"""Static networks in 8 bits: weights (of 7) by channel, activations by what crops of training persons make of them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from torch import Tensor

from pose.config import Settings
from pose.datasets.crops import CropDataset
from pose.datasets.train_sets import read_train_sets
from pose.prediction import to_input


def training_crops(settings: Settings, count: int) -> Tensor:
    """Plain crops of training persons drawn at random, always the same: (count, 3, H, W) as the network takes them.

    Raises:
        DataError: The annotations or pictures cannot be used.
    """
    data, skeleton = settings.data, settings.skeleton()
    persons, root, *_ = read_train_sets(data.train, data.root, skeleton, data.category)
    rows = np.random.default_rng(0).permutation(len(persons))[:count]
    size = data.input_size
    dataset = CropDataset(persons.take(rows), root, skeleton, size, broken_share=data.broken_share)
    batch = dataset.batch([(0, row) for row in range(len(rows))])
    return to_input(batch.crops, "cpu")


def quantize(file: onnx.ModelProto, crops: Tensor) -> onnx.ModelProto:
    """A static network's graph with 8-bit activations and 7-bit weights, as ONNX's QuantizeLinear and DequantizeLinear.

    Args:
        file: Its one input takes crops.
        crops: (N, 3, H, W) to find the activations' ranges with.
    """
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
