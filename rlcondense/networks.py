"""The networks that policies are made of, by name: cnn4, nature, impala and impala-patch2.

A network takes observations in the environment's own units (uint8 or float pixels in [0, 255],
channel first) and scales them itself, so that no caller can forget to.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlcondense.errors import BadConfig, UnknownName

INPUTS = ("scaled", "raw")


@dataclass(frozen=True)
class NetworkSpec:
    """What a policy network is built from.

    Attributes:
        name: `cnn4`, `nature`, `impala` or `impala-patch2`.
        observation_shape: `(channels, height, width)` of one observation.
        num_outputs: width of the last layer, the number of actions.
        input: `scaled` divides pixels by 255, `raw` feeds them as they are (Light et al., 2024).
    """

    name: str
    observation_shape: tuple[int, ...]
    num_outputs: int
    input: str = "scaled"

    def __post_init__(self) -> None:
        if self.name not in ENCODERS:
            raise UnknownName("network", self.name, ENCODERS)
        if self.input not in INPUTS:
            raise BadConfig(f"input must be one of {', '.join(INPUTS)}, not {self.input!r}")
        if len(self.observation_shape) != 3:
            raise BadConfig(
                f"network {self.name!r} needs (channels, height, width) observations, "
                f"not {self.observation_shape}"
            )
        if self.name == "impala-patch2" and any(side % 2 for side in self.observation_shape[1:]):
            raise BadConfig(
                f"network {self.name!r} needs sides that are multiples of 2, "
                f"not {self.observation_shape}"
            )


class Cnn4(nn.Module):
    """Four 3x3 convolutions 12-48-12-3, each pooled by 2 (Light, Liu and Hu, 2024, as coded)."""

    def __init__(self, observation_shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, height, width = observation_shape
        widths = (channels, 12, 48, 12, 3)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, 3, padding=1) for i, o in itertools.pairwise(widths)
        )
        self.num_features = 3 * (height // 16) * (width // 16)

    def forward(self, x: Tensor) -> Tensor:
        for convolution in self.convolutions:
            x = F.avg_pool2d(F.relu(convolution(x), inplace=True), 2)
        return x.flatten(1)


class Nature(nn.Module):
    """Three strided convolutions and a dense layer of 512 (Mnih et al., 2015)."""

    num_features = 512

    def __init__(self, observation_shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, height, width = observation_shape
        self.conv1 = nn.Conv2d(channels, 32, 8, stride=4)
        self.conv2 = nn.Conv2d(32, 64, 4, stride=2)
        self.conv3 = nn.Conv2d(64, 64, 3)
        rows, columns = (((side - 8) // 4 + 1 - 4) // 2 + 1 - 2 for side in (height, width))
        self.dense = nn.Linear(64 * rows * columns, self.num_features)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x), inplace=True)
        x = F.relu(self.conv2(x), inplace=True)
        x = F.relu(self.conv3(x), inplace=True)
        return F.relu(self.dense(x.flatten(1)), inplace=True)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(F.relu(self.conv1(F.relu(x)), inplace=True))
        return x + y


class Impala(nn.Module):
    """The residual network of IMPALA, 16-32-32 channels and 256 dense (Espeholt et al., 2018).

    Args:
        observation_shape: `(channels, height, width)`.
        patch: side of the patches that are folded into channels first; 1 for none.
    """

    num_features = 256

    def __init__(self, observation_shape: tuple[int, ...], patch: int = 1) -> None:
        super().__init__()
        self.patch = patch
        channels, height, width = observation_shape
        channels, height, width = channels * patch**2, height // patch, width // patch
        blocks: list[nn.Module] = []
        for out in (16, 32, 32):
            blocks += [
                nn.Conv2d(channels, out, 3, padding=1),
                nn.MaxPool2d(3, stride=2, padding=1),
                _Residual(out),
                _Residual(out),
            ]
            channels, height, width = out, (height + 1) // 2, (width + 1) // 2
        self.blocks = nn.Sequential(*blocks)
        self.dense = nn.Linear(channels * height * width, self.num_features)

    def forward(self, x: Tensor) -> Tensor:
        if self.patch > 1:
            x = F.pixel_unshuffle(x, self.patch).contiguous(memory_format=torch.channels_last)
        x = F.relu(self.blocks(x), inplace=True)
        return F.relu(self.dense(x.flatten(1)), inplace=True)


ENCODERS: dict[str, Callable[[tuple[int, ...]], nn.Module]] = {
    "cnn4": Cnn4,
    "nature": Nature,
    "impala": Impala,
    # A third of the cost on a CPU for nearly the same depth: four pixels are one position.
    "impala-patch2": partial(Impala, patch=2),
}


class PolicyNetwork(nn.Module):
    """An encoder and a linear head: observations in, action logits out.

    Args:
        spec: what to build. Weights are drawn from torch's default initial distribution.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = ENCODERS[spec.name](spec.observation_shape)
        num_features = self.encoder.num_features
        assert isinstance(num_features, int)
        self.num_features = num_features
        self.head = nn.Linear(num_features, spec.num_outputs)
        self._scale = 1 / 255 if spec.input == "scaled" else 1.0
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, observations: Tensor) -> Tensor:
        """Encode `(B, C, H, W)` observations in environment units to `(B, F)` float32."""
        x = observations
        if x.is_floating_point():
            x = x * self._scale
        else:
            # Every uint8 value is exact in bfloat16, so this loses nothing and halves the traffic.
            x = x.to(_autocast_dtype(x.device.type)).mul_(self._scale)
        features: Tensor = self.encoder(x.contiguous(memory_format=torch.channels_last))
        return features.float()

    def forward(self, observations: Tensor) -> Tensor:
        """Logits `(B, A)` in float32 of `(B, C, H, W)` observations."""
        features = self.features(observations)
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(features)
        return logits


def _autocast_dtype(device_type: str) -> torch.dtype:
    if torch.is_autocast_enabled(device_type):
        return torch.get_autocast_dtype(device_type)
    return torch.float32
