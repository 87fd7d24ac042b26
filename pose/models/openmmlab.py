"""The dynamic layers under OpenMMLab's names, so that any of its models can say
``conv_cfg=dict(type="DynamicConv2d", num_kernels=4)``."""

from __future__ import annotations

from pose.config_files import import_mmengine
from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.dynamic_conv import DynamicConv2d


def register_openmmlab() -> None:
    """Registers DynamicConv2d and DCDConv2d where mmcv's ``build_conv_layer`` looks; calling it again is harmless.

    Raises:
        ValueError: Another layer has one of the names already.
    """
    MODELS = import_mmengine().MODELS

    for layer in (DynamicConv2d, DCDConv2d):
        registered = MODELS.module_dict.get(layer.__name__)
        if registered is None:
            MODELS.register_module(name=layer.__name__, module=layer)
        elif registered is not layer:
            raise ValueError(f"{layer.__name__} is registered already, by {registered.__module__}")
