"""An expert of somebody else's: a card and weights that may be anything."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlcondense.catalogue import experts_folder
from rlcondense.comparison.rows import groups_of
from rlcondense.errors import RLCondenseError
from rlcondense.experts.shipped import load_expert, save_expert
from rlcondense.files import sha256_file
from rlcondense.make import make_task
from rlcondense.records.cell import Cell
from rlcondense.records.schema import what_is_wrong
from rlcondense.running.evaluating import evaluate_artifact
from rlcondense.training.collect import collect_dataset
from rlcondense.training.experts import evaluate_expert

NAME = "classic-cartpole-v0"


def card(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / f"{NAME}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def no_table(folder: Path) -> None:
    (folder / f"{NAME}.json").write_text("[]")


def pipe(folder: Path) -> None:
    (folder / f"{NAME}.safetensors").unlink()
    os.mkfifo(folder / f"{NAME}.safetensors")


def of_another_task(folder: Path) -> None:
    other = experts_folder() / "classic-acrobot-v0"
    shutil.copy(other.with_suffix(".safetensors"), folder / f"{NAME}.safetensors")
    shutil.copy(other.with_suffix(".json"), folder / f"{NAME}.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (card(network=7), "its network cannot be"),
        (card(observation_shape=4), "its observation_shape cannot be"),
        (card(observation_shape=["x"]), "is not the expert of its card"),
        (card(width=2**40), "width must be at most"),
        (no_table, "is no card of an expert"),
        (pipe, "is no plain file"),
        (of_another_task, r"holds categorical policies from \(6,\) to 3 actions"),
    ],
)
def test_what_is_no_expert_of_the_task_is_one_line(
    change: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    for ending in (".json", ".safetensors"):
        shutil.copy((experts_folder() / NAME).with_suffix(ending), tmp_path)
    change(tmp_path)
    with pytest.raises(RLCondenseError, match=message):
        evaluate_expert("cartpole", folder=tmp_path, episodes=1, device="cpu")
    with pytest.raises(RLCondenseError, match=message):
        collect_dataset(make_task("cartpole"), "expert", folder=tmp_path, episodes=1)


def test_snapshots_are_of_an_expert_whose_steps_are_known(tmp_path: Path) -> None:
    for ending in (".json", ".safetensors"):
        shutil.copy((experts_folder() / NAME).with_suffix(ending), tmp_path)
    card(steps=None)(tmp_path)
    with pytest.raises(RLCondenseError, match="names no steps"):
        collect_dataset(make_task("cartpole"), "mixed", folder=tmp_path, episodes=1)


def test_a_hash_is_of_a_plain_file(tmp_path: Path) -> None:
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.raises(RLCondenseError, match="is no plain file"):
        sha256_file(tmp_path / "zero")


def test_experts_of_other_weights_are_other_cells(tmp_path: Path) -> None:
    usual = evaluate_artifact("expert", "cartpole", seeds=1, episodes=2, results=tmp_path)
    shipped = load_expert("classic/cartpole-v0")
    for weights in shipped.network.parameters():
        weights.data.neg_()
    file = save_expert("classic/cartpole-v0", shipped.network, shipped.card, tmp_path / "other")
    other = evaluate_artifact(
        "expert", "cartpole", expert=file, seeds=1, episodes=2, results=tmp_path
    )
    assert other.record["cell_id"] != usual.record["cell_id"]
    assert other.record["returns"] != usual.record["returns"]
    both = groups_of([other.record, usual.record])[0].find("expert")
    assert both is not None
    assert both.cells == (usual.record["cell_id"],)
    assert Cell.from_json(other.record["cell"]).is_handed_in
    assert what_is_wrong(other.record) is None
    same = evaluate_artifact(
        "expert", "cartpole", expert="cartpole", seeds=1, episodes=2, results=tmp_path
    )
    assert (same.record, same.reused) == (usual.record, 1)
