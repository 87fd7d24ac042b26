"""The sizes that the two papers print, and why some of them cannot be reproduced.

DY-CNN is arXiv 1912.03458 (Tables 1, 8 and 10), DCD arXiv 2103.08756 (Tables 1 to 3). Cells are kept
as printed, in millions; G marks thousands of millions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOTES = {
    "2^20": (
        "The papers count ResNet's parameters in units of 2^20, and the dynamic ones without the 1 x 1 shortcuts: "
        "11.15, 42.69, 5.17 and 18.61 in that way for ResNet-18 and ResNet-10; for the pose backbone 10.66, cut off "
        "instead of rounded, and 42.20."
    ),
    "deconv": (
        "One cell is printed for three widths of input, 512, 1280 and 576 channels; no one value fits three sizes of "
        "the first deconvolution, and none of them is 8.4 M or 5.4 G."
    ),
    "quoted": (
        "The static cells are MobileNetV2's own, rounded (300.8 M is printed as 300), or follow from them; what a "
        "dynamic cell adds for attention and aggregation is not itemised. Decimal and complete, ours is within 0.4 %."
    ),
    "v3": (
        "The static ImageNet cells, 2.9 M and 66 M, are those of the first version of MobileNetV3's paper: 2.9 M "
        "leaves out the last squeeze-and-excitation (0.17 M), which the dynamic and the pose cells contain; 66 M, and "
        "62.7 M which follows from it, fit no reading of its table, and later versions of that paper print 56 M."
    ),
    "head": (
        "Printed in units of 2^20 with 7 M for something beside convolutions (normalisation, upsampling); convolutions "
        "alone are 693.9 and 657.7 in those units. What dynamic convolution adds agrees: 8.4 and 6.9."
    ),
    "digit": (
        "9.869 is cut off to 9.8; 3.946 and 2.687 are printed as 4.0 and 2.8, which no way of counting gives that fits "
        "the other widths."
    ),
    "lambda": (
        "Printed in units of 2^20, where ours are 12.59, 13.61 and 13.90. The paper does not say which branch ResNet "
        "has with Lambda alone; 11.7 needs a smaller one than Lambda and Phi together have."
    ),
    "branch": (
        "The paper does not say what it counts of the dynamic branch; decimal and complete, with the form of the "
        "residual that is less work, ours is within 2 %."
    ),
    "classifier": "2.149 M: the paper's 2.2 is 0.18 M added to the rounded 2.0.",
}


@dataclass(frozen=True)
class Published:
    """A row's cells as printed, and the notes that explain what does not agree.

    Args:
        params, madds: Millions, or thousands of millions with a G; None where nothing is printed.
        note: One of :data:`NOTES`.
        params_note: The note on the parameters, where it is another one.
    """

    params: str | None = None
    madds: str | None = None
    note: str | None = None
    params_note: str | None = None

    def explain(self, parameters: int, madds: int) -> tuple[str, str]:
        """How our counts stand to the two cells; a difference points at its note."""
        cells = (parameters, self.params, self.params_note or self.note), (madds, self.madds, self.note)
        texts = [(compare(value, printed), note) for value, printed, note in cells]
        parameter_text, madds_text = (text if text in ("", "same") else f"{text} [{note}]" for text, note in texts)
        return parameter_text, madds_text


@dataclass(frozen=True)
class Row:
    """A network of a table: its name there, the section that builds it, and the printed cells."""

    name: str
    section: Mapping[str, Any]
    published: Published


def compare(value: float, printed: str | None) -> str:
    """How a count stands to a printed cell: ``same`` to its last digit, else the difference in percent.

    Args:
        value: Our count, in units.
        printed: The cell, in millions or, with a G, thousands of millions.
    """
    if printed is None:
        return ""
    unit = 1e9 if printed.endswith("G") else 1e6
    number = printed.rstrip("G")
    digits = len(number.partition(".")[2])
    if f"{value / unit:.{digits}f}" == number:
        return "same"
    percent = 100 * (value / unit / float(number) - 1)
    return f"{percent:+.{1 if abs(percent) >= 0.1 else 2}f} %"


def find(rows: tuple[Row, ...], section: Mapping[str, Any]) -> Row | None:
    """The row that a section of a configuration builds."""
    return next((row for row in rows if _plain(row.section) == _plain(section)), None)


def _plain(section: Mapping[str, Any]) -> dict[str, Any]:
    section = dict(section)
    if section.get("conv", {"type": "static"}) == {"type": "static"}:
        section.pop("conv", None)
    return section


def _v2(width: float, kind: str = "static", **conv: Any) -> dict[str, Any]:
    return {"type": "mobilenet_v2", "width": width, "conv": {"type": kind, **conv}}


def _v3(kind: str = "static") -> dict[str, Any]:
    return {"type": "mobilenet_v3_small", "conv": {"type": kind}}


def _resnet(depth: int, kind: str = "static", **conv: Any) -> dict[str, Any]:
    return {"type": "resnet", "depth": depth, "conv": {"type": kind, **conv}}


def _dcd(roles: tuple[str, ...] = ("expand", "project"), **conv: Any) -> dict[str, Any]:
    return _v2(0.5, "dcd", roles=list(roles), reduction=8, depthwise_reduction=6, **conv)


def _head(kind: str, conv: str = "static") -> dict[str, Any]:
    return {"type": kind, "conv": {"type": conv}}


POSE_BACKBONES = (
    Row("ResNet-18", _resnet(18), Published("10.6", "1.77G", "2^20")),
    Row("DY-ResNet-18", _resnet(18, "dynamic"), Published("42.2", "1.81G", "2^20")),
    Row("MobileNetV2 x1.0", _v2(1.0), Published("2.2", "292.6", "quoted")),
    Row("DY-MobileNetV2 x1.0", _v2(1.0, "dynamic"), Published("9.8", "305.3", "quoted", "digit")),
    Row("MobileNetV2 x0.5", _v2(0.5), Published("0.7", "93.7", "quoted")),
    Row("DY-MobileNetV2 x0.5", _v2(0.5, "dynamic"), Published("2.7", "98.0", "quoted")),
    Row("MobileNetV3-Small", _v3(), Published("1.1", "62.7", "v3")),
    Row("DY-MobileNetV3-Small", _v3("dynamic"), Published("2.8", "65.1", "v3")),
)
"""Table 10 of DY-CNN at 256 x 192."""

POSE_HEADS = {
    512: (Row("Type-A", _head("deconv"), Published("8.4", "5.4G", "deconv")),),
    1280: (
        Row("Type-A", _head("deconv"), Published("8.4", "5.4G", "deconv")),
        Row("Type-B", _head("bottleneck"), Published("1.2", "701.1", "head")),
        Row("DY Type-B", _head("bottleneck", "dynamic"), Published("6.3", "709.4", "head")),
    ),
    576: (
        Row("Type-A", _head("deconv"), Published("8.4", "5.4G", "deconv")),
        Row("Type-B", _head("bottleneck"), Published("1.0", "664.2", "head")),
        Row("DY Type-B", _head("bottleneck", "dynamic"), Published("4.9", "671.1", "head")),
    ),
}
"""Table 10 of DY-CNN at 256 x 192, by the channels of the head's input."""

_TABLE_1 = {
    1.0: ("300.0", "309.5", "312.9", "316.3", "319.8"),
    0.75: ("209.0", "215.6", "217.5", "219.5", "221.4"),
    0.5: ("97.0", "100.5", "101.4", "102.3", "103.2"),
    0.35: ("59.2", "61.5", "62.0", "62.5", "62.9"),
}
_TABLE_8 = {1.0: ("3.5", "11.1"), 0.75: ("2.6", "7.0"), 0.5: ("2.0", "4.0"), 0.35: ("1.7", "2.8")}

IMAGENET = (
    *(
        Row(f"MobileNetV2 x{width}", _v2(width), Published(_TABLE_8[width][0], cells[0], "quoted"))
        for width, cells in _TABLE_1.items()
    ),
    *(
        Row(
            f"DY-MobileNetV2 x{width}, K = {kernels}",
            _v2(width, "dynamic", num_kernels=kernels),
            Published(_TABLE_8[width][1] if kernels == 4 else None, cells[kernels // 2], "quoted", "digit"),
        )
        for width, cells in _TABLE_1.items()
        for kernels in (2, 4, 6, 8)
    ),
    Row("MobileNetV3-Small", _v3(), Published("2.9", "66.0", "v3")),
    Row("DY-MobileNetV3-Small", _v3("dynamic"), Published("4.8", "68.5", "v3")),
    Row("ResNet-10", _resnet(10), Published("5.2", "0.89G", "2^20")),
    Row("DY-ResNet-10", _resnet(10, "dynamic"), Published("18.6", "0.91G", "2^20")),
    Row("ResNet-18", _resnet(18), Published("11.1", "1.81G", "2^20")),
    Row("DY-ResNet-18", _resnet(18, "dynamic"), Published("42.7", "1.85G", "2^20")),
    Row("DCD-MobileNetV2 x0.5, Lambda", _dcd(use_phi=False), Published("2.4", "97.4", "branch")),
    Row("DCD-MobileNetV2 x0.5, Phi", _dcd(use_lambda=False), Published("2.7", "104.4", "branch")),
    Row("DCD-MobileNetV2 x0.5, both", _dcd(), Published("2.9", "104.6", "branch")),
    *(
        Row(
            f"DCD-MobileNetV2 x0.5, latent x{multiplier}",
            _dcd(latent_multiplier=multiplier),
            Published(params, madds, "branch"),
        )
        for multiplier, params, madds in ((0.25, "2.4", "99.8"), (0.5, "2.5", "101.3"), (0.75, "2.6", "102.9"))
    ),
    *(
        Row(
            f"DCD-MobileNetV2 x0.5, {'both' if both else 'Phi'}, {blocks} blocks",
            _dcd(num_blocks=blocks, use_lambda=both),
            Published(params, madds, "branch"),
        )
        for both, blocks, params, madds in (
            (False, 2, "2.6", "101.0"),
            (False, 4, "2.5", "99.1"),
            (False, 8, "2.5", "98.5"),
            (True, 2, "2.8", "101.3"),
            (True, 4, "2.7", "99.4"),
            (True, 8, "2.7", "98.8"),
        )
    ),
    *(
        Row(f"DCD-MobileNetV2 x0.5, {' and '.join(names)}", _dcd(roles), Published(params, madds, note))
        for names, roles, params, madds, note in (
            (["depthwise"], ("depthwise",), "2.4", "97.5", "branch"),
            (["classifier"], ("classifier",), "2.2", "97.2", "classifier"),
            (["depthwise", "classifier"], ("depthwise", "classifier"), "2.6", "97.7", "branch"),
            (["depthwise", "pointwise"], ("expand", "depthwise", "project"), "3.3", "105.1", "branch"),
            (["pointwise", "classifier"], ("expand", "project", "classifier"), "3.1", "104.8", "branch"),
            (["all"], ("expand", "depthwise", "project", "classifier"), "3.5", "105.3", "branch"),
        )
    ),
    Row(
        "DCD-ResNet-18, Lambda", _resnet(18, "dcd", roles=["3x3"], use_phi=False), Published("11.7", "1.81G", "lambda")
    ),
    Row(
        "DCD-ResNet-18, Phi", _resnet(18, "dcd", roles=["3x3"], use_lambda=False), Published("13.6", "1.83G", "lambda")
    ),
    Row("DCD-ResNet-18, both", _resnet(18, "dcd", roles=["3x3"]), Published("14.0", "1.83G", "lambda")),
)
"""Tables 1 and 8 of DY-CNN and 1 to 3 of DCD at 224 x 224, with their classifiers of 1000 classes."""
