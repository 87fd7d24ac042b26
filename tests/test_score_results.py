"""tools/score_results.py: any results file in COCO's format, and one line for each way that one can be wrong."""

import json

import pytest
from small_project import ANNOTATIONS, run_tool, write_project

__all__ = ["run_tool"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def tested(project, run_tool):
    """The path of a results file, with what the test tool printed beside it."""
    path = project / "results.json"
    if not path.exists():
        status, printed, _ = run_tool("test.py", project / "tiny.py", project / "tiny.pth", "--out", path)
        assert status == 0
        (project / "printed.txt").write_text(printed)
    return path


def test_cocos_val2014_check_prints_the_published_figures(shared_data, run_tool):
    folder = shared_data / "coco_eval_reference"
    results = folder / "person_keypoints_val2014_fakekeypoints100_results.json"
    status, printed, error = run_tool(
        "score_results.py", results, folder / "person_keypoints_val2014_first100.json", "--backend", "pycocotools"
    )
    assert (status, error) == (0, "")
    published = ["0.372", "0.636", "0.348", "0.384", "0.386", "0.514", "0.734", "0.504", "0.508", "0.522"]
    assert printed.splitlines()[-1].split() == published
    assert "how these results were made is not known" in printed


def test_the_test_tool_s_results_score_as_it_said(project, tested, run_tool, tmp_path):
    arguments = [tested, project / "data" / ANNOTATIONS, "--images", project / "data" / "val2017"]
    status, printed, error = run_tool("score_results.py", *arguments, "--report", tmp_path)
    assert (status, error) == (0, "")
    wanted = (project / "printed.txt").read_text().splitlines()[:-1]
    assert printed.splitlines()[: len(wanted)] == wanted
    assert (tmp_path / "report.html").read_text().count("<img") > 3


def test_no_results_are_an_ap_of_zero(project, run_tool, tmp_path):
    (tmp_path / "none.json").write_text("[]")
    status, printed, error = run_tool("score_results.py", tmp_path / "none.json", project / "data" / ANNOTATIONS)
    assert (status, error) == (0, "") and printed.splitlines()[-1].split()[0] == "0.000"


def test_joints_written_at_the_corner_are_told(project, tested, run_tool, tmp_path):
    records = json.loads(tested.read_text())
    for record in records[:2]:
        record["keypoints"][3:6] = [0, 0, 0]
    (tmp_path / "others.json").write_text(json.dumps(records))
    status, printed, error = run_tool("score_results.py", tmp_path / "others.json", project / "data" / ANNOTATIONS)
    assert (status, error) == (0, "") and f"2 of {len(records):,} persons have joints at (0, 0)" in printed
    assert "(0, 0)" not in run_tool("score_results.py", tested, project / "data" / ANNOTATIONS)[1]


def changed(**fields):
    return lambda record: [{**record, **fields}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: [{**record, "keypoints": [float("nan"), *record["keypoints"][1:]]}], "holds NaN"),
        (changed(score=float("inf")), "holds NaN, infinity or null"),
        (changed(image_id=77), "is of an image that the annotations do not have"),
        (lambda record: [{**record, "keypoints": record["keypoints"][:-3]}], "has not 51 numbers in 'keypoints'"),
        (lambda record: [record, record], "is the same as an earlier record"),
        (changed(category_id=2), "is of another category than 1"),
        (changed(score="high"), "has str as 'score'"),
        (lambda record: {"results": [record]}, "wanted a list of records"),
    ],
)
def test_bad_results_are_one_line(project, tested, run_tool, tmp_path, change, message):
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(change(json.loads(tested.read_text())[0])))
    status, printed, error = run_tool("score_results.py", path, project / "data" / ANNOTATIONS)
    assert (status, printed) == (2, "")
    assert error.count("\n") == 1 and error.startswith(f"error: {path}") and message in error


def test_bad_files_are_one_line(project, tested, run_tool, tmp_path):
    annotations = project / "data" / ANNOTATIONS
    beside = tmp_path / "beside.json"
    beside.write_text(tested.read_text())
    beside.with_suffix(".protocol.json").write_text('{"protocol": {"flop": true}}')
    for arguments, named in (
        ([tmp_path / "none.json", annotations], "none.json"),
        ([tested, tmp_path / "none.json"], "none.json"),
        ([tested, tested], "results.json"),
        ([tested, annotations, "--skeleton", "crowdpose"], "42"),
        ([tested, annotations, "--skeleton", tmp_path / "none.json"], "none.json"),
        ([beside, annotations], "'protocol.flop'"),
    ):
        status, printed, error = run_tool("score_results.py", *arguments)
        assert (status, printed) == (2, "")
        assert error.count("\n") == 1 and error.startswith("error: ") and named in error
