"""What formats whose runtimes have a quantizer of their own are to find before it rounds a bank."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from pose.export.errors import ExportError


def check_found(products: Sequence[Mapping[str, Tensor]], found: Collection[str], path: Path, converter: str) -> None:
    """Sees to it that a graph has a matrix of each product that is to be in 8 bits: one left out would stay float32.

    Args:
        products: What :func:`pose.models.dynamic.graph_bytes.quantized_matrices` returns.
        found: The names of the matrices that the graph has.
        path: The file, for the message.
        converter: What has made the graph, for the message.

    Raises:
        ExportError: It lacks one.
    """
    for product in products:
        if not product.keys() & set(found):
            lacking = " or ".join(product)
            raise ExportError(f"{path}: {converter} has changed {lacking}, which is to be in 8 bits; leave --bank out")
