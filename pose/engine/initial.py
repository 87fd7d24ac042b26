"""Weights to start training from: a checkpoint of the same or of the static network, or torchvision's backbone."""

from __future__ import annotations

from pose.checkpoint import load_checkpoint, load_state
from pose.models.dynamic.inflate import inflate, load_torchvision
from pose.models.pose_net import PoseNet

TORCHVISION = "torchvision:"


def load_initial(
    model: PoseNet, initial_weights: str, initial_noise: float = 0.0, initial_balanced: bool = False
) -> None:
    """Loads what ``initial_weights`` names into a fresh network.

    ``torchvision:NAME`` downloads torchvision's ImageNet weights for the backbone, ``torchvision:NAME=FILE`` reads
    them from a file; anything else is a checkpoint, whose network is this one or the static one of the same
    architecture. A dynamic network that takes static weights answers as the static one does.

    Args:
        model: The network that takes them.
        initial_weights: Where they are, in one of these ways.
        initial_noise: Parts the copies of a static kernel, as a fraction of its standard deviation.
        initial_balanced: Rescale torchvision's kernels so that Adam can move them alike, see
            :func:`pose.models.balance.balance`.

    Raises:
        CheckpointError: A file is missing, broken or of another network, or the download failed.
    """
    if initial_weights.startswith(TORCHVISION):
        name, _, path = initial_weights.removeprefix(TORCHVISION).partition("=")
        load_torchvision(model.backbone, name, path or None, initial_noise, initial_balanced)
        return
    state = load_checkpoint(initial_weights)["model"]
    if state.keys() == model.state_dict().keys():
        load_state(model, state, initial_weights)
    else:
        inflate(model, state, initial_noise, initial_weights)
