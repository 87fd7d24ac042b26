"""The original programs' untrained networks, saved by themselves, against this project's with their weights.

Needs mmpose 1.3.2 beside mmcv-lite and mmengine (``pip install --no-deps mmpose json_tricks munkres``) and the sources
of SimpleBaseline and HRNet, whose roots the environment variables SIMPLE_BASELINE and HRNET name; what is not there is
skipped:

    export SIMPLE_BASELINE=human-pose-estimation.pytorch HRNET=deep-high-resolution-net.pytorch
    pytest tests/slow/test_simple_baseline_originals.py
"""

import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import cv2
import pytest
import torch
from torch import nn

from pose.config import load_settings
from pose.prediction import load_network, to_input

UNUSED = (
    *("xtcocotools", "xtcocotools.coco", "xtcocotools.cocoeval", "xtcocotools.mask", "mmcv.ops", "mmdet"),
    *("mmdet.utils", "mmdet.models", "mmdet.structures", "mmdet.structures.bbox", "mmdet.datasets", "mmdet.engine"),
    *("mmdet.engine.hooks", "mmdet.models.utils", "mmdet.models.task_modules"),
)
"""What mmpose imports and a top-down network does not use."""

MEAN, STD = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def crop():
    """(1, 256, 192, 3) uint8 BGR of the street in data/sample."""
    image = cv2.imread("data/sample/street.jpg")
    return torch.from_numpy(cv2.resize(image, (192, 256)))[None]


def perturbed(model: nn.Module) -> nn.Module:
    """An untrained network whose normalization is not that of the beginning, and whose heatmaps are of size 1."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
            nn.init.uniform_(module.weight, 0.5, 1.5)
        if isinstance(module, nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return model.eval()


def mmpose_network(config: str) -> nn.Module:
    if importlib.util.find_spec("mmpose") is None:
        pytest.skip("mmpose is not installed")
    for name in UNUSED:
        sys.modules.setdefault(name, MagicMock())
    import mmpose
    from mmengine import Config
    from mmengine.registry import init_default_scope
    from mmpose.models import build_pose_estimator

    folder = Path(mmpose.__file__).parent / ".mim" / "configs" / "body_2d_keypoint" / "topdown_heatmap" / "coco"
    init_default_scope("mmpose")
    section = Config.fromfile(folder / f"{config}.py").model
    section.backbone.init_cfg = None  # a download
    return build_pose_estimator(section)


def source_network(variable: str, depth: int) -> nn.Module:
    root = os.environ.get(variable)
    if not root:
        pytest.skip(f"{variable} names no source")
    spec = importlib.util.spec_from_file_location(variable, Path(root, "lib", "models", "pose_resnet.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    extra = dict(NUM_LAYERS=depth, DECONV_WITH_BIAS=False, NUM_DECONV_LAYERS=3, FINAL_CONV_KERNEL=1)
    extra.update(NUM_DECONV_FILTERS=[256] * 3, NUM_DECONV_KERNELS=[4] * 3)

    class Extra(SimpleNamespace):
        """As yacs' and easydict's nodes."""

    section = SimpleNamespace(EXTRA=Extra(**extra), NUM_JOINTS=17, STYLE="pytorch", INIT_WEIGHTS=False)
    return module.get_pose_net(SimpleNamespace(MODEL=section), is_train=False)


def compare(config: str, path: Path, theirs: torch.Tensor, crop: torch.Tensor, **options) -> None:
    settings = load_settings(config, options)
    ours = load_network(settings, path).eval()
    with torch.inference_mode():
        difference = (ours(to_input(crop, "cpu")) - theirs).abs().max().item()
    print(f"{config}: largest difference {difference:.2e} of {theirs.abs().max().item():.3f}")
    assert theirs.std() > 0.01 and difference < 1e-4 * theirs.abs().max()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("td-hm_mobilenetv2_8xb64-210e_coco-256x192", "configs/coco/mobilenet_v2_x1.0_type_a_static.py"),
        ("td-hm_res50_8xb64-210e_coco-256x192", "configs/simple_baseline/resnet50.py"),
    ],
)
def test_mmposes_network_gives_its_own_heatmaps(theirs, ours, crop, tmp_path):
    model = perturbed(mmpose_network(theirs))
    import mmpose
    from mmengine.runner import save_checkpoint
    from mmpose.datasets.datasets.utils import parse_pose_metainfo
    from mmpose.structures import PoseDataSample

    base = Path(mmpose.__file__).parent / ".mim" / "configs" / "_base_" / "datasets" / "coco.py"
    meta = parse_pose_metainfo(dict(from_file=str(base)))
    save_checkpoint(
        {"meta": {"dataset_meta": meta, "cfg": ""}, "state_dict": model.state_dict()}, str(tmp_path / "a.pth")
    )
    with torch.inference_mode():
        batch = model.data_preprocessor({"inputs": [crop[0].permute(2, 0, 1)], "data_samples": [PoseDataSample()]})[
            "inputs"
        ]
        heatmaps = model(batch, None, mode="tensor")
    compare(ours, tmp_path / "a.pth", heatmaps, crop)


@pytest.mark.parametrize("variable", ["SIMPLE_BASELINE", "HRNET"])
@pytest.mark.parametrize("depth", [18, 50])
def test_a_resnet_of_the_first_programs_gives_its_own_heatmaps(variable, depth, crop, tmp_path):
    """Their loader reads BGR with cv2 and normalizes it by RGB's figures (COLOR_RGB: false)."""
    model = perturbed(source_network(variable, depth))
    torch.save({"epoch": 140, "model": "pose_resnet", "state_dict": model.state_dict()}, tmp_path / "a.pth.tar")
    pixels = (crop.permute(0, 3, 1, 2) / 255 - MEAN[:, None, None]) / STD[:, None, None]
    with torch.inference_mode():
        heatmaps = model(pixels)
    compare(
        "configs/simple_baseline/resnet50_bgr.py",
        tmp_path / "a.pth.tar",
        heatmaps,
        crop,
        **{"model.backbone.depth": depth},
    )


def test_a_dynamic_network_of_mmposes_weights_gives_its_heatmaps(crop, tmp_path):
    from pose.engine.initial import load_initial

    model = perturbed(mmpose_network("td-hm_mobilenetv2_8xb64-210e_coco-256x192"))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "a.pth")
    ours = load_settings("configs/coco/mobilenet_v2_x1.0_type_a_dynamic.py").build_model()
    assert load_initial(ours, str(tmp_path / "a.pth")) == []
    with torch.inference_mode():
        batch = to_input(crop, "cpu")
        theirs = model(batch, None, mode="tensor")
        difference = (ours.eval()(batch) - theirs).abs().max().item()
    print(f"dynamic: largest difference {difference:.2e} of {theirs.abs().max().item():.3f}")
    assert difference < 1e-4 * theirs.abs().max()
