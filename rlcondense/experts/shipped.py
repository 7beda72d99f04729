"""The shipped experts: float16 weights, and a card with their origin and their returns."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.catalogue import EXPERTS, Entry, entries, experts_folder, find, import_file
from rlcondense.errors import BadConfig, CorruptArtifact, PluginLoadError, UnknownName
from rlcondense.files import read_arrays, read_json, sha256_file, slug, write_arrays, write_json
from rlcondense.networks import NetworkSpec, PolicyNetwork
from rlcondense.policies import network_from_arrays
from rlcondense.types import SPLITS

SNAPSHOTS = "snapshots"
_PREFIX = "policy."
# Defaults of network settings, which a card omits.
_USUAL = {f.name: f.default for f in fields(NetworkSpec) if f.default is not MISSING}


@dataclass(frozen=True)
class Expert:
    """Expert: a trained policy and its origin.

    Attributes:
        id: expert id, the task's name and a version.
        network: the policy.
        sha256: sha256 of the weights file.
        card: command, steps, network, seed, returns and the task.
    """

    id: str
    network: PolicyNetwork
    sha256: str
    card: dict[str, Any]


def expert_path(expert_id: str, folder: Path | None = None) -> Path:
    """Return the path of an expert's weights file."""
    path = (folder or experts_folder()) / f"{slug(expert_id)}.safetensors"
    return path if folder is not None else path.resolve()  # installers may link to our own files


def shipped_cards() -> list[dict[str, Any]]:
    """Read the cards of the shipped experts by id, a task's first version first."""
    cards = [read_json(path.resolve()) for path in experts_folder().glob("*.json")]
    # The first expert of a task has the task's id, and its card does not repeat it.
    return sorted(
        ({**card, "id": card.get("id", card["task"])} for card in cards),
        key=lambda card: version_of(card["id"]),
    )


def shipped_experts() -> dict[str, str]:
    """Return the id of the newest shipped expert of each task that has one, by task id."""
    return {card["task"]: card["id"] for card in shipped_cards()}


def expert_table(form: str = "simple", tasks: Collection[str] | None = None) -> str:
    """Return a table of each task's newest expert beside the random policy and published returns.

    Returns are of sampled actions, `greedy` of the likeliest; entropies are in nats.

    Args:
        form: table format of `tabulate`.
        tasks: ids of the tasks to show; all by default.
    """
    from tabulate import tabulate

    newest = set(shipped_experts().values())
    rows = []
    for card in shipped_cards():
        if card["id"] not in newest or (tasks is not None and card["task"] not in tasks):
            continue
        entry = find("tasks", card["task"])
        training = "distilled" if "teacher" in card else f"{card['steps'] / 1e6:.1f}M steps"
        by_split = [
            _with_error(by[split])
            for split in SPLITS
            for by in (entry.facts["random_return"], card["returns"])
        ]
        published = card.get("published")
        if published:
            scores = f"{published['seen']:.1f} / {published['heldout']:.1f}"
        greedy = _with_error(card["greedy"]["seen"]) if "greedy" in card else ""
        entropy = f"{card['entropy']:.2f}" if "entropy" in card else ""
        facts = [card["network"], training, *by_split, greedy, entropy]
        rows.append([entry.aliases[0], *facts, scores if published else ""])
    headers = ["task", "network", "made in", "random, seen", "expert, seen", "random, held-out",
               "expert, held-out", "greedy, seen", "entropy", "published"]  # fmt: skip
    return str(tabulate(rows, headers, form, disable_numparse=True))


def _with_error(estimate: Mapping[str, Any]) -> str:
    return f"{estimate['mean']:.2f} ± {estimate['standard_error']:.2f}"


def version_of(expert_id: str) -> tuple[str, int]:
    """Split an expert's id into name and version."""
    name, _, version = expert_id.rpartition("-v")
    return name, int(version)


def save_expert(task_id: str, network: PolicyNetwork, card: dict[str, Any], folder: Path) -> Path:
    """Write an expert's policy weights in float16, and its card beside them.

    Args:
        task_id: id of the task that it was trained on.
        network: its policy; a value head is left out.
        card: facts of the card; `sha256` of the weights is added. An `id` in it replaces the
            task's id.
        folder: the target folder.
    """
    path = expert_path(card.get("id", task_id), folder)
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
    """Return the policy's weights in float16, without a value head."""
    weights = network.state_dict()
    names = PolicyNetwork(network.spec).state_dict()
    return {name: weights[name].cpu().numpy().astype(np.float16) for name in names}


def load_expert(expert_id: str, folder: Path | None = None) -> Expert:
    """Load an expert by its id, or from the folder of a training run.

    Raises:
        UnknownName: there is no such expert.
        CorruptArtifact: its weights are truncated, or do not match its card.
    """
    path = expert_path(expert_id, folder)
    if folder is not None and not path.exists():
        raise BadConfig(
            f"{folder} holds no finished expert of {expert_id!r}; 'rlcondense expert train "
            "... --resume' finishes one"
        )
    if not path.exists():
        raise UnknownName("expert", expert_id, [card["id"] for card in shipped_cards()])
    return _load(expert_id, path)


def _load(expert_id: str, path: Path) -> Expert:
    """Load an expert from its weights file, beside which its card lies."""
    card = _read_card(path.with_suffix(".json"))
    sha256 = sha256_file(path)
    if sha256 != card.get("sha256"):
        raise CorruptArtifact(f"{path} is truncated or altered: its sha256 is not its card's")
    arrays = read_arrays(path)
    try:
        unusual = {name: card[name] for name in _USUAL if name in card}
        shape = tuple(card["observation_shape"])
        spec = NetworkSpec(card["network"], shape, card["num_actions"], **unusual)
        network = network_from_arrays(spec, arrays, _PREFIX)
    except (BadConfig, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CorruptArtifact(f"{path} is not the expert of its card: {error}") from error
    return Expert(expert_id, network, sha256, card)


def load_newest(task_id: str) -> Expert:
    """Load the newest shipped expert of a task.

    Raises:
        UnknownName: the task has none.
    """
    experts = shipped_experts()
    if task_id not in experts:
        raise UnknownName("expert of task", task_id, experts)
    return load_expert(experts[task_id])


def find_expert(name: str | Path) -> Expert:
    """Load an expert by its id, a task's newest by its alias, the only one in a folder, or a file.

    Ids are those of the shipped experts, of packages, and of `rlcondense.register`.

    Raises:
        UnknownName: the name is none of these.
        PluginLoadError: a package names no path of an expert.
        BadConfig: it is a folder with no expert, or with several.
        CorruptArtifact: it is a file of weights without a card, or with another's.
    """
    path, name = Path(name), str(name)
    if path.is_dir():
        return _only_expert(path)
    if path.suffix == ".safetensors":
        return _load(path.stem, path)
    ids = [card["id"] for card in shipped_cards()]
    if name in ids:
        return load_expert(name)
    offered = entries(EXPERTS)
    if name in offered:
        return find_expert(offered_path(offered[name]))
    try:
        task_id = find("tasks", name).id
    except UnknownName:
        raise UnknownName(
            "expert", name, [*ids, *offered], "or a folder of 'expert train', or its file"
        ) from None
    return load_newest(task_id)


def offered_path(entry: Entry) -> str:
    """Return the path of an expert of the catalogue: it is one, or names where one stands.

    Raises:
        PluginLoadError: two packages offer it, or there is no such path.
    """
    entry.refuse_rivals()
    module, _, attribute = entry.entry_point.rpartition(":")
    path = entry.entry_point
    if not Path(path).exists():
        try:
            loaded = import_file(Path(module)) if module.endswith(".py") else import_module(module)
            path = str(getattr(loaded, attribute))
        except (Exception, SystemExit) as error:  # a package may raise any error
            raise PluginLoadError(
                f"expert {entry.id!r} of {entry.origin} cannot be loaded from "
                f"{entry.entry_point!r}: {type(error).__name__}: {error}"
            ) from error
    if not Path(path).exists():
        raise PluginLoadError(f"expert {entry.id!r} of {entry.origin}: there is no {path}")
    return path


def _only_expert(folder: Path) -> Expert:
    cards = [p for p in folder.glob("*.json") if p.with_suffix(".safetensors").exists()]
    if len(cards) != 1:
        raise BadConfig(
            f"{folder} holds {len(cards) or 'no'} finished experts; name a folder of one"
        )
    card = _read_card(cards[0])
    return load_expert(card.get("id", card["task"]), folder)


def _read_card(path: Path) -> dict[str, Any]:
    """Read a card, which may be untrusted.

    Raises:
        CorruptArtifact: it lacks a field that every card has.
    """
    card = read_json(path)
    kinds = {"task": str, "network": str, "observation_shape": list, "num_actions": int,
             "sha256": str}  # fmt: skip
    if not isinstance(card, dict) or not isinstance(card.get("id", ""), str):
        raise CorruptArtifact(f"{path} is no card of an expert")
    if wrong := [name for name, kind in kinds.items() if not isinstance(card.get(name), kind)]:
        raise CorruptArtifact(f"{path} is no card of an expert: its {', '.join(wrong)} cannot be")
    return card


def remove_snapshots(folder: Path) -> None:
    """Delete the policies of an earlier training run in `folder`, and no other file."""
    for path in _snapshot_files(folder).values():
        path.unlink()


def remove_expert(task_id: str, folder: Path) -> None:
    """Delete the weights and the card of a task's expert in `folder`, if it is there."""
    path = expert_path(task_id, folder)
    for file in (path, path.with_suffix(".json")):
        file.unlink(missing_ok=True)


def _snapshot_files(folder: Path) -> dict[int, Path]:
    files = (folder / SNAPSHOTS).glob("*.safetensors")
    return {int(path.stem): path for path in files if re.fullmatch("[0-9]{1,18}", path.stem)}


def snapshots(task_id: str, folder: Path) -> dict[int, PolicyNetwork]:
    """Return the policies of a training run in `folder` by environment steps, the expert last."""
    expert = load_expert(task_id, folder)
    if type(expert.card.get("steps")) is not int:
        raise BadConfig(f"the card of {expert.id!r} names no steps, and so no place for snapshots")
    by_steps = _snapshot_files(folder)
    try:
        networks = {
            steps: network_from_arrays(expert.network.spec, read_arrays(by_steps[steps]), _PREFIX)
            for steps in sorted(by_steps)
            if steps < expert.card["steps"]
        }
    except (KeyError, RuntimeError, ValueError) as error:
        raise CorruptArtifact(
            f"{folder / SNAPSHOTS} holds snapshots of another network: {error}"
        ) from error
    return {**networks, expert.card["steps"]: expert.network}
