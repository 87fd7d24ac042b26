"""The crop cache and reduced decoding: faster ways to the same crops, which move nothing and are never out of date."""

import os
from dataclasses import replace

import cv2
import numpy as np
import pytest
from tiny import centroid, dot_image, person, write_coco

from pose.datasets.augment import Augmentation
from pose.datasets.coco import read_annotations
from pose.datasets.crop_regions import MARGIN, crop_regions, reach
from pose.datasets.crops import CropDataset
from pose.datasets.image_folder import reduction_for
from pose.datasets.images import decode_image, read_image
from pose.errors import DataError
from pose.geometry import apply_affine, crop_affine, invert_affine
from pose.skeleton import COCO

SIZE = (48, 64)
STEP = 4  # input pixels per heatmap pixel
UPPER = np.isin(np.arange(17), COCO.upper_body)


@pytest.fixture
def root(tmp_path):
    """Pictures of 331 x 257 pixels, a person each, with a dot of their size at the first keypoint."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    images, annotations = [], []
    for number in range(1, 9):
        extent = rng.uniform(30, 240)
        corner = rng.uniform(4, (327 - 0.6 * extent, 253 - extent))
        points = corner + rng.uniform(0, (0.6 * extent, extent), (17, 2))
        people = np.concatenate([points, np.full((17, 1), 2)], axis=1)
        image = dot_image(points[:1], 331, 257, spread=max(extent / 30, 1.5))
        cv2.imwrite(str(folder / f"{number}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 97])
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 331, "height": 257})
        annotations.append(person(number, number, people))
    write_coco(tmp_path / "annotations.json", images, annotations)
    return tmp_path


@pytest.fixture
def persons(root):
    return read_annotations(root / "annotations.json", COCO)


@pytest.fixture
def dataset(root, persons):
    said = []

    def make(augmentation=Augmentation(), cached=True, **options):  # noqa: B008, frozen
        cache = root / "cache" if cached else None
        chosen = {"persons": persons, "input_size": SIZE, "tell": said.append, **options}
        made = CropDataset(chosen.pop("persons"), root / "pictures", COCO, chosen.pop("input_size"), augmentation,
                           crop_cache=cache, **chosen)  # fmt: skip
        made.said = said
        return made

    return make


def shifts(one, other, epochs):
    """Input pixels between the dots of two data sets' crops, for every crop that shows a whole dot."""
    found = []
    for epoch in range(epochs):
        for row in range(len(one)):
            first, second = one[epoch, row], other[epoch, row]
            np.testing.assert_allclose(first.keypoints, second.keypoints, atol=1e-3)
            nose = first.keypoints[0, 0]
            crops = [batch.crops[0, ..., 1].numpy().astype(float) for batch in (first, second)]
            edge = max(crop[[0, -1]].max() for crop in crops), max(crop[:, [0, -1]].max() for crop in crops)
            if max(edge) < 3 and all(crop.max() > 100 for crop in crops):
                dots = [centroid(np.where(crop > 12, crop, 0)) for crop in crops]
                found.append(np.abs(dots[0] - dots[1]).max())
                assert np.abs(dots[0] - nose).max() < 1.5
    return np.array(found)


@pytest.mark.parametrize(
    "options", [{"cached": True}, {"cached": False, "reduced_decode": True}, {"reduced_decode": True}]
)
def test_no_keypoint_moves_by_a_fortieth_of_a_heatmap_pixel(dataset, options):
    plain = dataset(cached=False)
    found = shifts(plain, dataset(**options), epochs=12)
    assert len(found) > 30
    assert found.max() < STEP / 40


def test_the_cache_holds_smaller_neighborhoods_where_crops_cannot_use_more(dataset):
    cache = dataset(Augmentation(half_body_probability=0)).source
    assert (cache.scales < 0.99).any(axis=1).any()
    assert (cache.scales == 1).all(axis=1).any()
    sizes = [cache.view(row, 1.0).image.shape[:2] for row in range(8)]
    assert np.mean([height * width for height, width in sizes]) < 0.6 * 331 * 257


@pytest.mark.parametrize("settings", [Augmentation(), Augmentation(rotation_distribution="uniform"), None])
def test_everything_that_a_crop_shows_lies_in_the_neighborhood(persons, dataset, settings):
    regions, steps = crop_regions(persons, UPPER, SIZE, settings)
    data = dataset(settings, cached=False, seed=3)
    corners = np.array([(-0.5, -0.5), (47.5, -0.5), (-0.5, 63.5), (47.5, 63.5)])
    half_bodies = 0
    for epoch in range(150):
        for row, region in enumerate(regions):
            crop = data.crop_of(epoch, row)
            affine = crop_affine(crop.center, crop.scale, SIZE, crop.rotation, crop.flip)
            shown = apply_affine(corners, invert_affine(affine)).clip((0, 0), (330, 256))
            assert (shown >= region[:2] - 1e-9).all()
            assert (shown <= region[2:] - 1 + 1e-9).all()
            assert crop.scale[0] / SIZE[0] >= steps[row] - 1e-9
            half_bodies += not np.allclose(crop.center, persons.boxes[row, :2] + persons.boxes[row, 2:] / 2)
    assert (half_bodies > 100) == (settings is not None)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("settings", [Augmentation(), None])
@pytest.mark.parametrize("options", [{}, {"reduced_decode": True}, {"cached": False, "reduced_decode": True}])
def test_pictures_of_unknown_size_give_the_crops_of_known_ones(root, persons, dataset, suffix, settings, options):
    """A width and height of 0 leave a region unbounded, and what a decoder made smaller is known from the file."""
    for path in (root / "pictures").iterdir():
        cv2.imwrite(str(path.with_suffix(f".{suffix}")), cv2.imread(str(path)))
    known = replace(persons, file_names=np.char.replace(persons.file_names, b"jpg", suffix.encode()))
    unknown = replace(known, image_sizes=np.zeros_like(known.image_sizes))
    sets = [dataset(settings, persons=each, **options) for each in (known, unknown)]
    for row in range(len(persons)):
        crops = [each[0, row].crops[0].numpy() for each in sets]
        assert crops[0].max() > 100
        np.testing.assert_array_equal(*crops)


def test_reach_is_the_box_of_a_turning_rectangle():
    scales = np.array([(30.0, 40.0)])
    np.testing.assert_allclose(reach(scales, 0), [(15, 20)])
    np.testing.assert_allclose(reach(scales, 90), [(25, 25)])  # half the diagonal
    np.testing.assert_allclose(reach(scales, 200), [(25, 25)])
    angles = np.deg2rad(np.linspace(0, 20, 1000))
    width = (15 * np.cos(angles) + 20 * np.sin(angles)).max()
    height = (20 * np.cos(angles) + 15 * np.sin(angles)).max()
    np.testing.assert_allclose(reach(scales, 20), [(width, height)], rtol=1e-6)


def test_without_augmentation_the_neighborhood_is_the_crop(persons):
    regions, _ = crop_regions(persons, UPPER, SIZE, None)
    x, y, w, h = persons.boxes[0]
    width = 1.25 * max(w, 0.75 * h)
    left = max(np.floor(x + w / 2 - width / 2 - MARGIN), 0)
    assert regions[0, 0] == left


def test_the_cache_is_made_once_and_again_only_when_something_changed(dataset, root, persons):
    first = dataset()
    assert len(first.said) == 2
    data = (root / "cache" / "crops.bin").read_bytes()
    dataset()
    assert len(first.said) == 2
    changes = [
        lambda: dataset(Augmentation(scale_std=0.2)),
        lambda: dataset(Augmentation(half_body_probability=0)),
        lambda: dataset(input_size=(96, 128)),
        lambda: dataset(persons=persons.take(slice(0, 7))),
        lambda: dataset(persons=moved(persons)),
    ]
    for count, change in enumerate(changes, 2):
        change()
        assert len(first.said) == 2 * count, "not made again"
        assert "data or settings changed: making the crop cache" in first.said[-2]
    dataset()
    assert (root / "cache" / "crops.bin").read_bytes() == data
    made = len(first.said)
    image = root / "pictures" / "3.jpg"
    before = image.stat()
    image.write_bytes((root / "pictures" / "4.jpg").read_bytes())
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    dataset()
    assert len(first.said) == made + 2


def moved(persons):
    persons = persons.take(slice(None))
    boxes = persons.boxes.copy()
    boxes[2, 0] += 3
    object.__setattr__(persons, "boxes", boxes)
    return persons


def test_processes_make_the_same_cache_as_one(dataset, root):
    dataset()
    alone = (root / "cache" / "crops.bin").read_bytes()
    (root / "cache" / "crops.bin").unlink()
    dataset(workers=2)
    assert (root / "cache" / "crops.bin").read_bytes() == alone


def test_a_cut_off_cache_is_made_again(dataset, root):
    dataset()
    path = root / "cache" / "crops.bin"
    whole = path.read_bytes()
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        dataset()
        assert path.read_bytes() == whole


def test_a_cache_whose_index_is_damaged_is_made_again(dataset, root):
    dataset()
    path = root / "cache" / "crops.bin"
    whole = path.read_bytes()
    start = int.from_bytes(whole[-8:], "little")
    for place in range(start, len(whole) - 40, 97):
        path.write_bytes(whole[:place] + bytes(40) + whole[place + 40 :])
        dataset()
        assert path.read_bytes() == whole


def test_broken_pictures_are_known_from_the_cache(dataset, root):
    image = root / "pictures" / "5.jpg"
    image.write_bytes(image.read_bytes()[:-100])
    data = dataset(broken_share=0.2)
    assert len(data.problems) == 1
    assert "5.jpg: picture is cut off" in data.problems[0]
    batch = data[0, 4]
    assert batch.rows.tolist() == [5]
    assert batch.problems == tuple(data.problems)
    assert isinstance(dataset()[0, 4], DataError)


@pytest.mark.parametrize(("step", "factor"), [(0.3, 1), (1.99, 1), (2, 2), (3.9, 2), (4, 4), (50, 8)])
def test_a_picture_is_reduced_only_where_the_crop_is_coarser(step, factor):
    assert reduction_for(step) == factor


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_reduced_pixels_cover_whole_blocks_of_pixels(reduction, tmp_path):
    point = np.array([[120.25, 77.5]])
    path = tmp_path / "dot.jpg"
    cv2.imwrite(str(path), dot_image(point, 333, 217, spread=8), [cv2.IMWRITE_JPEG_QUALITY, 98])
    image = read_image(path, reduction=reduction)
    assert image.shape[:2] == (-(-217 // reduction), -(-333 // reduction))
    at = centroid(image[..., 0]) * reduction + (reduction - 1) / 2
    np.testing.assert_allclose(at, point[0], atol=0.25)


def test_only_jpegs_are_reduced():
    encoded = cv2.imencode(".png", dot_image(np.array([[5.0, 5.0]]), 33, 17))[1]
    assert decode_image(encoded, reduction=4).shape == (17, 33, 3)
