"""tools/compare_results.py: paired intervals, errors side by side, the pictures that differ most, drawn."""

import json

import numpy as np
import pytest
from small_project import ANNOTATIONS, run_tool, write_project

__all__ = ["run_tool"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The annotations as perfect results, and the same with the first picture's left wrists far off."""
    folder = write_project(tmp_path_factory.mktemp("project"))
    truth = json.loads((folder / "data" / ANNOTATIONS).read_text())
    records = [
        {"image_id": each["image_id"], "category_id": 1, "keypoints": each["keypoints"], "score": 0.9}
        for each in truth["annotations"]
        if each["num_keypoints"]
    ]
    (folder / "perfect.json").write_text(json.dumps(records))
    for record in records:
        if record["image_id"] == records[0]["image_id"]:
            record["keypoints"] = [*record["keypoints"]]
            record["keypoints"][27] += 500  # left_wrist's x
    (folder / "worse.json").write_text(json.dumps(records))
    return folder


def test_the_difference_and_where_it_is_are_told(project, run_tool, tmp_path):
    files = [project / name for name in ("worse.json", "perfect.json", f"data/{ANNOTATIONS}")]
    drawn = ["--images", project / "data" / "val2017", "--out", tmp_path / "out"]
    status, printed, error = run_tool("compare_results.py", *files, "--resamples", 100, *drawn)
    assert (status, error) == (0, "")
    rows = {line.split(" | ")[0].strip("| "): line for line in printed.splitlines() if line.startswith("|")}
    assert "100.0" in rows["AP"] and "| +" in rows["AP"] and "| +" in rows["left_wrist"]
    assert "| 100.0 | 100.0 | +0.0 | +0.0 to +0.0 |" in rows["right_wrist"]
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["AP"][1] == pytest.approx(1) and found["AP"][0] < 1
    assert found["errors"][1]["miss"] == 0 < found["errors"][0]["miss"] + found["errors"][0]["swap"]
    changed = json.loads((project / "worse.json").read_text())[0]["image_id"]
    gains = found["pictures"]
    assert gains[str(changed)] == max(gains.values()) > 0 and np.count_nonzero(list(gains.values())) == 1
    assert [path.name for path in (tmp_path / "out").glob("*.jpg")] == [f"second_better_1_{changed}.jpg"]


def test_pictures_are_found_by_the_names_of_other_systems(project, run_tool, tmp_path):
    truth = json.loads((project / "data" / ANNOTATIONS).read_text())
    for image in truth["images"]:
        image["file_name"] = f"D:\\coco\\{image['file_name']}"
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    drawn = ["--images", project / "data" / "val2017", "--out", tmp_path / "out"]
    results = [project / "worse.json", project / "perfect.json", tmp_path / "truth.json"]
    status, _, error = run_tool("compare_results.py", *results, "--resamples", 100, *drawn)
    assert (status, error) == (0, "") and len([*(tmp_path / "out").glob("*.jpg")]) == 1


def test_bad_input_is_one_line(project, run_tool, tmp_path):
    results, annotations = project / "perfect.json", project / "data" / ANNOTATIONS
    for arguments, named in (
        ([results, tmp_path / "none.json", annotations], "none.json"),
        ([results, annotations, annotations], "wanted a list of records"),
        ([results, results, annotations, "--skeleton", "crowdpose"], "needs 42"),
        ([results, results, annotations, "--resamples", 3], "--resamples"),
        ([results, results, annotations, "--images", tmp_path], "--images needs --out"),
        ([results, results, annotations, "--images", tmp_path / "no", "--out", tmp_path / "out"], "no such folder"),
    ):
        status, printed, error = run_tool("compare_results.py", *arguments)
        assert (status, printed) == (2, "")
        assert error.count("\n") == 1 and error.startswith("error: ") and named in error
