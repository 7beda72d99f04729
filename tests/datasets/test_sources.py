"""Datasets and experts of one's own: by path, known by content, refused in one line."""

from __future__ import annotations

import json
import shutil
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import rlcondense as rlc
from rlcondense import catalogue, make
from rlcondense.catalogue import base_of, register
from rlcondense.cli import main
from rlcondense.comparison.tables import _data_name, _why_no_recovery
from rlcondense.datasets.cards import card_of
from rlcondense.datasets.episodes import Episode
from rlcondense.datasets.minari import (
    lacks_action_probs,
    local_datasets,
    minari_path,
    paths_of,
    remove_minari,
    verify_minari,
    write_minari,
)
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig, PluginLoadError, RLCondenseError, UnknownName
from rlcondense.experts.shipped import find_expert, save_expert
from rlcondense.files import read_json, write_json
from rlcondense.make import load_dataset, load_expert, make_task, named_dataset, stated_task
from rlcondense.networks import NetworkSpec, PolicyNetwork
from rlcondense.running.bench import expert_name
from rlcondense.training.collect import environments_for
from tests.datasets.minari_data import create, episode


@pytest.fixture(scope="module")
def poles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes of cartpole, as `dataset collect` writes them."""
    path = tmp_path_factory.mktemp("poles") / "poles.recording.safetensors"
    done = CliRunner().invoke(
        main,
        [
            "dataset",
            "collect",
            "cartpole",
            "--kind",
            "random",
            "--episodes",
            "20",
            "--out",
            str(path),
        ],
    )
    assert done.exit_code == 0, done.output
    return path


def columns_of(data: TransitionDataset) -> dict[str, Any]:
    return {
        "observations": np.asarray(data.observations),
        "actions": np.asarray(data.actions),
        "rewards": np.asarray(data.column("rewards")),
        "terminals": np.asarray(data.column("terminations")),
        "timeouts": np.asarray(data.column("truncations")),
        "action_probs": np.asarray(data.action_probs),
        "level_seeds": np.asarray(data.level_seeds),
    }


def written(path: Path, columns: dict[str, Any]) -> Path:
    if path.suffix == ".npz":
        np.savez_compressed(path, **columns)
    else:
        with h5py.File(path, "w") as file:
            for name, values in columns.items():
                file.create_dataset(name, data=values)
            file.create_group("metadata")["algorithm"] = "nobody"  # as D4RL's files have
    return path


def refusal(*command: object) -> str:
    done = CliRunner().invoke(main, list(map(str, command)))
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
def test_named_columns_come_in_as_they_are(poles: Path, tmp_path: Path, suffix: str) -> None:
    data = load_dataset(str(poles))
    path = written(tmp_path / f"mine{suffix}", columns_of(data))
    again = load_dataset(str(path), task="cartpole")
    assert again.sha256 == data.sha256
    assert again.task == data.task == "classic/cartpole-v0"


def test_dones_beside_timeouts_are_ends_of_either_kind(poles: Path, tmp_path: Path) -> None:
    columns = columns_of(load_dataset(str(poles)))
    ends = columns.pop("terminals") | columns["timeouts"]
    again = load_dataset(
        str(written(tmp_path / "a.npz", {**columns, "dones": ends})), task="cartpole"
    )
    assert again.sha256 == load_dataset(str(poles)).sha256
    either = {**columns, "terminated": ends & ~columns["timeouts"], "dones": ends}
    del either["timeouts"]
    both = load_dataset(str(written(tmp_path / "c.npz", either)), task="cartpole")
    assert both.sha256 == again.sha256
    del columns["timeouts"]  # nobody says which they are
    alone = load_dataset(
        str(written(tmp_path / "b.npz", {**columns, "dones": ends})), task="cartpole"
    )
    assert alone.column("terminations").tolist() == ends.tolist()


def test_frames_with_channels_last_and_an_open_end_come_in(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    columns = {
        "observations": frames,
        "actions": np.arange(6)[:, None],
        "rewards": np.ones(6),
        "terminals": np.array([0, 0, 1, 0, 0, 0.0]),
    }
    data = load_dataset(str(written(tmp_path / "mine.npz", columns)), task="starpilot")
    np.testing.assert_array_equal(data.observations, np.moveaxis(frames, -1, 1))
    assert data.actions.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.column("terminations").tolist() == [False, False, True, False, False, False]
    assert data.column("truncations").tolist() == [False] * 5 + [True]
    assert data.level_seeds is None


def test_data_that_do_not_say_their_task_need_a_word(poles: Path, tmp_path: Path) -> None:
    silent = written(tmp_path / "silent.npz", columns_of(load_dataset(str(poles))))
    line = "the data do not say on which task they were collected: --task"
    random = ["--method", "random", "--size", 4]
    for command in (
        ["run", *random],
        ["condense", *random, "--out", tmp_path / "out"],
        ["evaluate", "random-policy"],
        ["transfer", *random, "--learner", "bc"],
        ["score", "--method", "longest", "--out", tmp_path / "scores.csv"],
    ):
        source = [silent] if command[0] == "score" else ["--dataset", silent]
        assert "--task" in refusal(*command, *source), command
    for call in (rlc.run, rlc.condense):
        with pytest.raises(BadConfig, match=line):
            call(dataset=silent, method="random")


def test_minaris_data_are_of_the_task_of_their_environment() -> None:
    for name, environment in (("cart", "CartPole-v1"), ("taxi", "FrozenLake-v1")):
        with gymnasium.make(environment) as env:
            episode = Episode(
                observations=np.zeros((3, 4), np.float32),
                actions=np.zeros(3, np.int64),
                rewards=np.ones(3, np.float32),
                level_seed=None,
            )
            if name == "taxi":
                env.observation_space = gymnasium.spaces.Box(-1, 1, (4,))
            write_minari(f"tests/{name}-v0", iter([episode]), {}, env)
    cartpole, task = "classic/cartpole-v0", make_task("cartpole")
    assert stated_task("tests/cart-v0") == stated_task(load_dataset("tests/cart-v0")) == cartpole
    with pytest.raises(BadConfig, match="--task"):
        stated_task("tests/taxi-v0")
    for name in ("tests/cart-v0", "tests/taxi-v0"):
        assert expert_name(name, task) == cartpole
    assert expert_name("tests/cart-v0", make_task("cartpole-long")) == ""
    with pytest.raises(UnknownName, match="unknown dataset"):
        stated_task("tests/bus-v0")


def test_a_table_says_why_no_row_has_a_recovery() -> None:
    rows = {name: [SimpleNamespace(id=name)] for name in ("expert", "random-policy", "random")}
    assert "stands apart" in _why_no_recovery(rows["expert"] + rows["random-policy"])
    assert "--expert names one" in _why_no_recovery(rows["random"] + rows["random-policy"])
    assert "without reference rows" in _why_no_recovery(rows["random"])


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    for name in ("nofile.npz", "./nofile", str(tmp_path / "none"), "x/data.parquet"):
        assert f"no such file or folder: '{name}'" in refusal("run", "--dataset", name)
    with pytest.raises(BadConfig, match="no such file or folder: 'tests/none-v0'"):
        load_dataset(Path("tests/none-v0"))
    assert "holds no dataset" in refusal("run", "--dataset", tmp_path, "--task", "cartpole")


def test_paths_are_taken_wherever_names_are(poles: Path) -> None:
    data = load_dataset(poles)
    assert load_dataset(data).id == data.id
    assert stated_task(poles) == "classic/cartpole-v0"
    assert rlc.condense(poles, "random", size=4).report.dataset == data.id


def test_any_number_of_episodes_is_collected(tmp_path: Path) -> None:
    for episodes, environments in ((3, 3), (20, 20), (23, 1), (30, 15), (100, 20)):
        assert environments_for(episodes) == environments
    assert environments_for(15, 5) == 15
    with pytest.raises(BadConfig, match="multiple of 5 policies"):
        environments_for(12, 5)
    out = tmp_path / "three.safetensors"
    command = ["dataset", "collect", "cartpole", "--kind", "random", "--episodes", 3, "--out", out]
    assert CliRunner().invoke(main, list(map(str, command))).exit_code == 0
    assert len(load_dataset(out).episodes) == 3


def test_a_file_is_known_by_its_content(poles: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(poles.read_bytes())
    id_ = named_dataset(str(poles))
    assert named_dataset(str(moved)) == id_ == named_dataset(str(moved), "cartpole")
    fewer = {name: values[:200] for name, values in columns_of(load_dataset(str(poles))).items()}
    others = set()
    for bonus in (0, 1):
        changed = {**fewer, "rewards": fewer["rewards"] + bonus}
        others.add(named_dataset(str(written(tmp_path / f"{bonus}.npz", changed)), "cartpole"))
    assert len(others | {id_}) == 3


def test_what_can_be_built_again_lies_on_disk_once(poles: Path, tmp_path: Path) -> None:
    columns = columns_of(load_dataset(str(poles)))
    del columns["action_probs"]
    source = written(tmp_path / "once.npz", {**columns, "rewards": columns["rewards"] + 7})
    data = load_dataset(str(source), task="cartpole")
    [folder] = paths_of(data.id)
    assert data.id in local_datasets()
    assert {file.stem for file in folder.glob("*.npy")} == set(data.columns())
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(f".{folder.name}")]
    assert lacks_action_probs(data.id)
    assert verify_minari(data.id) == data.sha256
    assert card_of(data)["minari"]["environment"] == "classic/cartpole-v0"
    (folder / "actions.npy").touch()  # as if it had been changed: it is built again
    assert load_dataset(str(source), task="cartpole").sha256 == data.sha256
    remove_minari(data.id)
    assert paths_of(data.id) == []


def small_expert(folder: Path) -> Path:
    """The weights of a policy of cart-pole that nobody has trained."""
    network = PolicyNetwork(NetworkSpec("mlp", (4,), 2, width=8, depth=1))
    return save_expert("classic/cartpole-v0", network, {}, folder)


@pytest.mark.slow
def test_an_expert_of_ones_own_has_the_expert_row(poles: Path, tmp_path: Path) -> None:
    weights = small_expert(tmp_path / "mine")
    command = ["run", "--method", "random", "--dataset", poles, "--size", 9, "--seeds", 1,
               "--episodes", 4, "--condensations", 1, "--set", "learner.updates=2",
               "--set", "learner.batch_size=512", "--json",
               "--results", tmp_path / "r"]  # fmt: skip
    id_, data_id = named_dataset(poles, expert=weights), named_dataset(poles)
    assert id_ == named_dataset(str(poles), expert=str(weights)) != data_id == base_of(id_)
    assert _data_name(id_) == f"{id_} (data {data_id})"  # as dataset list has them
    rows = {}
    for expert in (weights.parent, weights, None):
        named = [] if expert is None else ["--expert", expert]
        done = CliRunner().invoke(main, list(map(str, [*command, *named])))
        assert done.exit_code == 0, done.output
        out = json.loads(done.stdout)
        assert out["record"]["cell"]["task"] == "classic/cartpole-v0"  # the file says so
        rows[expert] = next(r for r in out["references"] if r["cell"]["method"]["id"] == "expert")
    mine, by_file, shipped = rows.values()
    assert mine["cell_id"] == by_file["cell_id"] != shipped["cell_id"]
    assert mine["key"]["expert_sha256"] != shipped["key"]["expert_sha256"]
    other = refusal("run", "--method", "random", "--task", "acrobot", "--expert", weights)
    assert "holds categorical policies from (4,) to 2 actions" in other


def test_an_expert_gets_a_name_from_a_package_or_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = small_expert(tmp_path / "mine")
    (tmp_path / "package_of_experts.py").write_text(f"FOLDER = {str(weights.parent)!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    points = {
        "theirs/poles-v0": "package_of_experts:FOLDER",
        "theirs/none-v0": "os:name",
        "odd..name": "os:name",
    }
    monkeypatch.setattr(
        catalogue,
        "_installed",
        lambda: [
            (EntryPoint(name, point, "rlcondense.experts"), ("package", "1"))
            for name, point in points.items()
        ],
    )
    register("experts", "mine/poles-v0", str(weights))
    for name in ("mine/poles-v0", "theirs/poles-v0"):
        assert find_expert(name).sha256 == load_expert(str(weights)).sha256
    with pytest.raises(PluginLoadError, match="of package 1: there is no posix"):
        find_expert("theirs/none-v0")
    with pytest.raises(UnknownName, match="did you mean 'mine/poles-v0'"):
        find_expert("mine/pole-v0")


def test_the_id_of_a_shipped_expert_cannot_be_registered() -> None:
    with pytest.raises(BadConfig, match="'classic/cartpole-v0' is a built-in expert"):
        register("experts", "classic/cartpole-v0", "elsewhere")
    register("experts", "classic/cartpole-v7", "elsewhere")  # a later one of a user's own
    register("experts", "classic-cartpole-v0", "elsewhere")


def test_an_expert_that_two_packages_offer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = small_expert(tmp_path / "mine")
    (tmp_path / "two_experts.py").write_text(f"FOLDER = {str(weights.parent)!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("lab/twins-v0", "two_experts:FOLDER", "rlcondense.experts")
    owners = [("one", "1"), ("two", "1")]
    monkeypatch.setattr(catalogue, "_installed", lambda: [(point, owner) for owner in owners])
    with pytest.raises(PluginLoadError, match="one 1 and two 1 both offer the expert"):
        find_expert("lab/twins-v0")
    assert [(entry.group, entry.rivals) for entry in catalogue.plugins()] == [
        ("experts", ("two 1",)), ("experts", ("one 1",))
    ]  # fmt: skip


def test_a_dataset_gets_a_name_and_loses_it(poles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = CliRunner()
    done = run.invoke(main, ["dataset", "add", str(poles), "--id", "mine/poles-v0"])
    assert done.output.startswith("mine/poles-v0: 20 episodes"), done.output
    assert load_dataset("mine/poles-v0").sha256 == load_dataset(str(poles)).sha256
    assert load_dataset("mine/poles").id == "mine/poles-v0"
    paths = run.invoke(main, ["dataset", "list", "--paths"]).output
    assert sum(line.startswith("mine/poles-v0 ") for line in paths.splitlines()) == 1
    assert "already" in refusal("dataset", "add", poles, "--id", "mine/poles-v0")
    [line] = [line for line in paths.splitlines() if line.startswith("mine/poles-v0 ")]
    assert line.split()[1] == str(paths_of(named_dataset(poles))[0])  # on disk once
    monkeypatch.setattr(catalogue, "_registered", {})  # as another process sees it
    for command in ("verify", "show", "build"):
        done = run.invoke(main, ["dataset", command, "mine/poles-v0"])
        assert done.exit_code == 0, done.output
    remove_minari(base_of("mine/poles-v0"))
    assert load_dataset("mine/poles-v0").task == "classic/cartpole-v0"  # built again
    assert run.invoke(main, ["dataset", "add", str(poles), "--id", "mine/b-v0"]).exit_code == 0
    assert run.invoke(main, ["dataset", "remove", "mine/b-v0"]).exit_code == 0
    assert paths_of(base_of("mine/poles-v0"))  # of another name, still
    assert run.invoke(main, ["dataset", "remove", "mine/poles-v0"]).exit_code == 0
    assert "mine/poles-v0" in refusal("dataset", "show", "mine/poles-v0")
    assert not paths_of(named_dataset(poles))
    assert "no dataset" in refusal("dataset", "remove", "mine/poles-v0")
    assert "not an id" in refusal("dataset", "add", poles, "--id", "../poles")


def test_a_folder_of_minari_is_verified_listed_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = create("tests/folder-v0", [episode(), episode(5)], env=gymnasium.make("CartPole-v1"))
    folder = tmp_path / "mine"
    shutil.move(minari_path(id_), folder)
    run = CliRunner()
    assert "as when it was first read here" in run.invoke(
        main, ["dataset", "verify", str(folder)]
    ).output  # fmt: skip
    done = run.invoke(main, ["dataset", "add", str(folder), "--id", "mine/folder-v0"])
    assert done.exit_code == 0, done.output
    monkeypatch.setattr(catalogue, "_registered", {})  # as another process sees it
    [line] = [
        line for line in run.invoke(main, ["dataset", "list"]).output.splitlines()
        if line.startswith("mine/folder-v0")
    ]  # fmt: skip
    assert line.split()[1] == "here"
    done = run.invoke(main, ["dataset", "verify", "mine/folder-v0"])
    assert done.exit_code == 0, done.output
    assert "CartPole-v1" in run.invoke(main, ["dataset", "show", "mine/folder-v0", "--json"]).output
    [columns] = paths_of(base_of("mine/folder-v0"))
    other = create("tests/other-v0", [episode(7)], env=gymnasium.make("CartPole-v1"))
    shutil.rmtree(folder)
    shutil.move(minari_path(other), folder)  # recorded again
    assert "is not what it was when it got its name" in refusal(
        "dataset", "verify", "mine/folder-v0"
    )
    assert run.invoke(main, ["dataset", "remove", "mine/folder-v0"]).exit_code == 0
    assert folder.is_dir()
    assert not columns.exists()


def test_a_name_is_removed_and_not_the_dataset_that_it_is_another_name_of(tmp_path: Path) -> None:
    id_ = create("tests/keep-v0", [episode(), episode(5)], env=gymnasium.make("CartPole-v1"))
    weights = small_expert(tmp_path / "mine")
    make.add_dataset(id_, "mine/keep-v0", expert=weights)
    assert len(load_dataset("mine/keep-v0").episodes) == 2
    assert load_dataset("mine/keep-v0").task == "classic/cartpole-v0"
    with pytest.raises(BadConfig, match="is of task 'classic/cartpole-v0', not of"):
        make.add_dataset(id_, "mine/other-v0", task="acrobot", expert=weights)
    (row,) = read_json(catalogue.added_path())
    write_json(catalogue.added_path(), [{**row, "facts": {**row["facts"], "transitions": 7}}])
    assert catalogue.find("datasets", "mine/keep-v0").facts["transitions"] == 7  # no text
    assert make.remove_dataset("mine/keep-v0")
    assert "mine/keep-v0" not in catalogue.entries("datasets")
    assert len(load_dataset(id_).episodes) == 2
    assert minari_path(id_).is_dir()


def test_two_datasets_that_are_added_at_once_do_not_share_a_name(
    poles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = written(tmp_path / "other.npz", columns_of(load_dataset(str(poles))))
    real = make.named_dataset

    def meanwhile(source: Any, task: Any = None, expert: Any = None) -> str:
        monkeypatch.setattr(make, "named_dataset", real)
        make.add_dataset(other, "race/poles-v0", task="cartpole")
        return real(source, task, expert)

    monkeypatch.setattr(make, "named_dataset", meanwhile)
    with pytest.raises(BadConfig, match="there is a dataset 'race/poles-v0' already"):
        make.add_dataset(poles, "race/poles-v0")
    assert make.remove_dataset("race/poles-v0")
    assert not make.remove_dataset("race/poles-v0")


def _bomb(path: Path) -> None:
    """An array that announces more rows than it has."""
    np.save(path.with_suffix(".npy"), np.zeros(3))
    content = path.with_suffix(".npy").read_bytes().replace(b"(3,)", b"(9,)")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("rewards.npy", content)


def test_what_is_no_dataset_is_refused_in_one_line(poles: Path, tmp_path: Path) -> None:
    columns = columns_of(load_dataset(str(poles)))
    rows = len(columns["rewards"])
    without = {name: values for name, values in columns.items() if name != "rewards"}
    ends = ("terminals", "timeouts")
    changes: dict[str, tuple[dict[str, Any], str]] = {
        "short": ({"actions": columns["actions"][:-1]}, "different lengths"),
        "objects": ({"rewards": np.array([{}] * rows)}, "no array of rows of numbers"),
        "flags": ({"terminals": np.full(rows, 7)}, "no flags"),
        "shape": ({"observations": np.zeros((rows, 3))}, "task 'classic/cartpole-v0' has (4,)"),
        "actions": ({"actions": np.full(rows, 9)}, "actions"),
        "nan": ({"rewards": np.full(rows, np.nan)}, "rewards"),
    }
    cases = {name: ({**columns, **change}, text) for name, (change, text) in changes.items()}
    cases["no rewards"] = (without, "has no rewards")
    endless = {name: values for name, values in columns.items() if name not in ends}
    cases["no ends"] = (endless, "terminals, timeouts or episode_index")
    for name, (values, message) in cases.items():
        path = written(tmp_path / f"{name}.npz", values)
        assert message in refusal("dataset", "show", path, "--task", "cartpole"), name
    written(tmp_path / "bomb.npz", without)
    _bomb(tmp_path / "bomb.npz")
    assert "announces" in refusal("dataset", "show", tmp_path / "bomb.npz", "--task", "cartpole")
    (tmp_path / "text.npz").write_text("no zip")
    assert "cannot be read" in refusal(
        "dataset", "show", tmp_path / "text.npz", "--task", "cartpole"
    )
    assert "does not say" in refusal("dataset", "show", tmp_path / "short.npz")
    (tmp_path / "notes.txt").write_text("no dataset")
    assert "is no dataset" in refusal("dataset", "show", tmp_path / "notes.txt")
    with pytest.raises(RLCondenseError):
        load_dataset(str(written(tmp_path / "objects.hdf5", without)), task="cartpole")
