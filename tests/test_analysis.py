"""Error classes, groups and curves: real annotations disturbed in known ways, and small cases worked out by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pose.evaluation.analysis.groups import by_size, group_figures
from pose.evaluation.analysis.summary import analyze, person_calibration
from pose.evaluation.coco_backend import indexed
from pose.evaluation.coco_eval import figures_of, load_annotations
from pose.evaluation.matching import match, read_truth
from pose.evaluation.oks import keypoint_similarity
from pose.evaluation.pck import FRACTIONS, pck
from pose.evaluation.results import Results
from pose.skeleton import COCO

SIGMAS = np.array(COCO.sigmas)


class Disturbed:
    """Results made from annotations: exact, but for changes that are known one by one.

    Attributes:
        changes: Of (kind, annotated person, keypoint, the place it is moved to).
        missed: Annotated persons left out.
        invented: (image, score) of persons far from everyone.
    """

    def __init__(self, annotations, seed=0):
        self.truth = read_truth(annotations, COCO)
        rng = np.random.default_rng(seed)
        self.scores = rng.uniform(0.2, 1, len(self.truth))
        full = np.flatnonzero(self.truth.counts & (self.truth.labeled.sum(axis=1) >= 8) & (self.truth.areas > 32**2))
        self.missed = full[::17]
        self.changes = []
        kinds = ("jitter", "inversion", "swap", "miss")
        for turn, person in enumerate(np.setdiff1d(full, self.missed)):
            for joint in rng.permutation(np.flatnonzero(self.truth.labeled[person]))[:2]:
                place = getattr(self, kinds[turn % 4])(person, joint, rng)
                if place is not None:
                    self.changes.append((kinds[turn % 4], person, joint, place))
        images = np.unique(self.truth.image_ids)[::6]
        self.invented = [(image, score) for image, score in zip(images, rng.uniform(0.2, 1, len(images)), strict=True)]

    def near(self, place, person, joint):
        """How similar a place is to a keypoint of a person."""
        point, area = self.truth.keypoints[person, joint, :2], self.truth.areas[person]
        return keypoint_similarity(np.array([place]), point[None], area, SIGMAS[[joint]])[0]

    def jitter(self, person, joint, rng):
        reach = np.sqrt(-2 * np.log(0.7) * self.truth.areas[person]) * 2 * SIGMAS[joint]
        angle = rng.uniform(0, 2 * np.pi)
        return self.truth.keypoints[person, joint, :2] + reach * np.array([np.cos(angle), np.sin(angle)])

    def inversion(self, person, joint, rng):
        partner = COCO.flip_index[joint]
        place = self.truth.keypoints[person, partner, :2]
        usable = partner != joint and self.truth.labeled[person, partner] and self.near(place, person, joint) < 0.45
        return place if usable else None

    def swap(self, person, joint, rng):
        for other in np.flatnonzero(self.truth.image_ids == self.truth.image_ids[person]):
            place = self.truth.keypoints[other, joint, :2]
            own = max(self.near(place, person, joint), self.near(place, person, COCO.flip_index[joint]))
            if other != person and self.truth.labeled[other, joint] and own < 0.45:
                return place
        return None

    def miss(self, person, joint, rng):
        return np.array([-3000.0, -3000.0])

    def results(self, without=()):
        keypoints = self.truth.keypoints.copy()
        middle = self.truth.boxes[:, None, :2] + self.truth.boxes[:, None, 2:] / 2
        keypoints[..., :2] = np.where(self.truth.labeled[..., None], keypoints[..., :2], middle)
        for kind, person, joint, place in self.changes:
            if kind not in without:
                keypoints[person, joint, :2] = place
        shown = self.truth.counts.copy()
        if "missed persons" not in without:
            shown[self.missed] = False
        invented = [] if "false persons" in without else self.invented
        far = 9000 + np.random.default_rng(1).uniform(0, 100, (len(invented), 17, 3))
        return Results(
            np.concatenate([self.truth.image_ids[shown], np.array([image for image, _ in invented], np.int64)]),
            np.concatenate([keypoints[shown], far]),
            np.concatenate([self.scores[shown], [score for _, score in invented]]),
        )


def every(step, annotations):
    """The annotations of every so many images."""
    images = annotations.dataset["images"][::step]
    kept = {image["id"] for image in images}
    persons = [person for person in annotations.dataset["annotations"] if person["image_id"] in kept]
    return indexed({**annotations.dataset, "images": images, "annotations": persons})


@pytest.fixture(scope="module", params=["drawn", "real"])
def annotations(request):
    if request.param == "drawn":
        return load_annotations(Path(__file__).parent / "data" / "keypoint_check" / "annotations.json")
    folder = request.getfixturevalue("shared_data") / "coco_eval_reference"
    return every(2, load_annotations(folder / "person_keypoints_val2017_half.json"))


@pytest.fixture(scope="module")
def disturbed(annotations):
    return Disturbed(annotations)


@pytest.fixture(scope="module")
def found(disturbed, annotations):
    return analyze(disturbed.results(), annotations, COCO)


def test_every_class_has_its_known_count(disturbed, found):
    kinds = [kind for kind, *_ in disturbed.changes]
    known = {kind: kinds.count(kind) for kind in ("jitter", "inversion", "swap", "miss")}
    assert min(known.values()) > 20
    shown = disturbed.truth.counts.copy()
    shown[disturbed.missed] = False
    known["good"] = int(disturbed.truth.labeled[shown].sum()) - len(kinds)
    known["false persons"], known["missed persons"] = len(disturbed.invented), len(disturbed.missed)
    assert found.counts == known


def test_every_keypoint_has_its_known_count(disturbed, found):
    for joint, row in enumerate(found.keypoints):
        for kind in ("jitter", "inversion", "swap", "miss"):
            known = sum(change[0] == kind and change[2] == joint for change in disturbed.changes)
            assert row.kinds[kind] == known, (row.name, kind)


def test_correcting_a_class_gives_the_ap_of_results_without_it(disturbed, found, annotations):
    assert found.ap == figures_of(disturbed.results(), annotations)["AP"]
    for kind in ("jitter", "inversion", "swap", "miss", "false persons"):
        without = figures_of(disturbed.results(without=[kind]), annotations)["AP"]
        assert found.ap_without[kind] == without > found.ap, kind
    keypoints = figures_of(disturbed.results(without=["jitter", "inversion", "swap", "miss"]), annotations)["AP"]
    assert found.ap_without["all keypoints"] == keypoints > max(found.ap_without[kind] for kind in ("miss", "swap"))
    assert found.ap < found.ap_without["scores"] < 1
    assert found.ap < found.ap_without["missed persons"] < 1
    assert found.ap_without["everything"] == pytest.approx(1)


def test_exact_results_have_no_error(annotations):
    annotations = every(4, annotations)
    nothing = ["jitter", "inversion", "swap", "miss", "false persons", "missed persons"]
    exact = analyze(Disturbed(annotations).results(without=nothing), annotations, COCO)
    assert exact.ap == pytest.approx(1) and exact.person_oks == pytest.approx(1)
    assert sum(exact.counts.values()) == exact.counts["good"]
    assert all(row.ap == pytest.approx(1) and row.pck == (1, 1, 1) for row in exact.keypoints)
    groups = [row for rows in exact.groups.values() for row in rows if row.persons]
    assert len(groups) > 8 and all(row.ap == pytest.approx(1) and row.missed == 0 for row in groups)


def test_pck_counts_keypoints_of_missed_persons_as_wrong(disturbed, found, annotations):
    truth, hits = disturbed.truth, np.zeros(len(FRACTIONS))
    for joint, row in enumerate(found.keypoints):
        shown = truth.labeled[:, joint] & truth.counts
        distance = np.zeros(len(truth))
        for _, person, changed, place in disturbed.changes:
            if changed == joint:
                distance[person] = np.linalg.norm(place - truth.keypoints[person, joint, :2])
        distance[disturbed.missed] = np.inf
        correct = distance / truth.boxes[:, 2:].max(axis=1) <= np.array(FRACTIONS)[:, None]
        assert row.labeled == shown.sum()
        assert row.pck == pytest.approx(correct[:, shown].mean(axis=1))
        hits += correct[:, shown].sum(axis=1)
    shares = pck(found.results, annotations, COCO)
    assert list(shares) == ["PCK@0.05", "PCK@0.1", "PCK@0.2"]
    assert list(shares.values()) == pytest.approx(hits / (truth.labeled & truth.counts[:, None]).sum())


def test_groups_hold_every_counted_person_once(disturbed, found):
    for rows in found.groups.values():
        assert sum(row.persons for row in rows) == disturbed.truth.counts.sum()
        assert sum(row.missed for row in rows) == len(disturbed.missed)
    sizes = {row.name: row for row in found.groups["size"]}
    root = np.sqrt(disturbed.truth.areas[disturbed.truth.counts])
    assert sizes["64 to 96 px"].persons == ((root >= 64) & (root < 96)).sum()
    assert list(sizes)[-1] == "192 px or more"
    labeled = {row.name: row for row in found.groups["labelled keypoints"]}
    assert list(labeled) == ["1 to 5", "6 to 10", "11 to 15", "16 or more"]
    assert labeled["1 to 5"].ap == pytest.approx(1)  # nobody with fewer than 8 was disturbed
    assert labeled["11 to 15"].ap < 1
    alone = [row.name for row in found.groups["crowding"]]
    assert alone == ["0", "1", "2 to 3", "4 or more"]


def test_a_group_answers_for_its_own_persons_only(disturbed, annotations):
    small = np.sqrt(disturbed.truth.areas) < 64
    only_large = Disturbed(annotations)
    only_large.changes = [change for change in disturbed.changes if not small[change[1]]]
    only_large.missed = disturbed.missed[~small[disturbed.missed]]
    results, truth = only_large.results(), only_large.truth
    matches = match(results, annotations, COCO)
    sizes = {row.name: row for row in group_figures(by_size(truth), results, annotations, COCO, truth, matches)}
    assert sizes["32 to 64 px"].ap == sizes["32 to 64 px"].ar == pytest.approx(1)
    assert sizes["96 to 192 px"].ap < 1


def test_curves_are_those_of_cocoeval(found):
    assert found.recall.shape == (101,) and found.precision.shape == (3, 101)
    assert (np.diff(found.precision, axis=1) <= 1e-12).all()  # interpolated precision never rises
    assert (found.precision[0] >= found.precision[2]).all()


def test_calibration_compares_scores_with_what_was_reached(found):
    reached = np.zeros(len(found.results))
    reached[found.matches.rows] = found.person_oks
    honest = person_calibration(replace(found.results, scores=reached), found.matches, found.person_oks)
    np.testing.assert_allclose(honest.scores, honest.correct)
    assert (np.diff(honest.scores) >= 0).all()
    assert found.joints.scores[0] < found.joints.scores[-1]
    assert np.abs(found.persons.scores - found.persons.correct).max() > 0.1  # random scores say nothing


def test_no_results_are_all_missed(annotations):
    annotations = every(4, annotations)
    empty = analyze(Results(np.zeros(0, np.int64), np.zeros((0, 17, 3)), np.zeros(0)), annotations, COCO)
    assert empty.ap == 0 and empty.counts["missed persons"] == read_truth(annotations, COCO).counts.sum()
    assert empty.ap_without["missed persons"] == pytest.approx(1)
