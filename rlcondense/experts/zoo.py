"""The shipped experts: float16 weights and a card that says what they are and what they score."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.catalogue import data_root
from rlcondense.errors import BadConfig, CorruptArtifact, UnknownName
from rlcondense.files import read_arrays, read_json, sha256_file, slug, write_arrays, write_json
from rlcondense.networks import NetworkSpec, PolicyNetwork
from rlcondense.policies import network_from_arrays

SNAPSHOTS = "snapshots"
_PREFIX = "policy."
# What a card says of a network only where it is not so.
_USUAL = {f.name: f.default for f in fields(NetworkSpec) if f.default is not MISSING}


@dataclass(frozen=True)
class Expert:
    """A trained policy and where it comes from.

    Attributes:
        id: of the task it was trained on.
        network: its policy.
        sha256: of its weights file.
        card: command, steps, network, seed and returns.
    """

    id: str
    network: PolicyNetwork
    sha256: str
    card: dict[str, Any]


def experts_folder() -> Path:
    """Where the shipped experts lie."""
    return data_root() / "baselines" / "experts"


def expert_path(task_id: str, folder: Path | None = None) -> Path:
    """The weights file of a task's expert."""
    return (folder or experts_folder()) / f"{slug(task_id)}.safetensors"


def shipped_experts() -> list[str]:
    """Ids of the tasks that have a shipped expert."""
    return [card["task"] for card in shipped_cards()]


def shipped_cards() -> list[dict[str, Any]]:
    """The cards of the shipped experts, by task."""
    cards = [read_json(path) for path in experts_folder().glob("*.json")]
    return sorted(cards, key=lambda card: str(card["task"]))


def save_expert(task_id: str, network: PolicyNetwork, card: dict[str, Any], folder: Path) -> Path:
    """Write an expert's policy weights in float16, and its card beside them.

    Args:
        task_id: the task it was trained on.
        network: its policy; a value head is left out.
        card: what to say of it; `sha256` of the weights is added.
        folder: where to.
    """
    path = expert_path(task_id, folder)
    save_weights(path, network)
    spec = network.spec
    write_json(
        path.with_suffix(".json"),
        {
            **card,
            "task": task_id,
            "network": spec.name,
            "observation_shape": list(spec.observation_shape),
            "num_actions": spec.num_outputs,
            **{name: getattr(spec, name) for name in _USUAL if getattr(spec, name) != _USUAL[name]},
            "sha256": sha256_file(path),
        },
    )
    return path


def save_weights(path: Path, network: PolicyNetwork) -> None:
    """Write a policy's weights in float16."""
    write_arrays(path, {_PREFIX + k: v for k, v in float16_weights(network).items()})


def float16_weights(network: PolicyNetwork) -> dict[str, npt.NDArray[np.float16]]:
    """The policy's weights as they are shipped, without a value head."""
    weights = network.state_dict()
    names = PolicyNetwork(network.spec).state_dict()
    return {name: weights[name].cpu().numpy().astype(np.float16) for name in names}


def load_expert(task_id: str, folder: Path | None = None) -> Expert:
    """Load the expert of a task.

    Raises:
        UnknownName: there is none.
        CorruptArtifact: its weights are truncated, or not those its card speaks of.
    """
    path = expert_path(task_id, folder)
    if folder is not None and not path.exists():
        raise BadConfig(
            f"{folder} holds no finished expert of {task_id!r}; 'rlcondense expert train "
            "... --resume' finishes one"
        )
    if not path.exists():
        raise UnknownName("expert", task_id, shipped_experts())
    card = read_json(path.with_suffix(".json"))
    sha256 = sha256_file(path)
    if sha256 != card.get("sha256"):
        raise CorruptArtifact(f"{path} is truncated or altered: its sha256 is not its card's")
    arrays = read_arrays(path)
    try:
        unusual = {name: card[name] for name in _USUAL if name in card}
        shape = tuple(card["observation_shape"])
        spec = NetworkSpec(card["network"], shape, card["num_actions"], **unusual)
        network = network_from_arrays(spec, arrays, _PREFIX)
    except (KeyError, RuntimeError) as error:
        raise CorruptArtifact(f"{path} is not the expert of its card: {error}") from error
    return Expert(task_id, network, sha256, card)


def snapshots(task_id: str, folder: Path) -> dict[int, PolicyNetwork]:
    """The policies that training left in `folder`, by environment steps, the expert last."""
    expert = load_expert(task_id, folder)
    found = {int(path.stem): path for path in (folder / SNAPSHOTS).glob("*.safetensors")}
    try:
        networks = {
            steps: network_from_arrays(expert.network.spec, read_arrays(found[steps]), _PREFIX)
            for steps in sorted(found)
            if steps < expert.card["steps"]
        }
    except (KeyError, RuntimeError) as error:
        raise CorruptArtifact(
            f"{folder / SNAPSHOTS} holds snapshots of another network: {error}"
        ) from error
    return {**networks, expert.card["steps"]: expert.network}
