"""The network in training and all that a step changes: weights, optimizer, averaged weights, loss scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pose import heatmap
from pose.checkpoint import load_state
from pose.engine import distributed
from pose.engine.frozen import FrozenParts
from pose.engine.optimizer import parameter_groups
from pose.errors import CheckpointError
from pose.models.dynamic.attention import attentions
from pose.models.dynamic.base import DynamicLayer
from pose.models.native.training.layers import available, has_pairs, use_native_training
from pose.options import OptionError

AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What autocast computes in, by :data:`pose.config.PRECISIONS`; None computes without it."""


def averaging_decay(average_decay: float, count: int) -> float:
    """The decay of an exponential moving average that has taken ``count`` values: at most (1 + count) / (10 + count).

    With the whole decay from the first step on, the fresh network would weigh decay^count in the average: 0.46 after
    783 steps at 0.999. So TensorFlow's ``ExponentialMovingAverage`` with ``num_updates`` has it.
    """
    return min(average_decay, (1 + count) / (10 + count))


class Trainer:
    """Makes optimizer steps.

    Args:
        model: The network; moved to the device and, where asked, converted in place.
        device: Where to compute.
        loss: Makes a scalar of the network's output and the batch's targets.
        optimizer: Makes an optimizer of groups of parameters; ``fused`` says whether its fused form can be used.
        weight_decay: The decay of kernels and matrices, see :func:`pose.engine.optimizer.parameter_groups`.
        frozen: Names of parts that stay as they are, see :class:`pose.engine.frozen.FrozenParts`; with ``native`` a
            frozen beginning of the backbone runs folded.
        precision: One of :data:`AUTOCAST`; weights stay in float32, and float16's loss is scaled.
        accumulate: Batches per optimizer step; their gradients are averaged.
        max_gradient_norm: Gradients are scaled down to this norm over all parameters; None leaves them.
        average_decay: The decay of an exponential moving average of the weights and their batch statistics, less
            in the first steps, see :func:`averaging_decay`; 0 for none.
        channels_last: Keep pictures, features and kernels in that memory format.
        compile: Compile the forward pass with ``torch.compile``.
        sync_batch_norm: Batch statistics over all processes; on GPUs.
        native: Native operations on a CPU, in channels_last, see :mod:`pose.models.native.training.layers`, and a fused
            optimizer; where there is no compiler a warning, and torch's operations. In bfloat16 they are products of
            1 x 1 convolutions, and all else is float32; only processors with AVX512-BF16 or BFDOT have these.
        recompute_kernels: Mix the dynamic layers' kernels again for the backward pass instead of keeping them.

    Attributes:
        model: The network itself.
        input_shape: The shape of one input of the last batch; None before the first.

    Raises:
        OptionError: A choice that the device does not offer.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        loss: Callable[..., Tensor] = heatmap.mean_squared_loss,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        weight_decay: float = 0.0,
        frozen: Sequence[str] = (),
        precision: str = "float32",
        accumulate: int = 1,
        max_gradient_norm: float | None = None,
        average_decay: float = 0.0,
        channels_last: bool = False,
        compile: bool = False,
        sync_batch_norm: bool = False,
        native: bool = False,
        recompute_kernels: bool = False,
    ) -> None:
        if precision == "float16" and device.type != "cuda":
            raise OptionError("train.precision: float16 needs a GPU; take bfloat16 or float32")
        if sync_batch_norm and device.type != "cuda":
            raise OptionError("train.sync_batch_norm: needs GPUs; leave it out")
        if native and device.type != "cpu":
            raise OptionError(f"train.native: is for CPUs, not {device.type}; set train.native=false")
        if native and compile:
            raise OptionError("train.native: cannot be compiled; leave train.compile out")
        if sync_batch_norm:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        if native:
            native = available()
        pairs = native and precision == "bfloat16"
        if pairs and not has_pairs():
            raise OptionError("train.native: this processor has no bfloat16 products; leave train.precision out")
        if native:
            model = use_native_training(model, pairs)
        for layer in model.modules():
            if isinstance(layer, DynamicLayer):
                layer.recompute = recompute_kernels
        self.memory_format = torch.channels_last if channels_last or native else torch.contiguous_format
        self.model = model.to(device).to(memory_format=self.memory_format)
        self.device = device
        self.precision = precision
        self._autocast = None if pairs else AUTOCAST[precision]  # native layers round what they multiply themselves
        self.accumulate = accumulate
        self.max_gradient_norm = max_gradient_norm
        self._fused = device.type == "cuda" or native
        self.loss = loss
        self.frozen = FrozenParts(self.model, frozen, fold=native)
        self.optimizer = optimizer(parameter_groups(self.model, weight_decay), fused=self._fused)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
        self.average_decay = average_decay
        self._averaged: int | None = None
        self.average = (
            AveragedModel(self.model, multi_avg_fn=self._move_average, use_buffers=True) if average_decay else None
        )
        self._compile = compile
        self._shared: DistributedDataParallel | None = None
        self._network: Callable[..., Any] | None = None
        self._batches = 0
        self.input_shape: tuple[int, ...] | None = None

    @property
    def best_model(self) -> nn.Module:
        """The network to test and to keep: the averaged one where there is one."""
        return self.average.module if self.average else self.model

    @property
    def network(self) -> Callable[..., Any]:
        """The network as training calls it: shared between processes and compiled, made at the first call."""
        if self._network is None:
            if distributed.is_joined():
                places = [self.device.index] if self.device.type == "cuda" else None
                self._shared = DistributedDataParallel(self.model, device_ids=places)
            network = self._shared or self.model
            self._network = torch.compile(network) if self._compile else network
        return self._network

    def train(self) -> None:
        """Puts the network into training mode, its frozen parts aside; call it before the first step of an epoch."""
        self.model.train()
        self.frozen.hold()

    def release_frozen(self) -> None:
        """Lets all parts learn from now on."""
        if self.frozen.parts:
            self.frozen.release()
            self._network = self._shared = None  # what shares gradients between processes asks for them at first

    def set_learning_rate(self, rate: float) -> None:
        """Sets it for all parameters."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def learn(self, images: Tensor, *targets: Tensor) -> Tensor:
        """Learns from a batch; every ``accumulate``-th call makes an optimizer step.

        Args:
            images: (N, 3, H, W) float32 on the device.
            targets: What the loss takes beside the output; of a pose network heatmaps (N, K, H / 4, W / 4) and
                weights (N, K).

        Returns:
            The loss before the step, a scalar on the device. It is not looked at here, since that would make
            the host wait for a GPU.
        """
        self._batches += 1
        self.input_shape = tuple(images.shape[1:])
        steps = self._batches % self.accumulate == 0
        images = images.contiguous(memory_format=self.memory_format)
        dtype = self._autocast
        network = self.network
        with self._shared.no_sync() if self._shared and not steps else nullcontext():
            with torch.autocast(self.device.type, dtype, enabled=dtype is not None), self.frozen.running():
                predicted = network(images)
            loss = self.loss(predicted, *targets)
            self.scaler.scale(loss / self.accumulate).backward()
        if steps:
            self._step()
        return loss.detach()

    def _step(self) -> None:
        if self.max_gradient_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.max_gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            if self._averaged is None:
                self._averaged = int(self.average.n_averaged)
            self.average.update_parameters(self.model)
            self._averaged += 1
            for averaged, own in zip(attentions(self.average), attentions(self.model), strict=True):
                averaged.temperature.copy_(own.temperature)  # a schedule's value, not one to average

    def _move_average(self, averaged: Sequence[Tensor], own: Sequence[Tensor], count: Tensor | int) -> None:
        """Moves averages towards the network's own values; ``count`` lies on the device and is not looked at."""
        decay = averaging_decay(self.average_decay, self._averaged or 0)
        get_ema_multi_avg_fn(decay)(averaged, own, count)

    def state_dict(self) -> dict[str, Any]:
        """The whole state, as a checkpoint keeps it."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else None,
        }

    def load_state_dict(self, state: Mapping[str, Any], path: Path) -> None:
        """Takes :meth:`state_dict` back.

        Args:
            state: What a checkpoint holds of it.
            path: The checkpoint, for messages.

        Raises:
            CheckpointError: It is of another network, holds weights only, or has no averaged weights.
        """
        load_state(self.model, state["model"], path)
        if "optimizer" not in state:
            raise CheckpointError(f"{path}: holds weights only, no training run to resume")
        own = [
            {name: value for name, value in group.items() if name not in ("params", "lr")}
            for group in self.optimizer.param_groups
        ]
        try:
            _check_kind(own, state["optimizer"]["param_groups"])
            self.optimizer.load_state_dict(state["optimizer"])
            _check_shapes(self.optimizer)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{path}: the state of its optimizer is not of this network and these options ({error}); resume with "
                "those of before, or start anew from its weights with train.initial_weights"
            ) from error
        for group, options in zip(self.optimizer.param_groups, own, strict=True):
            group.update(options)  # this run's, not the checkpoint's
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.average:
            if not state["average"]:
                raise CheckpointError(f"{path}: has no averaged weights; resume with train.average_decay=0")
            self.average.load_state_dict(state["average"])
            self._averaged = None


def _check_kind(own: Sequence[Mapping[str, Any]], saved: Sequence[Mapping[str, Any]]) -> None:
    """Raises ValueError where a state is of SGD and not of a kind of Adam, or the other way round."""
    for name in ("betas", "momentum"):
        if any(name in group for group in own) != any(name in group for group in saved):
            raise ValueError("it is of another kind of optimizer")


def _check_shapes(optimizer: torch.optim.Optimizer) -> None:
    """Raises ValueError where an optimizer keeps a tensor for a parameter that has another shape."""
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, torch.Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(f"{name} is {tuple(value.shape)} for a parameter of {tuple(parameter.shape)}")
