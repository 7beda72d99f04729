"""What data show of themselves is short, in a terminal and in a notebook."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rlcondense as rlc
from rlcondense.catalogue import entries
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.datasets.summary import Head
from rlcondense.datasets.transitions import TransitionDataset


@pytest.fixture(scope="module")
def data() -> TransitionDataset:
    return rlc.from_arrays(
        observations=np.arange(24).reshape(6, 4),
        actions=[0, 0, 0, 1, 0, 0],
        rewards=[1, 1, 1, 1, 1, 2.5],
        terminations=[False, True, False, False, False, True],
        task="cartpole",
    )


def test_a_dataset_is_a_few_lines(data: TransitionDataset) -> None:
    title, *lines = repr(data).splitlines()
    assert title == f"Dataset {data.id} of classic/cartpole-v0: 2 episodes, 6 transitions"
    assert [line.split()[0] for line in lines] == ["observations", "actions", "returns", "columns"]
    assert lines[1].split() == ["actions", "0", "█▂", "1"]
    assert lines[2].startswith("  returns       2.00 ")
    assert lines[2].endswith(" 5.50, mean 3.75")
    level = replace(data, rewards=np.zeros(6, np.float32))
    assert "all 0.00" in repr(level)
    assert "not finite" in repr(replace(data, rewards=np.full(6, np.nan, np.float32)))
    empty = {name: column[:0] for name, column in data.columns().items()}
    assert "0 transitions" in repr(TransitionDataset(**empty))
    many = replace(data, actions=np.array([0, 0, 0, 0, 0, 900]))
    assert "0 to 900" in repr(many)


def test_the_first_rows_are_a_table(data: TransitionDataset) -> None:
    names, first, second = repr(data.head(2)).splitlines()
    assert names.split()[:3] == ["observations", "actions", "rewards"]
    assert first.startswith("0 1 2 3       0        1        False")
    assert second.startswith("4 5 6 7       0        1        True")
    assert len(repr(data.head(100)).splitlines()) == 7
    assert data.head(1)._repr_html_().count("<tr>") == 2
    wide = Head({"a": np.zeros((1, 9)), "b": np.zeros((1, 3, 8, 8), np.uint8)})
    assert repr(wide).splitlines()[1].split("  ") == ["0 0 0 0 ... (9)", "uint8 3 x 8 x 8"]


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_a_notebook_shows_frames(kind: type) -> None:
    frames = np.full((3, 3, 8, 8), 7, kind)
    small = CondensedDataset(observations=frames, actions=np.zeros(3, np.int64),
                             weights=np.ones(3, np.float32))  # fmt: skip
    assert repr(small).startswith("Condensed set: 3 transitions, hard labels\n")
    assert small._repr_html_().count('<img alt="frames" src="data:image/png;base64,') == 1


def test_vectors_have_no_picture_and_names_are_escaped(data: TransitionDataset) -> None:
    shown = replace(data, id="<b>")._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<img" not in shown


def test_names_are_listed() -> None:
    for group in ("tasks", "datasets", "methods", "learners"):
        assert getattr(rlc, f"list_{group}")() == sorted(entries(group))
    assert "smoke" in rlc.list_suites()


def test_data_are_drawn(data: TransitionDataset, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    frames = np.full((3, 3, 8, 8), 7, np.uint8)
    small = CondensedDataset(observations=frames, actions=np.zeros((3, 2), np.float32),
                             weights=np.ones(3, np.float32), label_kind="continuous")  # fmt: skip
    for shown, labels in (
        (data, ["return of an episode", "action"]),
        (replace(data, actions=np.arange(6) * 99), ["return of an episode", "action"]),
        (small, ["number of an action", ""]),
    ):
        axes = shown.plot(tmp_path / "data.png")
        assert [panel.get_xlabel() for panel in axes] == labels
        assert (tmp_path / "data.png").stat().st_size > 1000
        axes[0].figure.clear()
