import numpy as np
import pytest

from pose.evaluation.significance import over_images, over_seeds


def test_the_interval_over_seeds_is_students():
    mean, low, high = over_seeds([1.0, 2.0, 3.0])  # deviation 1, t(2, 97.5 %) = 4.3027
    assert mean == 2 and (low, high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)
    one = over_seeds([0.5])
    assert one.mean == 0.5 and np.isnan(one.low) and np.isnan(one.high)
    with pytest.raises(ValueError, match="no differences"):
        over_seeds([])


def test_the_interval_over_seeds_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [over_seeds(rng.normal(1, 2, 3)) for _ in range(1000)]
    assert 0.93 < np.mean([low <= 1 <= high for _, low, high in intervals]) < 0.97


def test_the_bootstrap_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(200):
        skill = rng.random((1, 100, 1))  # persons are easy or hard for both
        ours = (rng.random((2, 100, 5)) < np.clip(skill + 0.1, 0, 1)).astype(float)
        theirs = (rng.random((2, 100, 5)) < skill).astype(float)
        _, low, high = over_images(ours, theirs, np.arange(100), resamples=300)
        inside.append(low <= 0.095 <= high)  # E[min(u + 0.1, 1)] - E[u]
    assert 0.88 < np.mean(inside) <= 0.99


def test_persons_of_one_picture_are_drawn_together():
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(40), 5)
    inside = []
    for _ in range(200):
        favours = rng.integers(0, 2, 40)[images, None].repeat(4, axis=1).astype(float)  # whole pictures go to one
        _, low, high = over_images(favours[None], 1 - favours[None], images, resamples=300)
        inside.append(low <= 0 <= high)
    assert 0.88 < np.mean(inside) <= 0.99  # each person drawn on its own would give about 0.6


def test_unlabeled_keypoints_do_not_count_and_shapes_must_fit():
    ours, theirs = np.ones((1, 4, 2)), np.zeros((1, 4, 2))
    theirs[0, :, 1] = ours[0, :, 1] = np.nan
    mean, low, high = over_images(ours, theirs, np.arange(4))
    assert (mean, low, high) == (1, 1, 1)
    with pytest.raises(ValueError, match="same persons"):
        over_images(ours, theirs[:, :3], np.arange(4))


def test_the_mean_is_that_of_the_keypoints_shares():
    rng = np.random.default_rng(1)
    ours, theirs = rng.integers(0, 2, (2, 3, 30, 4)).astype(float)
    hidden = rng.random((30, 4)) < 0.3
    ours[:, hidden] = theirs[:, hidden] = np.nan
    expected = np.nanmean(ours.mean(axis=0), axis=0).mean() - np.nanmean(theirs.mean(axis=0), axis=0).mean()
    assert over_images(ours, theirs, np.arange(30) // 2).mean == pytest.approx(expected)
