"""The analysis as one HTML page that needs nothing else: figures, stamp, plots and crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from pycocotools.coco import COCO

from pose.errors import OutputError
from pose.evaluation.analysis.charts import bar_chart, line_chart
from pose.evaluation.analysis.error_types import GOOD, KINDS, NEAR
from pose.evaluation.analysis.gallery import CropGroup, make_gallery
from pose.evaluation.analysis.groups import NEIGHBOR_OVERLAP
from pose.evaluation.analysis.page import html_table, write_sections
from pose.evaluation.analysis.summary import CURVE_OKS, Analysis, Calibration, analyze
from pose.evaluation.matching import MATCH_OKS
from pose.evaluation.pck import FRACTIONS
from pose.evaluation.results import Results
from pose.files import make_folder
from pose.skeleton import Skeleton

PAGE = "report.html"


def make_report(
    folder: str | Path,
    results: Results,
    figures: Mapping[str, float],
    about: str,
    annotations: COCO,
    images: str | Path | None,
    skeleton: Skeleton,
) -> Path:
    """Analyses results and writes the page.

    Args:
        folder, figures, about: See :func:`write_report`.
        results: What the figures were computed from.
        annotations, images, skeleton: See :func:`~pose.evaluation.analysis.gallery.make_gallery`; without a
            folder of pictures there are no crops.

    Returns:
        The page's path.

    Raises:
        DataError: The annotations do not fit, or a picture is absent or broken.
        OutputError: The folder cannot be written.
    """
    analysis = analyze(results, annotations, skeleton)
    gallery: tuple[CropGroup, ...] = ()
    if images is not None and Path(images).is_dir():
        gallery = make_gallery(analysis, annotations, images, skeleton)
    return write_report(folder, analysis, figures, about, gallery)


def write_report(
    folder: str | Path,
    analysis: Analysis,
    figures: Mapping[str, float],
    about: str,
    gallery: Sequence[CropGroup] = (),
) -> Path:
    """Writes the page.

    Args:
        folder: The folder, which gets :data:`PAGE`.
        analysis: What was found out about the results.
        figures: COCO's ten figures.
        about: How the results came about, as :meth:`~pose.evaluation.protocol.TestProtocol.describe` says it.
        gallery: Crops; without any, the page says so.

    Returns:
        The page's path.

    Raises:
        OutputError: The folder cannot be written.
    """
    page = make_folder(folder) / PAGE
    sections = [
        ("Figures", html_table(list(figures), [list(map(_figure, figures.values()))]) + _pre(about)),
        ("Where the points are lost", _losses(analysis)),
        ("Keypoints", _keypoints(analysis)),
        ("Groups of persons", _groups(analysis)),
        ("Precision and recall", _curves(analysis)),
        ("Scores", _calibrations(analysis)),
        ("Crops", _shelves(gallery)),
    ]
    title = f"Pose evaluation: AP {_figure(figures['AP'])}"
    write_sections(page, title, sections)
    return page


def check_report_folder(folder: str | Path) -> Path:
    """The folder, made and writable.

    Raises:
        OutputError: It is not, or the page's place is taken by a folder.
    """
    folder = make_folder(folder)
    if (folder / PAGE).is_dir():
        raise OutputError(f"{folder / PAGE}: is a folder, where the report should be; choose another place")
    return folder


def _losses(analysis: Analysis) -> str:
    bars = {"as it is": [analysis.ap], **{f"{name} corrected": [ap] for name, ap in analysis.ap_without.items()}}
    rows = [
        [name, f"{analysis.counts[name]:,}" if name in analysis.counts else "", _figure(ap), _gain(ap, analysis.ap)]
        for name, ap in analysis.ap_without.items()
    ]
    labeled = sum(analysis.counts[kind] for kind in KINDS)
    shares = ", ".join(f"{kind} {analysis.counts[kind] / max(1, labeled):.1%}" for kind in KINDS)
    return (
        "<p>AP when one thing alone is put right. A keypoint is <b>good</b> where it is at least "
        f"{GOOD:g} similar to its place, a <b>jitter</b> from {NEAR:g} on, an <b>inversion</b> where it is at its "
        "mirror partner's place, a <b>swap</b> where it is on another person, else a <b>miss</b>; good keypoints stay "
        "where they are, so that not everything reaches 1. <b>Scores</b>: the "
        "same persons in their best order. <b>False persons</b> are on no annotated person, or a second time on one "
        f"(OKS below {MATCH_OKS:g} with any that is free). Classes after Ronchi and Perona, ICCV 2017.</p>"
        f"<p>Of {labeled:,} labelled keypoints of found persons: {shares}.</p>"
        + bar_chart(bars, ["AP"], 1.0, "AP after correcting each class")
        + html_table(["corrected", "count", "AP", "gain"], rows)
    )


def _keypoints(analysis: Analysis) -> str:
    wrong = {
        row.name: [row.kinds[kind] / max(1, sum(row.kinds.values())) for kind in KINDS[1:]]
        for row in analysis.keypoints
    }
    limit = max([0.05, *(sum(shares) for shares in wrong.values())])
    rows = [
        [row.name, f"{row.labeled:,}", _figure(row.ap), *map(_figure, row.pck), *map(str, row.kinds.values())]
        for row in analysis.keypoints
    ]
    heads = ["keypoint", "labelled", "AP", *(f"PCK@{fraction:g}" for fraction in FRACTIONS), *KINDS]
    return (
        "<p>AP of each keypoint alone; PCK: the share within that fraction of the longer side of the annotated box, "
        "keypoints of missed persons counted as wrong; then how many of found persons are of each class. The bars are "
        f"shares of the found, up to {limit:.0%}.</p>"
        + bar_chart(wrong, KINDS[1:], limit, "Share of each error class by keypoint")
        + html_table(heads, rows)
    )


def _groups(analysis: Analysis) -> str:
    text = (
        "<p>AP and AR of the results that belong to a group's persons. Size is the square root of the annotated area; "
        f"crowding is the number of other persons whose boxes overlap by {NEIGHBOR_OVERLAP:g} or more.</p>"
    )
    for name, groups in analysis.groups.items():
        rows = [
            [group.name, f"{group.persons:,}", str(group.missed), _figure(group.ap), _figure(group.ar)]
            for group in groups
        ]
        text += html_table([name, "persons", "missed", "AP", "AR"], rows)
    return text


def _curves(analysis: Analysis) -> str:
    series = {f"OKS {oks:g}": (analysis.recall, line) for oks, line in zip(CURVE_OKS, analysis.precision, strict=True)}
    return line_chart(series, "recall", "precision")


def _calibrations(analysis: Analysis) -> str:
    def chart(calibration: Calibration, x_label: str, y_label: str) -> str:
        return line_chart(
            {y_label: (calibration.scores, calibration.correct)}, x_label, y_label, marked=True, diagonal=True
        )

    return (
        "<p>Ten equally large parts by rising score; on the dashed line a score says what was reached.</p>"
        f'<div class="side">{chart(analysis.persons, "person score", "OKS reached")}'
        f"{chart(analysis.joints, 'joint score', f'share at least {NEAR:g} similar')}</div>"
    )


def _shelves(gallery: Sequence[CropGroup]) -> str:
    if not gallery:
        return "<p>The pictures were not at hand.</p>"
    text = ""
    for group in gallery:
        crops = "".join(
            f'<figure><img src="{source}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
            for caption, source in group.crops
        )
        text += f'<h3>{escape(group.title)}</h3><div class="side">{crops or "<p>none</p>"}</div>'
    return text


def _pre(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def _figure(value: float) -> str:
    """-1 stands for a figure about nobody."""
    return "n/a" if value < 0 else f"{value:.3f}"


def _gain(ap: float, before: float) -> str:
    return "n/a" if ap < 0 or before < 0 else f"{ap - before:+.3f}"
