"""Networks of policies, by name: `ENCODERS`.

A network takes observations in the environment's own units (uint8 or float pixels in [0, 255],
channel first, or vectors) and scales pixels itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlcondense.config import LATER, check_choice
from rlcondense.errors import BadConfig, UnknownName
from rlcondense.limits import check_count, check_most
from rlcondense.scaling import Scaling

INPUTS = ("scaled", "raw")
HEADS = ("categorical", "gaussian")
LOG_STDS = ("fast", "plain")
INITS = ("random", "orthogonal", "orthogonal-all")
# One number is a spread, hundreds of features are a mean: by equal steps of each parameter the mean
# would be learned long before the spread.
LOG_STD_GAIN = 10.0
LOG_STD_RANGE = (-5.0, 2.0)
HEAD_GAIN = 0.01  # of orthogonal initial weights: all actions are about equally likely at first
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "tanh": torch.tanh}


@dataclass(frozen=True)
class NetworkSpec:
    """Specification of a policy network.

    Attributes:
        name: one of `ENCODERS`: `compact`, `cnn4`, `nature`, `impala`, `impala-patch2`,
            `impala-patch4` or `mlp`.
        observation_shape: shape of one observation, `(channels, height, width)` or, for `mlp`
            alone, `(features,)`.
        num_outputs: width of the last layer: the number of discrete actions, or the length of an
            action vector.
        input: `scaled` divides pixels by 255, `raw` feeds them as they are (Light et al., 2024).
        width: factor of `impala`'s channels (default 1), or units of a layer of `mlp` (default
            256).
        depth: number of hidden layers of `mlp` (default 2).
        activation: activation of `mlp`, `relu` (default) or `tanh`.
        head: `categorical`, or `gaussian` for continuous actions: the last layer gives the mean,
            and the logarithms of the standard deviations are parameters beside it.
        log_std: `fast` scales the parameters of these logarithms by ten, so that they learn faster;
            `plain` does not (as in the papers).
    """

    name: str
    observation_shape: tuple[int, ...]
    num_outputs: int
    input: str = "scaled"
    width: int | None = None
    depth: int | None = None
    activation: str | None = None
    head: str = "categorical"
    log_std: str = field(default="fast", metadata=LATER)

    def __post_init__(self) -> None:
        check_choice(self, "log_std", LOG_STDS)
        check_choice(self, "input", INPUTS)
        check_choice(self, "head", HEADS)
        check_network(self.name, self.options)
        check_count("num_outputs", self.num_outputs)
        check_count("numbers of an observation", math.prod(self.observation_shape))
        if len(self.observation_shape) != 3 and self.name != "mlp":
            raise BadConfig(
                f"network {self.name!r} needs (channels, height, width) observations, not "
                f"{self.observation_shape} (network 'mlp' takes vectors)"
            )
        least = SMALLEST.get(self.name, 1)
        if self.name != "mlp" and min(self.observation_shape[1:]) < least:
            raise BadConfig(
                f"network {self.name!r} needs frames of {least} x {least} at least, "
                f"not {self.observation_shape}"
            )
        patch = PATCHES.get(self.name, 1)
        if any(side % patch for side in self.observation_shape[1:]):
            raise BadConfig(
                f"network {self.name!r} needs sides that are multiples of {patch}, "
                f"not {self.observation_shape}"
            )
        check_most("weights of a network", num_weights(self))

    @property
    def options(self) -> dict[str, Any]:
        """Options among width, depth and activation that are not None."""
        return given_options(self)

    @property
    def log_std_gain(self) -> float:
        """Factor from a Gaussian's spread parameters to its log standard deviations."""
        return LOG_STD_GAIN if self.log_std == "fast" else 1.0

    @property
    def input_scale(self) -> float:
        """Factor of observations before the first layer."""
        is_pixels = len(self.observation_shape) == 3
        return 1 / 255 if self.input == "scaled" and is_pixels else 1.0


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


class Compact(nn.Module):
    """Halved frames, three convolutions 16-32-32 and a dense layer of 256: a fifth of Nature.

    0.74 million multiplications and additions for a frame of 64 x 64. It is for plain frames and
    few cores.
    """

    num_features = 256

    def __init__(self, observation_shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, height, width = observation_shape
        self.conv1 = nn.Conv2d(channels, 16, 4, stride=2)
        self.conv2 = nn.Conv2d(16, 32, 4, stride=2)
        self.conv3 = nn.Conv2d(32, 32, 3)
        rows, columns = (((side // 2 - 4) // 2 + 1 - 4) // 2 + 1 - 2 for side in (height, width))
        self.dense = nn.Linear(32 * rows * columns, self.num_features)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(_halved(x)), inplace=True)
        x = F.relu(self.conv2(x), inplace=True)
        x = F.relu(self.conv3(x), inplace=True)
        return F.relu(self.dense(x.flatten(1)), inplace=True)


def _halved(x: Tensor) -> Tensor:
    """Max-pool frames over 2 x 2 pixels; an odd row or column at the end is dropped."""
    height, width = (side // 2 * 2 for side in x.shape[2:])
    # torch's max_pool2d is slow on few channels: a dozen times as long for three.
    rows = torch.maximum(x[:, :, 0:height:2], x[:, :, 1:height:2])
    return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(F.relu(self.conv1(F.relu(x)), inplace=True))
        return x + y


class Impala(nn.Module):
    """Residual network of IMPALA, 16-32-32 channels and 256 dense (Espeholt et al., 2018).

    Args:
        observation_shape: `(channels, height, width)`.
        patch: side of the patches that are folded into channels first; 1 for none.
        width: factor of the channels (Cobbe et al., 2020, section 3.3).
    """

    num_features = 256

    def __init__(self, observation_shape: tuple[int, ...], patch: int = 1, width: int = 1) -> None:
        super().__init__()
        channels, rows, columns = observation_shape
        channels, rows, columns = channels * patch**2, rows // patch, columns // patch
        blocks: list[nn.Module] = []
        for out in (16 * width, 32 * width, 32 * width):
            blocks += [
                nn.Conv2d(channels, out, 3, padding=1),
                nn.MaxPool2d(3, stride=2, padding=1),
                _Residual(out),
                _Residual(out),
            ]
            channels, rows, columns = out, (rows + 1) // 2, (columns + 1) // 2
        self.blocks = nn.Sequential(*blocks)
        self.dense = nn.Linear(channels * rows * columns, self.num_features)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.blocks(x), inplace=True)
        return F.relu(self.dense(x.flatten(1)), inplace=True)


class Mlp(nn.Module):
    """Dense layers over a vector, or over the flattened pixels of a frame.

    Args:
        observation_shape: of one observation.
        width: units of each hidden layer.
        depth: hidden layers.
        activation: `relu` or `tanh`.
    """

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        width: int = 256,
        depth: int = 2,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        widths = [math.prod(observation_shape), *[width] * depth]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(widths))
        self.num_features = widths[-1]
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers:
            x = self.activation(layer(x))
        return x


PATCHES = {"impala-patch2": 2, "impala-patch4": 4}
ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "cnn4": Cnn4,
    "compact": Compact,
    "nature": Nature,
    "impala": Impala,
    # A third of the cost on a CPU for nearly the same depth: four pixels are one position. With
    # patches of 4 x 4, an update costs what the Nature CNN's does.
    **{name: partial(Impala, patch=patch) for name, patch in PATCHES.items()},
    "mlp": Mlp,
}
FOR_FRAMES = tuple(name for name in ENCODERS if name != "mlp")
OPTIONS = {
    **dict.fromkeys(("impala", *PATCHES), ("width",)),
    "mlp": ("width", "depth", "activation"),
}
ANY_OPTION = tuple(dict.fromkeys(itertools.chain(*OPTIONS.values())))
SMALLEST = {"cnn4": 16, "compact": 36, "nature": 36}
SMALL_FRAME = 36  # pixels of a side below which the default network has no convolutions


_WORDS = {2: np.uint16, 4: np.uint32}  # as long as a row of a patch


def folded(frames: Tensor, patch: int) -> Tensor:
    """Fold patches of bytes `(B, C, H, W)` into channels as `pixel_unshuffle` does, channels last.

    Numpy moves each row of a patch as one word, in a tenth of the time that torch takes.
    """
    batch, channels, height, width = frames.shape
    words = frames.numpy().reshape(batch, channels * height * width).view(_WORDS[patch])
    moved = words.take(_order_of_words(channels, height, width, patch), axis=1)
    shape = (batch, height // patch, width // patch, channels * patch**2)
    return torch.from_numpy(moved.view(np.uint8).reshape(shape)).permute(0, 3, 1, 2)


def _is_foldable(x: Tensor) -> bool:
    """Return whether numpy may take a tensor's bytes: compiled code has no numbers yet."""
    compiling = torch.compiler.is_compiling()
    return x.dtype == torch.uint8 and x.device.type == "cpu" and not compiling


@cache
def _order_of_words(channels: int, height: int, width: int, patch: int) -> npt.NDArray[np.int64]:
    """Return the words of a frame in the order of positions, channels and rows of their patch."""
    words = np.arange(channels * height * width // patch)
    shaped = words.reshape(channels, height // patch, patch, width // patch)
    return shaped.transpose(1, 3, 0, 2).ravel()


def fitting_network(network: str, shape: tuple[int, ...]) -> str:
    """Return a network for observations of a shape: the named one, or what stands in its place.

    For vectors and small frames (MinAtar's of 10 cells, digits of 8 pixels) that is `mlp`, and for
    frames whose sides its patches do not divide the Nature CNN.

    Args:
        network: the name of a network for frames.
        shape: of an observation.
    """
    if len(shape) != 3 or min(shape[1:]) < SMALL_FRAME:
        return "mlp"
    fits = all(side % PATCHES.get(network, 1) == 0 for side in shape[1:])
    return network if fits else "nature"


def given_options(config: Any) -> dict[str, Any]:
    """Return those of a config's width, depth and activation that are not None."""
    values = {name: getattr(config, name) for name in ANY_OPTION}
    return {name: value for name, value in values.items() if value is not None}


def check_network(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown network, and options that it does not have.

    Raises:
        UnknownName: there is no network of that name.
        BadConfig: it has no such option, or the value is out of range.
    """
    if name not in ENCODERS:
        raise UnknownName("network", name, ENCODERS)
    for option, value in options.items():
        if option not in OPTIONS.get(name, ()):
            having = ", ".join(other for other in OPTIONS if option in OPTIONS[other])
            raise BadConfig(f"network {name!r} has no {option} (networks that have: {having})")
        if option == "activation" and value not in ACTIVATIONS:
            raise BadConfig(f"activation must be one of {', '.join(ACTIVATIONS)}, not {value!r}")
        if option != "activation":
            bound = "width of impala" if option == "width" and name != "mlp" else option
            check_count(option, value, bound=bound)


class PolicyNetwork(nn.Module):
    """Encoder and linear head: observations to action logits or a Gaussian's parameters.

    Args:
        spec: specification of the network.
        init: distribution of the initial weights. `random` is torch's default. `orthogonal` draws
            orthogonal matrices of gain sqrt 2, of gain 0.01 for the head, and zero biases;
            `orthogonal-all` has gain sqrt 2 for the head too.
    """

    def __init__(self, spec: NetworkSpec, init: str = "random") -> None:
        super().__init__()
        self.spec = spec
        self.encoder = ENCODERS[spec.name](spec.observation_shape, **spec.options)
        num_features = self.encoder.num_features
        assert isinstance(num_features, int)
        self.num_features = num_features
        self.head = nn.Linear(num_features, spec.num_outputs)
        if spec.head == "gaussian":
            self.log_std = nn.Parameter(torch.zeros(spec.num_outputs))
        if init != "random":
            _draw_orthogonal(self, HEAD_GAIN if init == "orthogonal" else math.sqrt(2))
        is_pixels = len(spec.observation_shape) == 3
        self._scale = spec.input_scale
        self.patch = PATCHES.get(spec.name, 1)
        self.channels_last = is_pixels
        if is_pixels:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, observations: Tensor) -> Tensor:
        """Encode `(B, *observation)` in environment units to `(B, F)` float32."""
        x, patch = observations, self.patch
        if self.channels_last and patch == 1:
            x = x.contiguous(
                memory_format=torch.channels_last
            )  # bytes are moved sooner than floats
        if self.channels_last and patch > 1 and _is_foldable(x):
            x, patch = folded(x, patch), 1
        if x.is_floating_point():
            x = x * self._scale
        else:
            # Every uint8 value is exact in bfloat16, so this loses nothing and halves the traffic.
            x = x.to(_autocast_dtype(x.device.type)).mul_(self._scale)
        if patch > 1:
            x = F.pixel_unshuffle(x, patch)
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.encoder(x)
        return features.float()

    def forward(self, observations: Tensor) -> Tensor:
        """Return the head's outputs in float32 for `(B, *observation)`.

        They are logits `(B, A)`, or for a Gaussian the means followed by the log standard
        deviations `(B, 2A)`.
        """
        return self.outputs(self.features(observations))

    def outputs(self, features: Tensor) -> Tensor:
        """Return the head's outputs for features `(B, F)`."""
        with torch.autocast(features.device.type, enabled=False):
            outputs: Tensor = self.head(features)
        if self.spec.head == "categorical":
            return outputs
        return torch.cat(
            [outputs, spread(self.log_std, self.spec.log_std_gain).expand_as(outputs)], 1
        )


def is_of_head(name: str) -> bool:
    """Return whether a parameter of a `PolicyNetwork` comes after the encoder, by its name."""
    return name.startswith(("head.", "log_std"))


@lru_cache(maxsize=256)
def num_weights(spec: NetworkSpec) -> int:
    """Count the weights of a network of a spec, without allocating them."""
    with torch.device("meta"):
        return sum(weights.numel() for weights in PolicyNetwork(spec).parameters())


def _draw_orthogonal(network: PolicyNetwork, head_gain: float) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            gain = head_gain if layer is network.head else math.sqrt(2)
            nn.init.orthogonal_(layer.weight, gain)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


def standardised(observations: Tensor, scaling: Scaling | None) -> Tensor:
    """Apply a scaling to observations `(..., *observation)`; None leaves them unchanged."""
    if scaling is None:
        return observations
    mean, deviation = (
        torch.tensor(part, device=observations.device) for part in (scaling.mean, scaling.deviation)
    )
    return (observations - mean) / deviation


@torch.no_grad()
def fold_scaling(network: PolicyNetwork, scaling: Scaling | None) -> None:
    """Convert a network of standardised observations to one of raw observations.

    Its outputs stay the same: the scaling becomes a part of the first dense layer.
    """
    if scaling is None:
        return
    assert isinstance(network.encoder, Mlp)
    first = network.encoder.layers[0]
    assert isinstance(first, nn.Linear)
    weight, bias = folded_layer(first.weight.T, first.bias[None], scaling)
    first.weight.copy_(weight.T)
    first.bias.copy_(bias[0])


def folded_layer(weight: Tensor, bias: Tensor, scaling: Scaling) -> tuple[Tensor, Tensor]:
    """Convert the first layer of a network of standardised observations to raw observations.

    Args:
        weight: `(..., in, out)`.
        bias: `(..., 1, out)`.
        scaling: scaling of the observations, vectors of length `in`.
    """
    mean, deviation = (
        torch.tensor(part.reshape(-1), dtype=torch.float64, device=weight.device)
        for part in (scaling.mean, scaling.deviation)
    )
    scaled = (weight / deviation[:, None]).to(weight.dtype)
    # With the rounded weights, so that the mean is mapped to the old bias.
    return scaled, (bias - mean[None] @ scaled.double()).to(bias.dtype)


def spread(learned: Tensor, gain: float) -> Tensor:
    """Return the logarithms of a Gaussian's standard deviations from their parameters.

    The bounds are straight-through for gradients, so that parameters beyond them can return.
    """
    wide = gain * learned
    return wide + (wide.clamp(*LOG_STD_RANGE) - wide).detach()


def _autocast_dtype(device_type: str) -> torch.dtype:
    if torch.is_autocast_enabled(device_type):
        return torch.get_autocast_dtype(device_type)
    return torch.float32


def fresh_from(
    spec: NetworkSpec, device: str | torch.device, seed: int, init: str = "random"
) -> PolicyNetwork:
    """Make a network with initial weights from a seed, without use of torch's global state."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # weights are drawn on the CPU
        return fresh(spec, device, init)


def fresh(spec: NetworkSpec, device: str | torch.device, init: str = "random") -> PolicyNetwork:
    """Make a network with initial weights from torch's global state."""
    return PolicyNetwork(spec, init).to(device)
