"""The stamp: every choice that a figure depends on, and where the figure came from.

The defaults are the rows of docs/protocol.md#testing, from docs/protocol.md#test-boxes on, with which the
published COCO figures were made. A figure without its stamp cannot be compared with any other.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

from pose import options
from pose.evaluation.oks import NMS_METHODS, NMS_THRESHOLD, RESCORE_THRESHOLD
from pose.heatmap import DECODER, DECODERS, FLIP_SHIFT

ANNOTATED = "annotated"
"""The value of ``boxes`` where crops were made from the annotations' own boxes."""

NOT_COMPARABLE = (
    "annotated boxes: this figure cannot be compared with published ones, which use detected boxes "
    "(it reads about 2 AP higher)"
)

ESTIMATED_SIGMAS = (
    "estimated sigmas: OKS, and with it every AP and AR here, rests on a guess of how well keypoints can be placed; "
    "go by PCK, or measure them with tools/estimate_sigmas.py"
)

AREAS_FROM_BOXES = (
    "areas from boxes: OKS forgives by the boxes' areas, since the annotations have none of outlines, which fill about "
    "half of their boxes; AP reads higher than COCO's"
)

BACKENDS = ("pycocotools", "faster-coco-eval")
"""Libraries that compute COCO's figures."""

CHOICES = {
    "decode": DECODERS,
    "flip_shift": (0, 1, 2),
    "nms": NMS_METHODS,
    "backend": BACKENDS,
}

SCORING_CHOICES = ("rescore", "rescore_threshold", "nms", "nms_threshold", "backend")
"""What :func:`pose.evaluation.coco_eval.score` takes, by the names that a test section and a stamp have for it."""

TEST_CHOICES = ("flip", "flip_shift", "decode", *SCORING_CHOICES)
"""What a test section and a stamp share."""


def scoring_options(choices: object) -> dict[str, Any]:
    """The :data:`SCORING_CHOICES` of a test section or a stamp."""
    return {name: getattr(choices, name) for name in SCORING_CHOICES}


@dataclass(frozen=True)
class TestChoices:
    """How heatmaps become scored persons; the defaults are those of docs/protocol.md#testing.

    Args:
        flip: Average with the heatmaps of the mirrored crop.
        flip_shift: Pixels that those are shifted to the right: 0, 1 or 2.
        decode: One of :data:`pose.heatmap.DECODERS`.
        rescore: Person score = box score x mean joint score, else the box score.
        rescore_threshold: Joints above this score count in that mean.
        nms: ``greedy``, ``soft`` or ``off``: OKS non-maximum suppression.
        nms_threshold: Its OKS threshold.
        backend: Which library computes the figures: one of :data:`pose.evaluation.protocol.BACKENDS`.

    Raises:
        ValueError: A choice is unknown, or a threshold is outside [0, 1].
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    flip: bool = True
    flip_shift: int = FLIP_SHIFT
    decode: str = DECODER
    rescore: bool = True
    rescore_threshold: float = RESCORE_THRESHOLD
    nms: str = "greedy"
    nms_threshold: float = NMS_THRESHOLD
    backend: str = "pycocotools"

    def __post_init__(self) -> None:
        for name in ("rescore_threshold", "nms_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        check_choices(self)


def check_choices(settings: object) -> None:
    """Raises ValueError where a field that :data:`CHOICES` names has another value."""
    for name, known in CHOICES.items():
        if getattr(settings, name) not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(str, known))}, got {getattr(settings, name)!r}")


PUBLISHED = TestChoices()
"""With which the published COCO figures were made."""


@dataclass(frozen=True)
class TestProtocol:
    """The test protocol of one result, printed and saved with it.

    Args:
        boxes: ``annotated``, or the detections file's name.
        boxes_sha256: Hash of the detections file, see :func:`pose.files.sha256`.
        boxes_count: Number of boxes used, after the threshold.
        box_threshold: Detections scoring below it were left out.
        flip: Heatmaps averaged with those of the mirrored crop.
        flip_shift: Heatmap pixels by which the mirrored maps were shifted to the right: 0, 1 or 2.
        decode: One of :data:`pose.heatmap.DECODERS`.
        rescore: Person score = box score x mean joint score, else the box score alone.
        rescore_threshold: Joints at or below it do not count in that mean.
        nms: ``greedy``, ``soft`` or ``off``.
        nms_threshold: OKS above which greedy drops a person.
        backend: Which library computed the figures.
        skeleton: The skeleton's name.
        sigmas_estimated: The OKS sigmas are not the data set's own.
        model: The network's name or config.
        checkpoint, checkpoint_sha256: The weights' file name and hash.
        annotations, annotations_sha256: The annotation file's name and hash.
        areas_from_boxes: How many annotated persons have their box's area, not an outline's.
        notices: A line for each rule that changed or left out something, with its count (docs/custom_dataset.md#rules).
        versions: Library versions, see :func:`library_versions`.

    Raises:
        ValueError: An unknown choice, or a file of detections called ``annotated``.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    boxes: str = ANNOTATED
    boxes_sha256: str | None = None
    boxes_count: int | None = None
    box_threshold: float = 0.0
    flip: bool = PUBLISHED.flip
    flip_shift: int = PUBLISHED.flip_shift
    decode: str = PUBLISHED.decode
    rescore: bool = PUBLISHED.rescore
    rescore_threshold: float = PUBLISHED.rescore_threshold
    nms: str = PUBLISHED.nms
    nms_threshold: float = PUBLISHED.nms_threshold
    backend: str = PUBLISHED.backend
    skeleton: str = "coco"
    sigmas_estimated: bool = False
    model: str | None = None
    checkpoint: str | None = None
    checkpoint_sha256: str | None = None
    annotations: str | None = None
    annotations_sha256: str | None = None
    areas_from_boxes: int = 0
    notices: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choices(self)
        if self.annotated_boxes and self.boxes_sha256:
            raise ValueError("annotated boxes have no detections file, but boxes_sha256 is given")

    @property
    def annotated_boxes(self) -> bool:
        """Whether the crops were made from annotated boxes."""
        return self.boxes == ANNOTATED

    def differences(self) -> dict[str, object]:
        """The choices that are not those of the published figures, annotated boxes among them."""
        published = TestProtocol()
        names = ["flip", "decode", "rescore", "nms"]
        names += ["flip_shift"] if self.flip else []
        names += ["rescore_threshold"] if self.rescore else []
        names += ["nms_threshold"] if self.nms != "off" else []
        names += [] if self.annotated_boxes else ["box_threshold"]
        boxes = {"boxes": ANNOTATED} if self.annotated_boxes else {}
        return boxes | {name: getattr(self, name) for name in names if getattr(self, name) != getattr(published, name)}

    def describe(self) -> str:
        """The stamp as printable lines, one fact a line."""
        counted = "" if self.boxes_count is None else f", {self.boxes_count:,} boxes"
        hashed = _short(self.boxes_sha256)
        threshold = "" if self.annotated_boxes else f", scores from {self.box_threshold:g}"
        joints = f"box score x mean of joint scores above {self.rescore_threshold:g}"
        lines = {
            "boxes": f"{self.boxes}{hashed}{counted}{threshold}",
            "flip": f"averaged, shift {self.flip_shift}" if self.flip else "off",
            "decode": self.decode,
            "rescoring": joints if self.rescore else "off",
            "OKS-NMS": "off" if self.nms == "off" else f"{self.nms}, {self.nms_threshold:g}",
            "metric": f"{self.backend}, OKS of {self.skeleton}",
            "model": self.model,
            "checkpoint": self.checkpoint and self.checkpoint + _short(self.checkpoint_sha256),
            "annotations": self.annotations and self.annotations + _short(self.annotations_sha256),
            "versions": ", ".join(f"{name} {version}" for name, version in self.versions.items()),
        }
        text = [f"{name + ':':<13}{value}" for name, value in lines.items() if value]
        changed = {name: value for name, value in self.differences().items() if name != "boxes"}
        if changed:
            text.append("not as published: " + ", ".join(f"{name} {value}" for name, value in changed.items()))
        if self.annotated_boxes:
            text.append(NOT_COMPARABLE)
        if self.sigmas_estimated:
            text.append(ESTIMATED_SIGMAS)
        if self.areas_from_boxes:
            text.append(f"{AREAS_FROM_BOXES} ({self.areas_from_boxes:,} persons)")
        text += self.notices
        return "\n".join(text)

    def to_dict(self) -> dict[str, object]:
        """The fields as plain values that JSON can hold; :meth:`from_dict` reads them back."""
        return asdict(self) | {"notices": list(self.notices), "versions": dict(self.versions)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TestProtocol:
        """The stamp that :meth:`to_dict` wrote.

        Raises:
            OptionError: An unknown field or choice, or a value of another type than its field.
        """
        made: TestProtocol = options.build(cls, {**values, "notices": tuple(values.get("notices", ()))}, "protocol")
        return made


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a figure depends on, those that are installed."""
    versions = {"python": platform.python_version()}
    for name in ("torch", "numpy", "pycocotools", "faster-coco-eval", "opencv-python", "opencv-python-headless"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _short(digest: str | None) -> str:
    return f" (sha256 {digest[:12]})" if digest else ""
