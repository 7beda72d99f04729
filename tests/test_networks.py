from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from rlcondense import networks
from rlcondense.config import config_json
from rlcondense.errors import BadConfig, UnknownName
from rlcondense.networks import ENCODERS, SMALLEST, NetworkSpec, PolicyNetwork


@pytest.mark.parametrize(
    ("name", "parameters"),
    # cnn4: as counted in the code of Light et al. (2024); impala: without a value head.
    [
        ("cnn4", 11_826),
        ("compact", 784 + 8_224 + 9_248 + 131_328 + 3_855),
        ("nature", 608_431),
        ("impala", 625_999),
        ("impala-patch2", 234_079),
        ("impala-patch4", 140_959),
    ],
)
def test_parameter_counts(name: str, parameters: int) -> None:
    network = PolicyNetwork(NetworkSpec(name, (3, 64, 64), 15))
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "shape", "options", "parameters"),
    [
        ("impala", (3, 64, 64), {"width": 2}, 388_736 + 1_048_832 + 3_855),
        ("mlp", (4,), {}, 4 * 256 + 256 + 256 * 256 + 256 + 256 * 15 + 15),
        ("mlp", (4,), {"width": 10, "depth": 1}, 4 * 10 + 10 + 10 * 15 + 15),
        ("mlp", (3, 8, 8), {"width": 10, "depth": 3}, 192 * 10 + 10 + 2 * 110 + 10 * 15 + 15),
    ],
)
def test_options_change_the_parameter_counts(
    name: str, shape: tuple[int, ...], options: dict[str, Any], parameters: int
) -> None:
    network = PolicyNetwork(NetworkSpec(name, shape, 15, **options))
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_an_mlp_takes_vectors_as_they_are() -> None:
    network = PolicyNetwork(NetworkSpec("mlp", (4,), 2, activation="tanh"))
    x = torch.randn(3, 4)
    y = x
    for layer in network.encoder.layers:  # type: ignore[union-attr]
        y = layer(y).tanh()
    with torch.inference_mode():
        torch.testing.assert_close(network(x), network.head(y))


@pytest.mark.parametrize("name", ENCODERS)
def test_bytes_and_floats_of_the_same_pixels_give_the_same_logits(name: str) -> None:
    network = PolicyNetwork(NetworkSpec(name, (3, 64, 64), 15))
    frames = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(network(frames), network(frames.float()))


@pytest.mark.parametrize("patch", networks.PATCHES.values())
@pytest.mark.parametrize("shape", [(5, 3, 64, 64), (2, 4, 8, 12), (1, 1, 4, 8)])
def test_bytes_are_folded_as_numbers_are(patch: int, shape: tuple[int, ...]) -> None:
    frames = torch.randint(0, 256, shape, dtype=torch.uint8)
    expected = torch.nn.functional.pixel_unshuffle(frames.float(), patch)
    assert torch.equal(networks.folded(frames, patch).float(), expected)
    turned = frames.permute(0, 1, 3, 2)  # not contiguous
    expected = torch.nn.functional.pixel_unshuffle(turned.float(), patch)
    assert torch.equal(networks.folded(turned, patch).float(), expected)


def test_scaled_and_raw_input_differ_by_255() -> None:
    frames = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    scaled = PolicyNetwork(NetworkSpec("cnn4", (3, 64, 64), 15, "scaled"))
    raw = PolicyNetwork(NetworkSpec("cnn4", (3, 64, 64), 15, "raw"))
    raw.load_state_dict(scaled.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(raw(frames / 255), scaled(frames))


def test_bad_specs_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'nature'"):
        NetworkSpec("natur", (3, 64, 64), 15)
    with pytest.raises(BadConfig, match="sides that are multiples of 2"):
        NetworkSpec("impala-patch2", (3, 63, 64), 15)
    with pytest.raises(BadConfig, match=r"'nature' has no depth \(networks that have: mlp\)"):
        NetworkSpec("nature", (3, 64, 64), 15, depth=2)
    with pytest.raises(BadConfig, match="width must be at least 1"):
        NetworkSpec("mlp", (4,), 15, width=0)
    with pytest.raises(BadConfig, match="needs frames of 36 x 36 at least"):
        NetworkSpec("nature", (3, 35, 64), 15)
    with pytest.raises(BadConfig, match="channels, height, width"):
        NetworkSpec("nature", (4,), 15)


@pytest.mark.parametrize(("name", "side"), SMALLEST.items())
def test_the_smallest_frames_fit(name: str, side: int) -> None:
    network = PolicyNetwork(NetworkSpec(name, (3, side, side), 2))
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, side, side)).shape == (1, 2)


def test_compact_halves_frames_as_a_maximum_would() -> None:
    frames = torch.rand(2, 3, 65, 64)
    halved = networks._halved(frames)
    assert torch.equal(halved, torch.nn.functional.max_pool2d(frames, 2))


@pytest.mark.parametrize(("init", "head"), [("orthogonal", 0.01), ("orthogonal-all", 2**0.5)])
@pytest.mark.parametrize("name", ["mlp", "cnn4"])
def test_orthogonal_weights_have_the_papers_gains_and_no_bias(
    name: str, init: str, head: float
) -> None:
    network = PolicyNetwork(NetworkSpec(name, (3, 16, 16), 2), init)
    for layer in network.modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            continue
        gain = head if layer is network.head else 2**0.5
        weight = layer.weight.detach().flatten(1)
        rows = weight if weight.shape[0] <= weight.shape[1] else weight.T
        assert torch.allclose(rows @ rows.T, gain**2 * torch.eye(len(rows)), atol=1e-4)
        assert layer.bias is not None
        assert not layer.bias.any()


def test_a_plain_log_std_moves_as_its_parameter_does() -> None:
    deviations = {}
    for log_std in ("fast", "plain"):
        spec = NetworkSpec("mlp", (2,), 1, width=4, head="gaussian", log_std=log_std)
        network = PolicyNetwork(spec)
        with torch.no_grad():
            network.log_std.fill_(0.1)
        deviations[log_std] = float(network(torch.zeros(1, 2))[0, 1].detach())
    assert deviations == pytest.approx({"fast": 1.0, "plain": 0.1})
    assert "log_std" not in config_json(replace(spec, log_std="fast"))
