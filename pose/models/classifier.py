"""ImageNet networks: a backbone and the classifier of its paper, for what both papers' tables count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.dynamic.makers import ConvMaker, StaticConvs
from pose.models.pose_net import BACKBONES, build_part, make_convs


class Classifier(nn.Module):
    """Global average pool, a hidden layer (MobileNetV3), dropout, and the classes, as 1 x 1 convolutions.

    Args:
        in_channels: Channels of the features.
        num_classes: The number of classes.
        make_conv: The maker of its convolutions, roles ``hidden`` and ``classifier``; static by default.
        hidden_channels: Channels of the hidden layer, None for no hidden layer.
        dropout: Probability before the last layer.
        input_stride: Image pixels per pixel of the features.

    Attributes:
        num_classes: As given.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int = 1000,
        make_conv: ConvMaker | None = None,
        hidden_channels: int | None = None,
        dropout: float = 0.0,
        input_stride: int = 32,
    ) -> None:
        super().__init__()
        make_conv = make_conv or StaticConvs()
        self.num_classes = num_classes
        place: dict[str, Any] = {"bias": True, "input_stride": input_stride}
        self.hidden: nn.Module = nn.Identity()
        if hidden_channels is not None:
            self.hidden = nn.Sequential(
                make_conv(in_channels, hidden_channels, 1, role="hidden", **place), nn.Hardswish(inplace=True)
            )
        self.dropout = nn.Dropout(dropout)
        self.conv = make_conv(hidden_channels or in_channels, num_classes, 1, role="classifier", **place)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to logits (N, classes)."""
        return self.conv(self.dropout(self.hidden(F.adaptive_avg_pool2d(x, 1)))).flatten(1)


class ImageClassifier(nn.Module):
    """A backbone and a classifier.

    Args:
        backbone: Images (N, 3, H, W) to features (N, C, H / 32, W / 32).
        classifier: Makes logits of features.

    Attributes:
        num_classes: The number of classes.
    """

    def __init__(self, backbone: nn.Module, classifier: Classifier) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier
        self.num_classes = classifier.num_classes

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised RGB to logits (N, classes)."""
        return self.classifier(self.backbone(x))


def build_classifier(backbone: Mapping[str, Any], num_classes: int = 1000, dropout: float = 0.0) -> ImageClassifier:
    """A network from a backbone as :func:`~pose.models.pose_net.build_pose_net` takes it.

    The backbone's ``conv`` makes the classifier too, so ``classifier`` in its roles makes that dynamic.

    Args:
        backbone: ``type``, the constructor's arguments, ``conv``.
        num_classes: The number of classes.
        dropout: Probability before the last layer.

    Raises:
        OptionError: A type or key does not exist or a value is refused; the message names it.
    """
    features = build_part(BACKBONES, backbone, "model.backbone")
    hidden_channels = getattr(features, "classifier_channels", None)
    make_conv = make_convs(backbone.get("conv"), "model.backbone.conv")
    return ImageClassifier(
        features,
        Classifier(features.out_channels, num_classes, make_conv, hidden_channels, dropout, features.out_stride),
    )
