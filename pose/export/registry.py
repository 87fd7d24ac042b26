"""The formats that networks are exported to, and what each can be asked for; known without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pose.errors import OutputError
from pose.options import OptionError, nearest
from pose.runtimes.session import details_path

if TYPE_CHECKING:
    from torch import nn

OUTPUTS = {"heatmaps": ("heatmaps",), "keypoints": ("keypoints",)}
"""What a file can answer with, and the names of its outputs."""

RUNTIMES = ("onnxruntime", "onnxruntime-here", "openvino")
"""What an ONNX file is made for. Files for ``onnxruntime`` and ``openvino`` run in both, and on any processor."""

BANKS = ("float32", "bfloat16", "int8")
"""The precisions of dynamic layers' kernels."""

IN_BYTES = ("float32", "int8")
"""Those that runtimes have in operations made for language models, see :mod:`pose.models.dynamic.graph_bytes`."""

CALIBRATION_PERSONS = 64
"""How many training persons set the ranges of 8 bits."""

TEST_PERSONS = 500
"""How many persons AP is taken of after quantization."""

STATIC, ANY = "static", "static and dynamic"
"""The networks that a format has 8 bits for."""


@dataclass(frozen=True)
class Format:
    """A kind of exported file.

    Args:
        suffix: What its name ends with.
        writer: Module of :mod:`pose.export.writers`; None for what :mod:`pose.export.onnx_file` or
            :mod:`pose.export.web_page` write.
        forms: What its layers are written as, a key of :data:`~pose.export.forms.FORMS`; None for native layers.
        runtime: What executes it, for people.
        part: Suffix of a second file.
        inside: The metadata is in the file, not beside it.
        checked: It can be executed on this kind of machine.
        keypoints: It can end in keypoints.
        any_batch: It takes any number of images, and is checked with several.
        int8: The networks that can be of 8 bits in it, :data:`STATIC` or :data:`ANY`; None for none.
        banks: The precisions that dynamic layers' kernels can have in it, of :data:`BANKS`.
        bfloat16: It can compute in bfloat16.
        default_suffix: What it ends with where no name is given; empty is ``suffix``.
    """

    suffix: str
    writer: str | None
    forms: str | None
    runtime: str
    part: str | None = None
    inside: bool = False
    checked: bool = True
    keypoints: bool = False
    any_batch: bool = False
    int8: str | None = None
    banks: tuple[str, ...] = BANKS[:1]
    bfloat16: bool = False
    default_suffix: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "default_suffix", self.default_suffix or self.suffix)

    def paths(self, path: str | Path) -> list[Path]:
        """Every file that is written for a name, the named one last."""
        path = Path(path)
        beside = [] if self.inside else [details_path(path)]
        return [*([path.with_suffix(self.part)] if self.part else []), *beside, path]

    def check_parts(self, path: str | Path) -> None:
        """Refuses a name whose second file is another format's: ncnn's and OpenVINO's weights both end in ``.bin``.

        Raises:
            OutputError: It is.
        """
        path = Path(path)
        for other in FORMATS.values():
            owner = path.with_suffix(other.suffix)
            if self.part and other.part == self.part and other.suffix != self.suffix and owner.exists():
                raise OutputError(f"{path.with_suffix(self.part)}: belongs to {owner.name}; choose another name")


FORMATS = {
    "onnx": Format(
        ".onnx", None, "onnxruntime", "ONNX Runtime", inside=True, keypoints=True, int8=STATIC, banks=IN_BYTES
    ),
    "onnx-single": Format(
        ".onnx",
        "onnx_single",
        "onnx-single",
        "ONNX Runtime",
        inside=True,
        keypoints=True,
        default_suffix=".single.onnx",
    ),
    "openvino": Format(
        ".xml", "openvino", "openvino", "OpenVINO", part=".bin", keypoints=True, int8=STATIC, banks=IN_BYTES
    ),
    "ncnn": Format(".param", "ncnn", "ncnn", "ncnn", part=".bin", default_suffix=".ncnn.param"),
    "mnn": Format(".mnn", "mnn", "mnn", "MNN"),
    "litert": Format(".tflite", "litert", "litert", "LiteRT", int8=STATIC, banks=IN_BYTES),
    "executorch": Format(".pte", "executorch", "executorch", "ExecuTorch", banks=IN_BYTES),
    "torch": Format(".pt2", "torch_program", "torch", "PyTorch", any_batch=True),
    "native": Format(
        ".native", "native", None, "native layers", inside=True, any_batch=True, int8=ANY, banks=BANKS, bfloat16=True
    ),
    "coreml": Format(".mlpackage", "coreml", "coreml", "Core ML", checked=False),
    "web": Format(".html", None, "onnxruntime", "the browser", inside=True),
}


def find_format(name: str) -> Format:
    """A format by its name.

    Raises:
        OptionError: There is none; the message has the nearest.
    """
    if name not in FORMATS:
        raise OptionError(f"--format: unknown {name!r}: {nearest(name, FORMATS)}")
    return FORMATS[name]


def is_dynamic(model: nn.Module) -> bool:
    """Whether a network in its training form has dynamic or decomposed layers."""
    from pose.models.dynamic.base import DynamicLayer

    return any(isinstance(layer, DynamicLayer) for layer in model.modules())


def check_request(
    name: str,
    output: str = "heatmaps",
    bank: str = BANKS[0],
    int8: bool = False,
    bfloat16: bool = False,
    dynamic: bool | None = None,
) -> Format:
    """The format, where it can be what is asked for.

    Args:
        name: A key of :data:`FORMATS`.
        output: ``heatmaps`` or ``keypoints``.
        bank: The precision of dynamic layers' kernels.
        int8: Whether it is to be of 8 bits.
        bfloat16: Whether it is to compute in bfloat16.
        dynamic: Whether the network is dynamic; None where that is not known yet.

    Raises:
        OptionError: It cannot; the message has the formats that can.
    """
    kind = find_format(name)
    if output == "keypoints" and not kind.keypoints:
        able = ", ".join(key for key, other in FORMATS.items() if other.keypoints)
        raise OptionError(f"--format {name}: gives heatmaps; keypoints are for {able}")
    if bank not in kind.banks:
        able = ", ".join(key for key, other in FORMATS.items() if bank in other.banks)
        raise OptionError(f"--format {name}: has no bank of {bank}; --bank {bank} is for {able or 'no format'}")
    if bank != BANKS[0] and name != "native" and (int8 or output != "heatmaps"):
        raise OptionError(f"--format {name}: --bank {bank} is for heatmaps, without --int8; native has both")
    if int8 and kind.int8 is None:
        able = ", ".join(key for key, other in FORMATS.items() if other.int8)
        raise OptionError(f"--format {name}: has no 8 bits; --int8 is for {able}")
    if int8 and output != "heatmaps":
        raise OptionError(f"--format {name}: --int8 is for heatmaps; leave --output out")
    if int8 and kind.int8 == STATIC and dynamic:
        able = ", ".join(key for key, other in FORMATS.items() if other.int8 == ANY)
        raise OptionError(f"--format {name}: --int8 is for static networks there, for dynamic ones in {able}")
    if bfloat16 and not kind.bfloat16:
        able = ", ".join(key for key, other in FORMATS.items() if other.bfloat16)
        raise OptionError(f"--format {name}: --bfloat16 is for {able}")
    return kind
