"""Static weights into a dynamic network of the same architecture, whose outputs are the same at the start.

How a dynamic layer takes a static one's weights is for the layer to say: its method ``load_static``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from pose.checkpoint import load_state
from pose.errors import CheckpointError
from pose.models.balance import balance
from pose.models.dynamic.base import DynamicLayer
from pose.models.leaves import leaf_layers


@torch.no_grad()
def inflate(model: nn.Module, state: Mapping[str, Tensor], noise: float = 0.0, source: str = "the checkpoint") -> None:
    """Loads a static network's weights into a static or dynamic network of the same architecture.

    Args:
        model: Changed only if every name and shape of ``state`` fits.
        state: The static network's state dict.
        noise: Each copy of a kernel gets normal noise of this fraction of the kernel's standard
            deviation. Without any, equal kernels get equal gradients and stay equal.
        source: Where ``state`` comes from, for messages.

    Raises:
        CheckpointError: A name or shape does not fit.
        ValueError: The noise is negative.
    """
    if noise < 0:
        raise ValueError(f"noise must not be negative, got {noise}")
    own = model.state_dict()
    layers = {name: module for name, module in model.named_modules() if isinstance(module, DynamicLayer)}
    inner = {f"{name}.{key}" for name, layer in layers.items() for key in layer.state_dict()}
    wanted = {name: tensor.shape for name, tensor in own.items() if name not in inner}
    for name, layer in layers.items():
        wanted.update({f"{name}.{key}": shape for key, shape in layer.static_shapes().items()})
    missing = [name for name in wanted if name not in state]
    unknown = [name for name in state if name not in wanted]
    shapes = [name for name in wanted if name in state and state[name].shape != wanted[name]]
    if missing or unknown or shapes:
        example = (shapes or missing or unknown)[0]
        raise CheckpointError(
            f"{source}: not the static network of this architecture: {len(missing)} tensors are not in it, "
            f"{len(unknown)} are not wanted and {len(shapes)} have another shape (e.g. {example})"
        )
    for name in wanted:
        if name not in inner:
            own[name].copy_(state[name])
    for name, layer in layers.items():
        layer.load_static(state[f"{name}.weight"], state.get(f"{name}.bias"), noise)


def load_or_inflate(
    model: nn.Module, state: Mapping[str, Tensor], noise: float = 0.0, source: str = "the checkpoint"
) -> bool:
    """Loads weights of the same network as they are, and those of the static one as :func:`inflate` does.

    Args:
        model, state, noise, source: As for :func:`inflate`.

    Returns:
        Whether they were taken as they are.

    Raises:
        CheckpointError: A name or shape does not fit.
    """
    same = state.keys() == model.state_dict().keys()
    if same:
        load_state(model, state, source)
    else:
        inflate(model, state, noise, source)
    return same


def load_torchvision(
    model: nn.Module, name: str, path: str | Path | None = None, noise: float = 0.0, balanced: bool = False
) -> None:
    """Loads torchvision's ImageNet weights into a backbone or an :class:`~pose.models.classifier.ImageClassifier`.

    Args:
        model: A network of the architecture that ``name`` is in torchvision: MobileNetV2 at width 1,
            MobileNetV3-Small in torchvision's form, ResNet-18 or ResNet-50; static or dynamic.
        name: torchvision's name, e.g. ``mobilenet_v2``.
        path: A file of weights under torchvision's names, which may lack the classifier where the model has none;
            None downloads torchvision's.
        noise: As for :func:`inflate`.
        balanced: Rescale the kernels first, see :func:`pose.models.balance.balance`.

    Raises:
        CheckpointError: The download failed, the file cannot be read, or the architectures differ.
    """
    from torchvision import models  # costs over a second to import

    if name not in models.list_models(models):
        raise CheckpointError(f"{name}: torchvision has no such network; see torchvision.models.list_models()")
    theirs = models.get_model(name, weights=None)
    source = f"torchvision's {name}" if path is None else str(path)
    try:
        state = _download(name) if path is None else torch.load(path, map_location="cpu", weights_only=True)
        missing, unknown = theirs.load_state_dict(state, strict=False)
    except CheckpointError:
        raise
    except Exception as error:  # torch.load and load_state_dict raise almost anything for a wrong file
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{source}: not the weights of torchvision's {name} ({reason})") from error
    rest = list(leaf_layers(theirs))[len(list(leaf_layers(model))) :]
    unused = {f"{layer_name}.{key}" for layer_name, layer in rest for key in layer.state_dict()}
    missing = [key for key in missing if key not in unused]
    if missing or unknown:
        raise CheckpointError(
            f"{source}: not the weights of torchvision's {name}: {len(missing)} tensors are not in it and "
            f"{len(unknown)} are not wanted (e.g. {[*missing, *unknown][0]})"
        )
    if balanced:
        balance(theirs)
    inflate(model, static_names(model, theirs, source), noise, source)


def _download(name: str) -> Mapping[str, Tensor]:
    from torchvision import models

    weights = models.get_model_weights(name).DEFAULT
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{weights.url}: cannot be downloaded ({error}); fetch it elsewhere and pass the file's path instead"
        ) from error


def static_names(model: nn.Module, theirs: nn.Module, source: str) -> dict[str, Tensor]:
    """Another implementation's weights under the names of our static network.

    Both list the same layers in the same order; what theirs has beyond ours must be a classifier.

    Raises:
        CheckpointError: They do not.
    """
    our_layers, their_layers = list(leaf_layers(model)), list(leaf_layers(theirs))
    rest = their_layers[len(our_layers) :]
    if len(their_layers) < len(our_layers) or any(not isinstance(layer, nn.Linear) for _, layer in rest):
        raise CheckpointError(
            f"{source}: another architecture, of {len(their_layers)} layers where this network has {len(our_layers)}"
        )
    state = {}
    for (name, _), (_, layer) in zip(our_layers, their_layers, strict=False):
        for key, tensor in layer.state_dict().items():
            as_conv = isinstance(layer, nn.Linear) and key == "weight"
            state[f"{name}.{key}"] = tensor[:, :, None, None] if as_conv else tensor
    return state
