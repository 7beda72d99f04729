from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rlcondense import catalogue
from rlcondense.checks import check
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.evaluation import evaluate
from rlcondense.make import load_dataset, make_learner, make_method, make_task
from rlcondense.policies import FixedPolicies
from rlcondense.protocol import protocol_of
from rlcondense.tasks.images import SHEET, ImagesTask

FILES = ["images/fashion-mnist-v0", "images/mnist-v0"]


@pytest.fixture(scope="module")
def digits() -> ImagesTask:
    task = make_task("digits")
    assert isinstance(task, ImagesTask)
    return task


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small images of three kinds: dark, grey and bright."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 300), ("test", 100)):
        labels = rng.integers(0, 3, count).astype(np.uint8)
        noise = rng.integers(0, 40, (count, 6, 5))
        arrays |= {f"x_{part}": (noise + 100 * labels[:, None, None]).astype(np.uint8)}
        arrays |= {f"y_{part}": labels}
    np.savez(tmp_path / "mnist.npz", **arrays)
    monkeypatch.setenv("RLCONDENSE_IMAGES", str(tmp_path))
    return tmp_path


def test_the_digits_pass_every_check() -> None:
    results = check("images/digits-v0")
    assert {r.status for r in results} <= {"passed", "skipped"}, results


def test_a_sheets_return_is_what_was_named_right(digits: ImagesTask) -> None:
    env = digits.make_vec("seen", 3, seed=5)
    observations, infos = env.reset()
    levels = infos["level_seed"].copy()
    images, total = digits.images["seen"], np.zeros(3)
    for step in range(SHEET):
        for i, level in enumerate(levels):
            now = images.sheet(int(level))[step]
            assert np.array_equal(observations[i], images.frames[now])
        right = images.labels[[images.sheet(int(level))[step] for level in levels]]
        named = np.where(np.arange(3) == 1, (right + 1) % 10, right)  # the second errs
        observations, rewards, ended, cut, infos = env.step(named)
        total += rewards
        assert ended.all() == (step == SHEET - 1)
        assert not cut.any()
    assert total.tolist() == [100, 0, 100]


def test_levels_go_through_all_images_before_any_comes_again(digits: ImagesTask) -> None:
    images = digits.images["seen"]
    first = np.concatenate([images.sheet(level) for level in range(12)])
    assert len(np.unique(first)) == 1200
    again = np.concatenate([images.sheet(level) for level in range(12, 24)])
    assert len(np.unique(again)) == 1200
    assert (first != again).any()


def test_no_image_is_both_seen_and_held_out(digits: ImagesTask) -> None:
    seen, heldout = (digits.images[split].frames for split in ("seen", "heldout"))
    assert len(seen) == 1297
    assert len(heldout) == 500
    shared = {f.tobytes() for f in seen} & {f.tobytes() for f in heldout}
    assert not shared


def test_the_dataset_is_the_training_images_with_their_names(digits: ImagesTask) -> None:
    data = load_dataset("images/digits/expert-v0")
    images = digits.images["seen"]
    names = {f.tobytes(): n for f, n in zip(images.frames, images.labels, strict=True)}
    frames = np.asarray(data.observations)
    assert len(data.episodes) == 12
    assert all(names[f.tobytes()] == a for f, a in zip(frames, data.actions, strict=True))
    assert len({f.tobytes() for f in frames}) == 1200
    assert (data.episode_returns() == 100).all()


def test_students_of_the_digits_need_no_network_named(digits: ImagesTask) -> None:
    data = load_dataset("images/digits/expert-v0")
    some = make_method("random-balanced").condense(data, task=digits, budget=200)
    learner = make_learner(
        "bc", "digits", updates=80, width=32, learning_rate=5e-3, action_selection="greedy"
    )
    assert learner.config.network == "mlp"
    policies = learner.fit(some, task=digits, seeds=[0])
    assert evaluate(policies, digits, protocol=protocol_of(5)).returns.mean() > 60


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_there_is_asked_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLCONDENSE_IMAGES", str(tmp_path))
    assert catalogue.find("tasks", name).config["file"] in make_task(name).file  # type: ignore[attr-defined]
    with pytest.raises(BadConfig, match=r"put an \.npz of x_train"):
        _ = make_task(name).observation_space


def test_a_file_of_yours_is_a_task(folder: Path) -> None:
    task = make_task("mnist")
    assert task.observation_space.shape == (1, 6, 5)
    assert task.action_space.n == 3  # type: ignore[attr-defined]
    returns = evaluate(FixedPolicies(np.ones(3), [0]), task, protocol=protocol_of(4)).returns
    assert 15 < returns.mean() < 50
    settings = {"preset": "quick", "generations": 6, "population": 16, "width": 8, "sigma": 1.0}
    method = make_method("hades-f", **settings)
    data = method.condense(None, task=task, budget=3)
    bc = make_learner("bc", **method.students(task))
    named = evaluate(bc.fit(data, task=task, seeds=[0]), task, protocol=protocol_of(4)).returns
    assert named.mean() > 50


@pytest.mark.parametrize(
    "fault",
    [
        "torn",
        "empty",
        "pickled",
        "floats",
        "few",
        "unequal",
        "other shape",
        "huge",
        "half labels",
        "flipped",
        "encrypted",
        "unfinished header",
    ],
)
def test_a_broken_file_is_refused(folder: Path, fault: str) -> None:
    path = folder / "mnist.npz"
    arrays = dict(np.load(path))
    if fault == "flipped":
        held = bytearray(path.read_bytes())
        held[60:400:7] = bytes(255 - byte for byte in held[60:400:7])
        path.write_bytes(bytes(held))
    elif fault == "huge":  # a header that says more than anyone has
        header = {"descr": "|u1", "fortran_order": False, "shape": (2**50,)}
        with zipfile.ZipFile(path, "w") as file, file.open("x_train.npy", "w") as member:
            np.lib.format.write_array_header_1_0(member, header)
    elif fault == "encrypted":  # as the flags of its directory say
        directory = path.read_bytes()
        flags = directory.index(b"PK\x01\x02") + 8
        path.write_bytes(directory[:flags] + b"\x01" + directory[flags + 1 :])
    elif fault == "unfinished header":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x_train.npy", b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16)
    elif fault in ("torn", "empty"):
        path.write_bytes(path.read_bytes()[: 500 if fault == "torn" else 0])
    else:
        changed = {
            "pickled": {"x_train": np.array([{}] * 300, object)},
            "floats": {"x_train": arrays["x_train"] / 255},
            "few": {"x_test": arrays["x_test"][:50], "y_test": arrays["y_test"][:50]},
            "other shape": {"x_test": arrays["x_test"][:, :-1]},
            "half labels": {"y_train": arrays["y_train"] + 0.5},
            "unequal": {"y_train": arrays["y_train"][:-1]},
        }[fault]
        np.savez(path, **{**arrays, **changed})
    with pytest.raises(BadConfig, match="mnist"):
        _ = make_task("mnist").observation_space


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    (folder / "mnist.npz").unlink()
    os.mkfifo(folder / "mnist.npz")
    with pytest.raises(CorruptArtifact, match="is no regular file"):
        _ = make_task("mnist").observation_space
