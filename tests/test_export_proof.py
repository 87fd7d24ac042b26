"""The proof after an export refuses what is elsewhere, and takes what PyTorch itself might have found."""

import numpy as np
import pytest
import torch
from test_export import MODEL, network_of, settings_of
from torch import nn

from pose.export import proof
from pose.export.errors import ExportError
from pose.export.formats import export_file
from pose.export.head import CropKeypoints, KeypointNetwork
from pose.export.onnx_file import export_onnx, with_decoder
from pose.runtimes.session import NetworkSession
from pose.skeleton import COCO


class Moved(nn.Module):
    """Keypoints with something added."""

    def __init__(self, network, by):
        super().__init__()
        self.network = network
        self.register_buffer("by", torch.tensor(by))

    def forward(self, crops):
        return self.network(crops) + self.by


@pytest.mark.parametrize("by", [(0.1, 0.0, 0.0), (0.0, -1.0, 0.0), (float("nan"), 0.0, 0.0), (0.0, 0.0, float("nan"))])
@pytest.mark.parametrize("name", ["onnx", "onnx-single"])
def test_a_file_whose_keypoints_are_elsewhere_is_not_written(tmp_path, monkeypatch, name, by):
    settings, written = settings_of(**MODEL), []

    def decoder(network, settings):
        written.append(network)  # what goes into the file first, then what it is compared with
        made = with_decoder(network, settings)
        return Moved(made, by) if len(written) == 1 else made

    for module in ("onnx_file", "formats"):
        monkeypatch.setattr(f"pose.export.{module}.with_decoder", decoder)
    path = tmp_path / "a.onnx"
    with pytest.raises(ExportError, match="crop from PyTorch's|is no number|PyTorch's by nan"):
        if name == "onnx":
            export_onnx(network_of(settings, 1), settings, path, "keypoints")
        else:
            export_file(network_of(settings, 1), settings, path, name, output="keypoints")
    assert not list(tmp_path.iterdir())


class Fixed(nn.Module):
    """The same heatmaps for any crop."""

    def __init__(self, heatmaps):
        super().__init__()
        self.register_buffer("heatmaps", heatmaps)

    def forward(self, x):
        return self.heatmaps.expand(len(x), -1, -1, -1)


@pytest.mark.parametrize(
    ("place", "error"),
    [((8.0, 16.0), None), ((20.0, 40.0), None), ((24.0, 40.0), "1 of 17"), ((14.0, 28.0), "1 of 17")],
)
def test_equal_peaks_may_be_found_at_either_place_and_nowhere_else(monkeypatch, place, error):
    heatmaps = torch.zeros(1, 17, 16, 8)
    heatmaps[:, :, 4, 2] = 0.5
    heatmaps[:, 3, 10, 5] = 0.5  # a second peak of one keypoint
    head = KeypointNetwork(Fixed(heatmaps), COCO, flip=False, flip_shift=0, decode="none")
    reference = CropKeypoints(head, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 4)
    answer = reference(torch.zeros(1, 64, 32, 3, dtype=torch.uint8)).numpy()
    assert answer[0, 3].tolist() == [8, 16, 0.5]
    answer[0, 3, :2] = place
    session = NetworkSession(lambda images: [answer], None, one_image=True)
    monkeypatch.setattr(proof, "open_file", lambda path, threads: session)
    if error:
        with pytest.raises(ExportError, match=error):
            proof.compare("a.xml", reference, (32, 64), "keypoints")
    else:
        assert proof.compare("a.xml", reference, (32, 64), "keypoints") == 0
    assert isinstance(head.network, Fixed) and np.isfinite(answer).all()
