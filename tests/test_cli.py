from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from rlcondense.catalogue import data_root, list_learners
from rlcondense.cli import main
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.make import load_dataset, make_learner, make_method
from tests.conftest import TINY

QUICK = [
    "--dataset", TINY, "--seeds", "2", "--episodes", "4", "--set", "learner.network=compact",
    "--set", "learner.updates=2", "--set", "learner.batch_size=8",
]  # fmt: skip
RUN = ["run", "--method", "random", "--size", "5", "--condensations", "1", *QUICK]


@pytest.fixture(autouse=True)
def _dataset(tiny: TransitionDataset) -> None:
    """The small dataset is there."""


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_run_prints_the_table_and_where_the_record_lies(tmp_path: Path) -> None:
    results = ["--results", str(tmp_path)]
    first = call(*RUN, *results)
    assert first.exit_code == 0, first.output
    for row in ("random-policy", "marginal-policy", "random", "full"):
        assert f"\n{row}" in first.stdout
    assert "0 of them read back" in first.stdout
    _, record, _, condensed = first.stdout.split("Records:")[1].splitlines()
    assert Path(record.strip()).is_file()
    assert (Path(condensed.strip()) / "report.json").is_file()
    second = call(*RUN, *results)
    assert "5 of them read back" in second.stdout


@pytest.mark.slow
def test_run_json_is_a_record_and_its_references(tmp_path: Path) -> None:
    done = call(*RUN, "--json", "--results", str(tmp_path))
    printed = json.loads(done.stdout)
    assert printed.keys() == {"record", "references"}
    assert printed["record"]["status"] == "done"


def test_a_combination_that_cannot_be_is_one_line_and_exit_code_0(tmp_path: Path) -> None:
    arguments = ["run", "--dataset", TINY, "--size", "5", "--results", str(tmp_path)]
    started = time.monotonic()
    done = call(*arguments, "--method", "gradmatch", "--learner", "dqn")
    assert done.exit_code == 0
    assert done.stdout == (
        "gradmatch with dqn: skipped (needs rewards, next_observations, terminations)\n"
    )
    assert time.monotonic() - started < 20  # nothing was condensed
    assert not list((tmp_path / "condensed").iterdir())
    [file] = (tmp_path / "records").iterdir()
    record = json.loads(file.read_text())
    assert record["status"] == "skipped"
    assert record["reason"] == "needs rewards, next_observations, terminations"
    done = call(*arguments, "--method", "random", "--learner", "iql")
    assert done.stdout == "random with iql: skipped (needs continuous actions)\n"


def test_a_condensed_set_of_somebody_elses_without_rewards_is_skipped_too(tmp_path: Path) -> None:
    from rlcondense.files import write_arrays, write_json

    folder = tmp_path / "theirs"
    frames = np.zeros((3, 3, 64, 64), np.uint8)
    arrays = {"observations": frames, "actions": np.arange(3)}
    write_arrays(folder / "condensed.safetensors", arrays)
    write_json(folder / "report.json", {"label_kind": "hard"})
    common = ["--dataset", TINY, "--results", str(tmp_path / "r"), "--learner", "dqn"]
    common += ["--seeds", "1", "--episodes", "2", "--set", "learner.network=compact"]
    common += ["--set", "learner.updates=2"]
    done = call("evaluate", str(folder), *common)
    assert "skipped (needs rewards, next_observations, terminations)" in done.stdout
    whole = {
        **arrays,
        "rewards": np.ones(3, np.float32),
        "terminations": np.zeros(3, bool),
        "next_observations": frames + 1,
    }
    write_arrays(folder / "condensed.safetensors", whole)
    done = call("evaluate", str(folder), *common)
    assert done.exit_code == 0, done.output
    assert "condensed:theirs" in done.stdout


def test_rows_that_cannot_be_stand_on_the_table_as_such(tmp_path: Path) -> None:
    done = call(
        "run", "--method", "percentile", "--percent", "30", "--unit", "episodes", "--dataset",
        TINY, "--results", str(tmp_path), "--seeds", "1", "--episodes", "2", "--learner",
        "discrete-decision-transformer", "--set", "learner.network=mlp", "--set",
        "learner.width=8", "--set", "learner.num_heads=2", "--set", "learner.num_layers=1",
        "--set", "learner.updates=1",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "\npercentile" in done.stdout
    assert re.search(r"^random +\d+ +skipped", done.stdout, re.MULTILINE)
    assert "random with discrete-decision-transformer: skipped (needs episodes)" in done.stdout


@pytest.mark.slow
def test_transfer_prints_a_matrix_and_reads_it_back(tmp_path: Path) -> None:
    arguments = [
        "transfer", "--method", "random-balanced", "--method", "random", "--size", "5",
        "--dataset", TINY, "--seeds", "2", "--episodes", "4", "--results", str(tmp_path),
        "--learner", "bc:network=compact,updates=2,batch_size=8",
        "--learner", "dqn:network=mlp,width=8,updates=2",
    ]  # fmt: skip
    first = call(*arguments)
    assert first.exit_code == 0, first.output
    again = call(*arguments, "--json")
    printed = json.loads(again.stdout)
    assert set(printed["rows"]) == {"random-balanced", "random", "full-converged", "full"}
    for name, row in printed["rows"].items():
        # Which dqn does not train to the end.
        expected = {"done", "skipped"} if name == "full-converged" else {"done"}
        assert {records[0]["status"] for records in row.values()} == expected
    policies = [record["cell"]["method"]["id"] for record in printed["policies"]]
    assert policies == ["random-policy", "marginal-policy", "constant-policy"]
    assert len(list((tmp_path / "condensed").iterdir())) == 2  # once for all learners
    text = call(*arguments).stdout
    assert set(printed["rank_correlation"]) <= {arguments[-1]}
    assert "11 cells in" in text
    assert "10 read back" in text
    for name in ("random-balanced", "random", "full", "marginal-policy", "random-policy"):
        assert f"\n{name}" in text


@pytest.mark.slow
def test_transfer_takes_folders_condenses_once_and_says_what_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlcondense.methods.random_balanced import RandomBalanced

    calls = []
    condense = RandomBalanced._condense
    monkeypatch.setattr(
        RandomBalanced, "_condense", lambda self, p: calls.append(p.seed) or condense(self, p)
    )
    folder = str(tmp_path / "mine")
    made = ["condense", "--method", "gradmatch", "--dataset", TINY, "--size", "4", "--out", folder]
    quick = ("preset=per-class", "network=compact", "iterations=1", "real_batch=4")
    call(*made, *(part for setting in quick for part in ("--set", setting)))
    arguments = [
        "transfer", folder, "--method", "random-balanced", "--method", "random", "--size", "6",
        "--dataset", TINY, "--seeds", "2", "--episodes", "4", "--results", str(tmp_path / "r"),
        "--learner", "bc:network=compact,updates=2,batch_size=8", "--learner",
        "bc:network=mlp,width=8,updates=2", "--learner", "dqn:network=mlp,width=8,updates=2",
        "--condensations", "2", "--refresh",
    ]  # fmt: skip
    done = call(*arguments)
    assert done.exit_code == 0, done.output
    assert calls == [0, 1]
    assert "condensed:gradmatch with dqn: skipped (needs rewards" in done.stdout
    lines = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert lines[folder].rstrip().endswith("skipped")
    assert lines["random 4"].split()[2] == "4"  # a random subset of the folder's size
    assert "random 6" not in lines  # which was named
    for floor in ("marginal-policy", "constant-policy"):  # dqn acts greedily
        assert lines[floor].count("[") == 3  # the same whoever learns
    assert "Kendall's tau-b" in done.stdout
    printed = json.loads(call(*arguments[:-1], "--json").stdout)
    for row in printed["rows"]["random-balanced"].values():
        assert [r["cell"]["condensation_seed"] for r in row] == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "random", "--method", "random", "--learner", "bc"], "each once"),
        (["--learner", "bc"], "name a method or a folder"),
        (["--method", "random", "--learner", "bc", "--learner", "bc"], "each once"),
        (["--method", "random", "--learner", "bc:network"], "id or id:key=value,key=value"),
        (["--method", "random", "--learner", "bc:"], "id or id:key=value,key=value"),
        (["--method", "random", "--learner", "bc:updates=3,,network=mlp"], "id or id:key"),
        (["--method", "random", "--learner", "bc:updates=3,updates=4"], "id or id:key"),
        (["--method", "random", "--learner", ":updates=3"], "id or id:key"),
        (["nowhere", "--learner", "bc"], "nowhere is no folder with a condensed dataset"),
        (["--method", "random", "--learner", "bc:netwrk=cnn4"], "did you mean 'network'"),
        (["--method", "random", "--learner", "cb"], "unknown learner 'cb'"),
    ],
)
def test_a_wrong_transfer_is_one_clear_line_and_exit_code_2(
    arguments: list[str], message: str
) -> None:
    done = call("transfer", "--dataset", TINY, *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_condense_refuses_a_dataset_that_its_method_would_ignore(tmp_path: Path) -> None:
    done = call("condense", "--method", "ppmo", "--dataset", TINY, "--out", str(tmp_path / "set"))
    assert done.exit_code == 2
    assert "method 'ppmo' condenses no dataset" in done.stderr
    assert done.stderr.count("\n") == 1


WITHOUT_DATA = ["condense", "--method", "hades-r", "--task", "cartpole", "--out", "set"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*WITHOUT_DATA, "--heldout-data"], "condenses no dataset, which --heldout-data is for"),
        ([*WITHOUT_DATA, "--download"], "condenses no dataset, which --download is for"),
        ([*WITHOUT_DATA, "--expert", "classic/cartpole-v0"], "'hades-r' uses no expert"),
        (["evaluate", "random-policy", "--own-references"], "random-policy is measured alone"),
        (
            ["evaluate", "random-policy", "--expert", "none"],
            "--expert is for rows beside",
        ),
        (["run", "--method", "random", "--set", "label_teachers=9"], "needs labels=taught"),
        (["dataset", "show", TINY, "--task", "coinrun"], "not of 'procgen/coinrun-easy-v0'"),
        (["show", "starpilot", "--settings"], "--settings is of methods and learners"),
        (["show", "smoke", "--settings"], "--settings is of methods and learners"),
        (["report", "--csv", "a.csv", "--caption", "A"], "by their own names, without --caption"),
        (["report", "--name", "a=A", "--name", "a=B"], "--name gives a twice"),
        (["check", "random", *["--expect-failure", "a=b"] * 2], "--expect-failure gives a twice"),
        (["expert", "train", "cartpole", "--seed", "0", "--set", "seed=5"], "say the same thing"),
    ],
)
def test_an_option_that_cannot_act_is_one_clear_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_policies_that_are_kept_are_those_of_the_record(tmp_path: Path) -> None:
    asked = [*RUN, "--no-references", "--results", str(tmp_path)]
    first = call(*asked, "--keep-policies")
    [folder] = (tmp_path / "policies").iterdir()
    assert "No policies are kept" not in first.output
    assert "No policies are kept" not in call(*asked, "--keep-policies").output
    call(*asked, "--refresh")
    assert not folder.exists()
    again = call(*asked, "--keep-policies")
    assert f"No policies are kept of what was read back: {folder.name}" in again.output


def test_transfer_says_that_a_set_has_other_data_than_its_reference_rows(
    tmp_path: Path,
) -> None:
    data = load_dataset("classic/cartpole/mixed-v0")
    make_method("random").condense(data, task="cartpole", budget=4).save(tmp_path / "set")
    small = ["--seeds", "2", "--episodes", "2", "--results", str(tmp_path / "r")]
    learner = ["--learner", "bc:network=mlp,width=8,updates=2"]
    done = call("transfer", str(tmp_path / "set"), *learner, *small)
    assert done.exit_code == 0, done.output
    said = f"{tmp_path / 'set'} was condensed from 'classic/cartpole/mixed-v0', its reference rows"
    assert f"{said} from other data, 'classic/cartpole/expert-v0'" in done.stderr


def test_a_learner_that_cannot_learn_the_task_ends_a_transfer_at_once(tmp_path: Path) -> None:
    learners = ["--learner", "bc", "--learner", "bc:network=nature"]
    results = ["--results", str(tmp_path / "r")]
    done = call("transfer", "--task", "cartpole", "--method", "random", *learners, *results)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("name", ["bc", "hades-r", "pbc"])
def test_settings_are_shown_as_set_takes_them(name: str) -> None:
    shown = call("show", name, "--settings").stdout
    pairs = [word for line in shown.splitlines() for word in line.split() if "=" in word]
    assert any(pair.endswith(("=false", "=true")) for pair in pairs)
    make = make_learner if name in list_learners() else make_method
    own = dict(pair.removeprefix("learner.").split("=", 1) for pair in pairs)
    assert make(name, **own).config == make(name).config


def test_what_a_learner_cannot_learn_is_said_before_anything_is_condensed(tmp_path: Path) -> None:
    asked = ["--task", "cartpole", "--size", "4", "--set", "learner.augmentation=views"]
    done = call("run", "--method", "random", *asked, "--results", str(tmp_path))
    assert done.exit_code == 2
    assert "augmentation 'views' is for frames, not for (4,)" in done.stderr
    assert not list(tmp_path.glob("condensed/*"))


def test_condense_then_show_then_evaluate(tmp_path: Path) -> None:
    out = str(tmp_path / "small")
    made = call("condense", "--method", "random", "--dataset", TINY, "--size", "6", "--out", out)
    assert made.exit_code == 0, made.output
    assert "6 transitions" in made.stdout
    assert json.loads(call("show", out, "--json").stdout)["method"] == "random"
    done = call("evaluate", out, *QUICK, "--results", str(tmp_path / "r"))
    assert done.exit_code == 0, done.output
    assert "condensed:random" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--method", "gradmach"], "unknown method 'gradmach' (did you mean 'gradmatch'?)"),
        (["run", "--task", "starpilt"], "unknown task 'starpilt' (did you mean 'starpilot'?)"),
        (["run", "--learner", "cb"], "unknown learner 'cb'"),
        (["run", "--dataset", "tests/none-v0"], "unknown dataset 'tests/none-v0'"),
        (["run", "--dataset", "../up"], "no such file or folder: '../up'"),
        (
            ["run", "--method", "random", "--size", "0"],
            "size must be a whole number from 1",
        ),
        (["run", "--method", "random", "--size", "99999"], "size 99999 is above the"),
        (["run", "--percent", "0"], "percent must lie in (0, 100], not 0"),
        (["run", "--set", "iteration=3"], "no setting 'iteration' (did you mean 'iterations'?)"),
        (["run", "--set", "iterations=many"], "must be int, not 'many'"),
        (["run", "--set", "learner.updates=x"], "must be int, not 'x'"),
        (["run", "--seeds", "1400"], "seeds x environments must be at most 65,536, not 70000"),
        (["run", "--seeds", "3", "--episodes", "100000"], "seeds x episodes must be at most"),
        (["run", "--set", "iterations"], "--set takes key=value, not 'iterations'"),
        (
            ["run", "--set", "iterations=1", "--set", "iterations=2"],
            "--set gives iterations twice",
        ),
        (["run", "--method", "random", "--unit", "episodes"], "a unit goes with a percentage"),
        (["run", "--task", "dodgeball-hard", "--dataset", ""], "no dataset is shipped for task"),
        (["run", "--method", "random", "--seed", "-1"], "seed must be a whole number from 0"),
        (["condense", "--seed", "-1", "--out", "x"], "seed must be a whole number from 0"),
        (["expert", "train", "starpilot", "--set", "learner.x=1"], "trains no learner"),
        (
            ["dataset", "collect", "starpilot", "--episodes", "0", "--out", "x.safetensors"],
            "episodes",
        ),
        (["dataset", "collect", "starpilot", "--view", "plain", "--out", "x"], "needs --expert"),
        (
            [
                "dataset",
                "collect",
                "cartpole",
                "--view",
                "x",
                "--expert",
                "y",
                "--out",
                "x.safetensors",
            ],
            "'classic/cartpole-v0' has one view",
        ),
        (["dataset", "verify", "tests/none-v0"], "unknown dataset"),
        (["run", "--device", "cuda:9"], "device must be auto, cpu or cuda"),
        (["sweep", "smoke", "--dry-run", "--json", "--workers", "0"], "workers must be at least 1"),
        (["sweep", "smoke", "--dry-run", "--device", "tpu"], "device must be auto, cpu or cuda"),
        (["status", "smoke", "--device", "tpu"], "device must be auto, cpu or cuda"),
        (
            ["sweep", "smoke", "--dry-run", "--executor", "ray", "--address", ""],
            "--address is empty",
        ),
        (["score", "d", "--method", "grand", "--out", "."], "--out names a file to write"),
        (["show", "gradmach"], "did you mean 'gradmatch'"),
        (["evaluate", "nowhere"], "unknown policy or folder 'nowhere'"),
        (["evaluate", "random-policy", "--learner", "dqn"], "has learned already"),
        (["evaluate", "expert", "--set", "learner.updates=2"], "has learned already"),
        (["status", "smoke", "--json", "--table"], "neither the table nor the rates"),
        (["sweep", "smoke", "--stop-on-error", "--max-failures", "5"], "give one of them"),
        (
            ["expert", "evaluate", "dodgeball-hard"],
            "unknown expert of task",
        ),
        (["dataset", "show", "tests/none-v0"], "unknown dataset"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_request_is_one_clear_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[0] in ("run", "condense") and "--dataset" not in arguments:
        arguments = [*arguments, "--dataset", TINY]
    done = call(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("*.json"))


def commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield from commands(command) if isinstance(command, click.Group) else [command]


def test_every_command_that_names_a_part_takes_includes() -> None:
    parts = {"task", "tasks", "dataset", "source", "suite", "method", "methods", "learner"}
    boards = list(commands(main.commands["leaderboard"]))  # of shipped parts only
    ours = [c for c in commands(main) if c not in boards]
    named = [c for c in ours if parts & {p.name for p in c.params}]
    named += [c for c in commands(main.commands["dataset"]) if "name" in {p.name for p in c.params}]
    assert len(named) > 20
    for command in named:
        assert "include" in {p.name for p in command.params}, command.name


def test_an_unwritable_results_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = call("run", "--method", "random", *QUICK, "--results", str(tmp_path / "file" / "r"))
    assert done.exit_code == 2
    assert "cannot write to the results folder" in done.stderr


@pytest.mark.parametrize("command", [["show"], ["curves"], ["leaderboard", "verify"]])
def test_a_path_that_the_system_refuses_is_one_line(command: list[str]) -> None:
    result = CliRunner().invoke(main, [*command, "a" * 5000])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "File name too long (--debug shows where)" in result.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = call("--debug", "show", "gradmach")
    assert done.exception is not None
    assert type(done.exception).__name__ == "UnknownName"


def test_list_and_show_name_everything() -> None:
    everything = json.loads(call("list", "--json").stdout)
    shipped = tomllib.loads((data_root() / "registry" / "tasks.toml").read_text())["tasks"]
    assert sorted(t["id"] for t in everything["tasks"]) == sorted(t["id"] for t in shipped)
    assert {m["id"] for m in everything["methods"]} >= {
        "random", "random-balanced", "percentile", "bc-10", "bc-25", "bc-40", "full",
        "gradmatch", "gradmatch-light2024",
    }  # fmt: skip
    shown = call("show", "gradmatch", "--settings").stdout
    assert "2407.20299" in shown
    assert "\n--set iterations=40\n" in shown
    assert "\n--set resolution=none\n" in shown
    of_bc = call("show", "bc", "--settings").stdout
    assert "\n--set learner.batch_size=64\n" in of_bc
    assert "\n--set learner.init=random\n" in of_bc  # a setting that cells at its default leave out
    assert "[5.0, 10.0]" in call("show", "coinrun").stdout


@pytest.mark.parametrize(
    "command",
    [
        "",
        "run",
        "condense",
        "evaluate",
        "list",
        "show",
        "expert train",
        "dataset collect",
        "sweep",
        "status",
    ],
)
def test_every_command_has_help(command: str) -> None:
    done = call(*command.split(), "--help")
    assert done.exit_code == 0
    assert "Usage:" in done.stdout


def test_an_expert_is_trained_resumed_and_evaluated(tmp_path: Path) -> None:
    small = ["--set", "num_envs=4", "--set", "rollout_length=16", "--set", "minibatches=2"]
    common = ["expert", "train", "starpilot", "--network", "nature", "--episodes", "4", *small]
    first = call(*common, "--steps", "64", "--out", str(tmp_path))
    assert first.exit_code == 0, first.output
    second = call(*common, "--steps", "128", "--out", str(tmp_path), "--resume")
    assert "128 steps in" in second.stdout
    card = json.loads((tmp_path / "procgen-starpilot-easy-v0.json").read_text())
    assert card["command"] == (
        "rlcondense expert train starpilot --network nature --steps 128 "
        "--set num_envs=4 --set rollout_length=16 --set minibatches=2"
    )
    evaluated = call(
        "expert", "evaluate", "starpilot", "--folder", str(tmp_path), "--episodes", "4"
    )
    assert "seen" in evaluated.stdout
    assert "over 4 episodes" in evaluated.stdout
    expert_of = tmp_path / "procgen-starpilot-easy-v0.safetensors"
    renamed = tmp_path / "other"  # an expert of another id, the only one of its folder
    renamed.mkdir()
    for suffix in (".json", ".safetensors"):
        shutil.copy(expert_of.with_suffix(suffix), renamed / f"mine-v3{suffix}")
    card["id"] = "mine-v3"
    (renamed / "mine-v3.json").write_text(json.dumps(card))
    collected = call(
        "dataset", "collect", "starpilot", "--kind", "expert", "--folder", str(renamed),
        "--episodes", "1", "--out", str(tmp_path / "x.safetensors"),
    )  # fmt: skip
    assert collected.exit_code == 0, collected.output


def test_expert_list_shows_the_cards() -> None:
    done = call("expert", "list")
    assert done.exit_code == 0, done.output
    listed = json.loads(call("expert", "list", "--json").stdout)
    cards = {card["task"]: card for card in listed}
    assert len(cards) == len(listed)
    card = cards["procgen/starpilot-easy-v0"]
    assert f"{card['returns']['heldout']['mean']:.2f} ±" in done.stdout
    assert card["network"] in done.stdout


def test_settings_that_json_does_not_know_are_shown(tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    file.write_text(
        "import numpy as np\nimport rlcondense as rlc\n"
        "rlc.register('tasks', 'mine/odd-v0', 'rlcondense.tasks.gymnasium:GymnasiumTask', "
        "env='CartPole-v1', settings={'length': np.float32(1), 'how': max})\n"
    )
    for command in (["show", "mine/odd-v0", "--json"], ["show", "mine/odd-v0"]):
        done = CliRunner().invoke(main, [*command, "--include", str(file)])
        assert done.exit_code == 0, done.output
        assert '"how": "max"' in done.stdout
    done = CliRunner().invoke(main, ["list", "tasks", "--json", "--include", str(file)])
    assert json.loads(done.stdout)["tasks"]


def test_a_closed_stderr_stops_no_command() -> None:
    code = "from rlcondense.console import ConsoleProgress as P; P()('train', 1, 2); print('on')"
    command = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} 2>&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout == "on\n"


def test_a_folder_with_the_name_of_a_policy_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["evaluate", "random-policy", "--task", "cartpole", "--episodes", "2", "--json"]
    cells = []
    for results in ("a", "b"):
        done = CliRunner().invoke(main, [*command, "--results", results])
        assert done.exit_code == 0, done.output
        cells.append(json.loads(done.stdout)["record"]["cell"])
        Path("random-policy").mkdir(exist_ok=True)
    assert cells[0] == cells[1]


def test_choices_that_are_listed_for_a_quick_start_are_those_of_the_library() -> None:
    from rlcondense.cli.base import main as commands
    from rlcondense.cli.dataset import dataset
    from rlcondense.cli.expert import expert
    from rlcondense.datasets.report import UNITS
    from rlcondense.networks import ENCODERS
    from rlcondense.training.collect import KINDS

    for group, command, option, known in (
        (expert, "train", "network", ENCODERS),
        (dataset, "collect", "kind", KINDS),
        (commands, "run", "unit", UNITS),
    ):
        [choice] = [p.type for p in group.commands[command].params if p.name == option]
        assert isinstance(choice, click.Choice)
        assert set(choice.choices) == set(known)
