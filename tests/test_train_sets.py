"""Several training sets: keypoints by name, weights that are exact, confidences, and an order that resumes exactly."""

import json
import os
import signal
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_project import run_tool  # noqa: F401
from tiny import same, tiny_settings, write_config, write_tiny_set

from pose import heatmap
from pose.checkpoint import load_checkpoint
from pose.config import load_settings
from pose.datasets.augment import Augmentation
from pose.datasets.coco import read_annotations
from pose.datasets.crops import CropDataset
from pose.datasets.loading.order import EpochBatches
from pose.datasets.train_set import TrainSet
from pose.datasets.train_sets import held_out, read_train_sets
from pose.engine.train import train
from pose.engine.trainer import Trainer
from pose.engine.training_data import make_train_dataset, prepare_data
from pose.errors import DataError
from pose.skeleton import COCO, Skeleton

MINE = Skeleton("mine", ("neck", "right_wrist", "left_ankle"))
"""Two of COCO's keypoints in another order, and one that COCO does not have."""

DATA = Path(os.environ.get("POSE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with two sets: COCO's keypoints in ``one``, three of another skeleton in ``two``."""
    root = tmp_path_factory.mktemp("sets")
    write_tiny_set(root / "one", train=4)
    write_tiny_set(root / "two", train=3, seed=1)
    path = root / "two" / "annotations" / "person_keypoints_train2017.json"
    file = json.loads(path.read_text())
    for person in file["annotations"]:
        points = np.reshape(person["keypoints"], (17, 3))
        person["keypoints"] = points[[0, 10, 15]].ravel().tolist()  # the nose stands for the neck
    path.write_text(json.dumps(file))
    (root / "mine.json").write_text(json.dumps(asdict(MINE)))
    return root


def sets(root, **second):
    names = "annotations/person_keypoints_train2017.json", "train2017"
    one = TrainSet(*(f"one/{name}" for name in names))
    two = TrainSet(*(f"two/{name}" for name in names), skeleton=str(root / "mine.json"))
    return one, replace(two, **second)


def annotations(root):
    path = root / "two" / "annotations" / "person_keypoints_train2017.json"
    return json.loads(path.read_text())["annotations"]


def test_keypoints_are_matched_by_name_and_what_a_set_lacks_weighs_nothing(root):
    persons, folder, draws, told = read_train_sets(sets(root), root, COCO)
    assert draws == ((8, 1.0), (6, 1.0)) and len(persons) == 14
    first = read_annotations(root / "one" / "annotations" / "person_keypoints_train2017.json", COCO)
    np.testing.assert_array_equal(persons.keypoints[:8], first.keypoints)
    for row, person in enumerate(annotations(root), 8):
        points = np.reshape(person["keypoints"], (3, 3))
        labeled = np.flatnonzero(persons.weights[row])
        assert labeled.tolist() == [COCO.keypoints.index("right_wrist"), COCO.keypoints.index("left_ankle")]
        np.testing.assert_allclose(persons.keypoints[row, labeled], points[1:])
        name = persons.file_names[persons.image_index[row]].decode()
        assert (folder / name).is_file() and name.startswith("two/train2017")
        np.testing.assert_allclose(persons.boxes[row], person["bbox"], atol=1)  # clipped to its pixels
    assert told[1] == "person_keypoints_train2017: 6 persons with 12 joints"


def test_a_batch_of_several_sets_holds_their_pictures_and_the_weights_reach_the_loss(root):
    persons, folder, *_ = read_train_sets(sets(root), root, COCO)
    alone = CropDataset(persons.take(slice(8, 14)), folder, COCO, (32, 64))
    together = CropDataset(persons, folder, COCO, (32, 64))
    batch = together.__getitems__([(0, 9, 0), (0, 0, 0)])
    np.testing.assert_array_equal(batch.crops[0], alone[0, 1].crops[0])
    assert batch.labeled.sum(1).tolist() == [2, 17]
    target, weights = heatmap.encode(*map(torch.from_numpy, (batch.keypoints, batch.weights)), (8, 16))
    predicted = torch.rand(target.shape)
    loss = heatmap.mean_squared_loss(predicted, target, weights)
    lacking = ~torch.from_numpy(batch.labeled[0])
    predicted[0, lacking] += 5
    assert heatmap.mean_squared_loss(predicted, target, weights) == loss
    predicted[1] += 5
    assert heatmap.mean_squared_loss(predicted, target, weights) > loss


def test_a_keypoint_of_half_the_weight_adds_half_to_the_loss():
    keypoints, weights = torch.full((1, 2, 2), 16.0), torch.tensor([[0.5, 0.0]])
    halved, carried = heatmap.encode(keypoints, weights, (8, 8))
    full, ones = heatmap.encode(keypoints, torch.tensor([[True, False]]), (8, 8))
    assert torch.equal(halved, full)  # the target keeps its height
    assert carried.tolist() == [[0.5, 0.0]]
    predicted = torch.rand(1, 2, 8, 8)
    loss = heatmap.mean_squared_loss(predicted, full, ones)
    torch.testing.assert_close(heatmap.mean_squared_loss(predicted, halved, carried), loss / 2)


@pytest.mark.parametrize("weighted", [False, True])
def test_joints_of_a_network_stand_in_for_what_a_set_lacks_where_they_are_sure(root, weighted):
    people = annotations(root)
    joints = {str(person["id"]): [[1.0, 2.0, 0.2 + 0.05 * joint] for joint in range(17)] for person in people[:-1]}
    (root / "joints.json").write_text(json.dumps(joints))
    options = dict(extra_joints="joints.json", least_confidence=0.5, confidence_weight=weighted)
    persons, _, _, told = read_train_sets(sets(root, **options), root, COCO)
    own = [COCO.keypoints.index(name) for name in ("right_wrist", "left_ankle")]  # 10 and 15
    sure = [joint for joint in range(17) if joint in own or 0.2 + 0.05 * joint > 0.499]
    assert np.flatnonzero(persons.weights[8]).tolist() == sure
    confidence = np.float32(0.2 + 0.05 * 7) if weighted else 1
    np.testing.assert_allclose(persons.weights[8][[7, 10, 15]], [confidence, 1, 1])
    assert persons.keypoints[8, 7].tolist() == [1, 2, 2] and persons.keypoints[8, 0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(persons.keypoints[8, 10], people[0]["keypoints"][3:6])
    assert np.flatnonzero(persons.weights[13]).tolist() == own  # the file does not name the last person
    assert "left out: 30 joints below confidence 0.5" in told[1]


def test_confidences_in_the_annotations_decide_what_is_learned_from(root, tmp_path):
    for name in ("one", "two", "mine.json"):
        (tmp_path / name).symlink_to(root / name)
    file = {"images": [], "annotations": annotations(root), "categories": []}
    file["images"] = json.loads((root / "two/annotations/person_keypoints_train2017.json").read_text())["images"]
    for person in file["annotations"][:4]:
        person["confidences"] = [0.9, 0.8, 0.1]
    file["annotations"][0]["confidences"] = [0.9, 0.2, 0.1]
    (tmp_path / "network.json").write_text(json.dumps(file))
    options = dict(annotations="network.json", confidence_weight=True)
    persons, _, draws, told = read_train_sets(sets(tmp_path, **options), tmp_path, COCO)
    assert draws[1] == (5, 1.0)  # the first has no joint left
    np.testing.assert_allclose(persons.weights[8:, [10, 15]], [[0.8, 0]] * 3 + [[1, 1]] * 2)
    assert "1 persons without a keypoint to learn from, 5 joints below confidence 0.3" in told[1]
    file["annotations"][2]["confidences"] = [0.9]
    (tmp_path / "network.json").write_text(json.dumps(file))
    with pytest.raises(DataError, match="network.json: the confidences of an annotation must be 3 numbers"):
        read_train_sets(sets(tmp_path, **options), tmp_path, COCO)


def network_labels(root, folder, change):
    """Options of a second set in ``folder``, a copy of the second's annotations with ``change`` made to it."""
    for name in ("one", "two", "mine.json"):
        (folder / name).symlink_to(root / name)
    file = json.loads((root / "two/annotations/person_keypoints_train2017.json").read_text())
    change(file)
    (folder / "network.json").write_text(json.dumps(file))
    return dict(annotations="network.json", confidence_weight=True, least_confidence=0.0)


def test_confidences_go_with_the_keypoints_that_the_file_names_in_another_order(root, tmp_path):
    def turn(file):
        file["categories"][0]["keypoints"] = list(MINE.keypoints[::-1])
        for person in file["annotations"]:
            person["keypoints"] = np.reshape(person["keypoints"], (3, 3))[::-1].ravel().tolist()
            person["confidences"] = [0.9, 0.5, 0.1]  # ankle, wrist, neck

    persons = read_train_sets(sets(tmp_path, **network_labels(root, tmp_path, turn)), tmp_path, COCO).persons
    np.testing.assert_allclose(persons.weights[8:][:, [10, 15]], [[0.5, 0.9]] * 6)


@pytest.mark.parametrize("value", [None, float("nan"), 95, -0.1])
def test_confidences_that_are_none_are_refused_with_the_annotation(root, tmp_path, value):
    def spoil(file):
        file["annotations"][1].update(id=77, confidences=[0.5, value, 0.5])

    options = network_labels(root, tmp_path, spoil)
    with pytest.raises(DataError, match="the confidences of annotation 77 must be numbers from 0 to 1"):
        read_train_sets(sets(tmp_path, **options), tmp_path, COCO)


def test_a_networks_joints_go_by_the_ids_that_are_written_and_who_has_none_is_told(root, tmp_path):
    def repeat(file):
        file["annotations"][1]["id"] = file["annotations"][0]["id"]

    options = network_labels(root, tmp_path, lambda file: None)
    people = json.loads((tmp_path / "network.json").read_text())["annotations"]
    joints = {str(person["id"]): [[1.0, 2.0, 0.9]] * 17 for person in people[:4]}
    (tmp_path / "joints.json").write_text(json.dumps(joints))
    options |= dict(extra_joints="joints.json")
    told = read_train_sets(sets(tmp_path, **options), tmp_path, COCO).told
    assert told[1].endswith("; 2 persons are not in joints.json")
    (tmp_path / "joints.json").write_text(json.dumps({"9999": [[1.0, 2.0, 0.9]] * 17}))
    with pytest.raises(DataError, match="joints.json: names none of the 6 persons of .*network.json"):
        read_train_sets(sets(tmp_path, **options), tmp_path, COCO)
    (tmp_path / "repeated").mkdir()
    network_labels(root, tmp_path / "repeated", repeat)
    (tmp_path / "repeated" / "joints.json").write_text(json.dumps(joints))
    with pytest.raises(DataError, match="network.json: ids of annotations are repeated, but .*joints.json goes by"):
        read_train_sets(sets(tmp_path / "repeated", **options), tmp_path / "repeated", COCO)


def test_what_one_set_holds_out_no_other_set_trains_on(root, tmp_path):
    link = tmp_path / "elsewhere"
    link.symlink_to(root / "two" / "train2017")
    _, two = sets(root)
    held = replace(two, hold_out=1)
    again = replace(two, images=str(link))
    persons, _, draws, told = read_train_sets([held, again], root, COCO)
    assert draws == ((4, 1.0), (4, 1.0))
    assert told[0].endswith("1 pictures held out") and told[1].endswith("1 pictures that other sets hold out")
    assert len(read_train_sets([two, again], root, COCO).persons) == 12


@pytest.mark.parametrize("name", ["train2017/{}", "/home/me/train2017/{}", r"C:\me\train2017\{}", r"train2017\{}"])
def test_pictures_are_found_by_the_same_names_in_one_set_and_in_several(root, tmp_path, name):
    def rename(file):
        for image in file["images"]:
            image["file_name"] = name.format(image["file_name"])

    one, two = sets(tmp_path, **network_labels(root, tmp_path, rename))
    for chosen in ([two], [one, two]):
        persons, folder, *_ = read_train_sets(chosen, tmp_path, COCO)
        assert not CropDataset(persons, folder, COCO, (32, 64)).problems
    file, _ = held_out([one, replace(two, hold_out=2)], tmp_path, COCO)
    assert all((tmp_path / image["file_name"]).is_file() for image in file["images"]) and len(file["images"]) == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (dict(extra_joints="no.json"), "no.json"),
        (dict(extra_joints="mine.json"), "mine.json: needs an object from annotation id to 17 times x, y, confidence"),
        (dict(annotations="no.json"), "no.json"),
        (dict(skeleton=None), "has 9 keypoint numbers, the skeleton 'coco' needs 51"),
        (dict(skeleton="no.json"), "skeleton of person_keypoints_train2017: skeleton 'no.json' is neither built in"),
        (dict(hold_out=3), "cannot hold out 3 of 3 pictures"),
        (dict(images="nowhere"), "nowhere"),
    ],
)
def test_a_set_that_cannot_be_used_is_told(root, tmp_path, options, told):
    for name in ("one", "two"):
        (tmp_path / name).symlink_to(root / name)
    (tmp_path / "mine.json").write_text(json.dumps({str(p["id"]): 3 for p in annotations(root)}))
    second = {"skeleton": str(root / "mine.json"), **options}
    with pytest.raises(DataError) as error:
        persons, folder, *_ = read_train_sets(sets(root, **second), tmp_path, COCO)
        CropDataset(persons, folder, COCO, (32, 64))
    assert told in str(error.value)


def drawn(draws, epoch, seed=0):
    """How often each row is drawn in an epoch, and all (row, copy)."""
    order = EpochBatches(sum(count for count, _ in draws), 1, True, seed, draws=draws)
    order.epoch = epoch
    keys = [(row, copy) for ((_, row, copy),) in order]
    return Counter(row for row, _ in keys), keys


def test_a_weight_is_how_often_each_person_is_drawn():
    draws = ((10, 1.0), (8, 2.0), (100, 0.25), (4, 1.5))
    share = []
    for epoch in range(40):
        times, keys = drawn(draws, epoch)
        assert len(keys) == len(set(keys)) == 10 + 16 + 25 + 6  # no copy is drawn twice, and every epoch is as long
        assert [times[row] for row in range(18)] == [1] * 10 + [2] * 8
        assert sum(times[row] for row in range(18, 118)) == 25 and max(times[row] for row in range(18, 118)) == 1
        assert sorted(times[row] for row in range(118, 122)) == [1, 1, 2, 2]
        share.append([times[row] for row in range(18, 118)])
    assert (np.sum(share, axis=0) > 0).all()  # the quarter is another one in each epoch
    assert drawn(draws, 3) == drawn(draws, 3) and drawn(draws, 3)[1] != drawn(draws, 3, seed=1)[1]


def test_sets_of_weight_one_are_drawn_as_one_set_always_was():
    assert drawn(((10, 1.0), (8, 1.0)), 2)[1] == drawn(((18, 1.0),), 2)[1]


def test_a_person_that_is_drawn_twice_is_augmented_twice(root):
    persons, folder, *_ = read_train_sets(sets(root), root, COCO)
    dataset = CropDataset(persons, folder, COCO, (32, 64), Augmentation(rotation_probability=1.0))
    first, second, again = (dataset.crop_of(1, 3, copy).rotation for copy in (0, 1, 1))
    assert first != second == again and first == dataset.crop_of(1, 3).rotation


SETTINGS = dict(train=dict(epochs=3, validate_every=3, checkpoint_minutes=0.0, average_decay=0.9))


def several(root, **train):
    """Settings with two sets, weights, a network's joints and a crop cache."""
    people = annotations(root)
    joints = {str(person["id"]): [[20.0, 20.0 + joint, 0.05 * joint] for joint in range(17)] for person in people}
    (root / "some_joints.json").write_text(json.dumps(joints))
    one, two = sets(root, weight=1.5, extra_joints="some_joints.json", confidence_weight=True, hold_out=1)
    val = dict(annotations="one/annotations/person_keypoints_val2017.json", images="one/val2017", boxes="annotated")
    data = dict(train=[asdict(replace(one, weight=2.25)), asdict(two)], val=val, crop_cache="crops")
    return tiny_settings(root, data=data, train={**SETTINGS["train"], **train})


def test_training_on_several_sets_stopped_by_sigterm_ends_with_the_weights_of_a_straight_run(
    root, tmp_path, monkeypatch, capsys
):
    train(several(root), tmp_path / "straight", "cpu")
    said = capsys.readouterr().out
    assert "training set person_keypoints_train2017: 8 persons with 136 joints, drawn 2.25 times\n" in said
    assert "training set person_keypoints_train2017: 4 persons with 44 joints, drawn 1.5 times; left out: " in said
    assert "1 pictures held out" in said
    told = json.loads((tmp_path / "straight" / "data.json").read_text())
    assert told.keys() == {"training", "validation"}
    assert all(f"{split} set {line}\n" in said for split, lines in told.items() for line in lines)
    assert "areas from boxes" in told["validation"][-1]
    learn, steps = Trainer.learn, []

    def learn_and_raise(self, *batch):
        steps.append(batch[0].clone())
        if len(steps) == 7:
            signal.raise_signal(signal.SIGTERM)
        return learn(self, *batch)

    monkeypatch.setattr(Trainer, "learn", learn_and_raise)
    assert train(several(root), tmp_path / "run", "cpu")["stopped"] == signal.SIGTERM
    last = load_checkpoint(tmp_path / "run" / "last.pth")
    assert (last["epoch"], last["batches"]) == (1, 1)  # 2.25 x 8 + 1.5 x 4 = 24 draws are 6 batches of 4
    assert last["order"]["draws"] == [[8, 2.25], [4, 1.5]]
    train(several(root), tmp_path / "run", "cpu", resume=True)
    assert len(steps) == 3 * 6
    straight, resumed = (load_checkpoint(tmp_path / name / "last.pth") for name in ("straight", "run"))
    for key in straight:
        if key not in ("seconds", "waited"):
            assert same(straight[key], resumed[key]), key


def test_the_crop_cache_of_several_sets_holds_them_all(root):
    dataset = make_train_dataset(several(root))
    assert dataset.source.path.parent == root / "crops" and len(dataset) == len(dataset.source.places) == 12
    assert (dataset.source.places[:, 1] > 0).all()


def test_the_held_out_pictures_of_all_sets_become_one_file(root, tmp_path, run_tool):  # noqa: F811
    base = several(root).to_dict()["data"]
    base["train"][0]["hold_out"] = 2
    base["val"] = dict(annotations=str(tmp_path / "held_out.json"), images=".", boxes="annotated")
    config = write_config(tmp_path / "config.py", root, data=base)
    status, printed, error = run_tool("split_dataset.py", config)
    assert status == 0, error
    *notices, line = printed.splitlines()
    assert line == f"{tmp_path / 'held_out.json'}: 3 pictures, 6 persons"
    assert any("2 persons whose num_keypoints is wrong: counted anew" in each for each in notices)
    settings = load_settings(config)
    held = read_annotations(tmp_path / "held_out.json", COCO)
    learned, folder, *_ = read_train_sets(settings.data.train, root, COCO)
    assert len(held) == 6 and len(learned) == 4 + 4
    assert not set(held.file_names) & set(learned.file_names[learned.image_index])
    assert all((root / name.decode()).is_file() for name in held.file_names)
    assert (held.keypoints[..., 2] > 0).sum(1).tolist() == [17] * 4 + [11] * 2
    whole = read_train_sets([replace(each, hold_out=0) for each in settings.data.train], root, COCO).persons
    everyone = {tuple(box) for box in whole.boxes.tolist()}
    assert {tuple(box) for box in held.boxes.tolist()} | {tuple(box) for box in learned.boxes.tolist()} == everyone


def test_validating_on_training_pictures_is_told_and_refused_where_some_are_held_out(root):
    settings = several(root)
    data = {**settings.to_dict()["data"], "crop_cache": None}
    names = dict(annotations="one/annotations/person_keypoints_train2017.json", images="one/train2017")
    val = {**data["val"], **names}
    with pytest.raises(DataError, match="4 of 4 pictures are trained on, although .*split_dataset.py CONFIG"):
        prepare_data(tiny_settings(root, data={**data, "val": val}))
    for each in data["train"]:
        each["hold_out"] = 0
    told = prepare_data(tiny_settings(root, data={**data, "val": val})).told["validation"]
    assert told[-1].endswith("4 of 4 pictures are trained on, too: its figures say nothing of other pictures")


@pytest.mark.parametrize("option", [("--images", "."), ("--hold-out", "3"), ("--seed", "0"), ("--category", "person")])
def test_options_of_an_annotation_file_are_refused_with_a_configuration(root, tmp_path, run_tool, option):  # noqa: F811
    config = write_config(tmp_path / "config.py", root, data=several(root).to_dict()["data"])
    status, _, error = run_tool("split_dataset.py", config, *option)
    assert status == 2 and f"{option[0]}: is for annotation files; of {config} its own values are taken" in error


@pytest.mark.skipif(not (DATA / "lsp").is_dir() or not (DATA / "people").is_dir(), reason="needs the shared data")
def test_leeds_sports_pose_gets_its_faces_from_a_network():
    base = load_settings("configs/people/mobilenet_v2_x1.0_type_b_static.py")
    lsp = base.data.train[-1]
    joints = json.loads((DATA / "people" / "lsp_network_joints.json").read_text())
    persons = read_train_sets([lsp], DATA / "people", COCO).persons
    assert len(persons) == 10998 - lsp.hold_out
    by_id = {str(each): row for row, each in enumerate(persons.annotation_ids.tolist())}
    for annotation_id in list(by_id)[::500]:
        face = np.array(joints[annotation_id])[:5]
        labeled = persons.keypoints[by_id[annotation_id], :5, 2] > 0
        np.testing.assert_array_equal(labeled, face[:, 2] >= lsp.least_confidence)
        np.testing.assert_allclose(persons.keypoints[by_id[annotation_id], :5, :2][labeled], face[labeled, :2])
    file = json.loads((DATA / "lsp" / "person_keypoints_train.json").read_text())
    by_name = {person["id"]: np.reshape(person["keypoints"], (14, 3)) for person in file["annotations"]}
    row = 77
    own = by_name[int(persons.annotation_ids[row])][0]  # the right ankle
    np.testing.assert_allclose(persons.keypoints[row, 16], own, rtol=1e-6)
