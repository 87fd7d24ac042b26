"""What is said of a network that a converter refuses."""

import pytest
import torch
from torch import nn

from pose.errors import MissingExtra
from pose.export.refusal import refused, refused_part


class Skip(nn.Module):
    """Its last part is called with a keyword, and gives two tensors."""

    def __init__(self):
        super().__init__()
        self.first, self.list = nn.Conv2d(3, 4, 1), nn.ModuleList([nn.ReLU(), nn.Sequential(nn.Sigmoid(), nn.Tanh())])
        self.last = Both()

    def forward(self, x):
        y = self.first(x)
        for part in self.list:
            y = part(y)
        return sum(self.last(y, other=y))


class Both(nn.Module):
    def forward(self, x, other):
        return x, other


def without(*kinds):
    """A converter that has no operation for some kinds of layers."""

    def write(network, x, path):
        network(x)
        if any(isinstance(part, kinds) for part in network.modules()):
            raise RuntimeError("unknown")
        network.train()  # as some do
        path.write_bytes(b"done")

    return write


X = torch.zeros(1, 3, 4, 4)


@pytest.mark.parametrize(
    ("kinds", "part"),
    [((nn.Tanh,), "list.1.1 (Tanh)"), ((nn.Conv2d, nn.Tanh), "first (Conv2d)"), ((Both,), None), ((Skip,), None)],
)
def test_the_smallest_part_that_is_refused_alone_is_named(kinds, part):
    network = Skip().eval()
    hooks = sum(len(module._forward_hooks) for module in network.modules())
    assert refused_part(without(*kinds), network, X, ".file") == part
    assert sum(len(module._forward_hooks) for module in network.modules()) == hooks
    told = refused(without(*kinds), network, X, ".file", rounded=False)
    assert told == (f"{part}, alone as well" if part else "the network, though each part of it alone converts")


def test_a_converter_that_refuses_all_and_one_that_only_rounds_badly_are_told_from_others(capsys):
    told = refused(without(nn.Module), Skip(), X, ".file", rounded=True)
    assert told.startswith("whatever it is given, so its installation may be broken")
    assert refused(without(), Skip(), X, ".file", rounded=True) == "8 bits of the network, which it takes in float32"
    assert "can take minutes" in capsys.readouterr().err


def test_a_network_that_cannot_be_run_names_no_part():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1))
    assert refused_part(without(nn.Conv2d), network, X, ".file") is None


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MissingExtra("needs more")])
def test_what_is_no_part_s_fault_is_raised(error):
    def write(network, x, path):
        raise error

    with pytest.raises(type(error)):
        refused(write, Skip(), X, ".file", rounded=False)
