"""Games played as arrays beside MinAtar's own, one by one."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest

from rlcondense import catalogue
from rlcondense.checks import check_task
from rlcondense.datasets.condensed import CondensedDataset
from rlcondense.errors import BadConfig, MissingExtra, UnknownName
from rlcondense.evaluation import evaluate
from rlcondense.make import make_learner, make_task
from rlcondense.protocol import protocol_of
from rlcondense.tasks.base import SPLITS
from rlcondense.tasks.minatar import GAMES, SIDE, MinAtarTask, MinAtarVectorEnv

TASKS = sorted(id_ for id_ in catalogue.entries("tasks") if id_.startswith("minatar/"))
INSTALLED = importlib.util.find_spec("minatar") is not None
needs_minatar = pytest.mark.skipif(not INSTALLED, reason="minatar is not installed")
Array = np.ndarray[Any, Any]


def _made(game: str, split: str = "seen", num_envs: int = 4, seed: int = 3) -> MinAtarVectorEnv:
    return MinAtarTask("tests/one-v0", game).make_vec(split, num_envs, seed=seed)


def _places(plane: Array) -> Array:
    """The column of the only thing in each plane `(N, 10, 10)`."""
    return plane.reshape(len(plane), -1).argmax(1) % SIDE


def _anything(frames: Array, rng: np.random.Generator, number: int) -> Array:
    return rng.integers(number, size=len(frames))


def _follow_the_ball(frames: Array, rng: np.random.Generator, number: int) -> Array:
    paddle, ball, trail = (_places(frames[:, plane]) for plane in range(3))
    return np.array([0, 2, 1])[np.sign((2 * ball - trail).clip(0, SIDE - 1) - paddle)]


def _keep_away(frames: Array, rng: np.random.Generator, number: int) -> Array:
    """Of stay, left, up, right and down, the first that no enemy is two cells away from."""
    shifts = ((0, 0), (0, -1), (-1, 0), (0, 1), (1, 0))
    actions = np.zeros(len(frames), np.int64)
    for i, frame in enumerate(frames):
        row, column = np.unravel_index(frame[0].argmax(), frame[0].shape)
        for action, (down, right) in enumerate(shifts):
            y, x = min(max(row + down, 1), SIDE - 2), min(max(column + right, 0), SIDE - 1)
            if not frame[1, y, max(x - 2, 0) : x + 3].any():
                actions[i] = action
                break
    return actions


def _go_up(frames: Array, rng: np.random.Generator, number: int) -> Array:
    return np.where(rng.random(len(frames)) < 0.9, 1, rng.integers(number, size=len(frames)))


def _hunt(frames: Array, rng: np.random.Generator, number: int) -> Array:
    """Shoot where an alien is above, or else go where one is; keep away from what falls."""
    actions = np.full(len(frames), 3)
    for i, (cannon, frame) in enumerate(zip(_places(frames[:, 0]), frames, strict=True)):
        columns = np.flatnonzero(frame[1].any(0))
        nearest = columns[np.abs(columns - cannon).argmin()]
        if frame[5, 5:, cannon].any():
            actions[i] = 1 if cannon > 5 else 2
        elif nearest != cannon:
            actions[i] = 1 if nearest < cannon else 2
    return actions


@needs_minatar
@pytest.mark.parametrize(
    ("game", "plays", "cleared", "reached"),
    [
        ("asterix", (_anything, _keep_away), None, lambda game: game.ramp_index.max() >= 5),
        ("breakout", (_anything, _follow_the_ball), None, lambda game: ~game.bricks.any((1, 2))),
        ("freeway", (_anything, _go_up), None, lambda game: True),
        ("seaquest", (_anything,), None, lambda game: True),
        (
            "space_invaders",
            (_anything, _hunt),
            ("aliens", "alien_map"),  # for nobody here shoots them all
            lambda game: game.interval < 12,
        ),
    ],
)
def test_arrays_do_what_the_package_does(
    game: str,
    plays: tuple[Callable[..., Array], ...],
    cleared: tuple[str, str] | None,
    reached: Callable[[Any], Any],
) -> None:
    from minatar import Environment

    def fresh(level: int) -> Any:
        env = Environment(game)
        env.seed(int(level))
        env.reset()
        return env

    def look(envs: list[Any]) -> Array:
        return np.stack([255 * env.state().transpose(2, 0, 1).astype(np.uint8) for env in envs])

    rng, codes, got_there, returns = np.random.default_rng(0), GAMES[game].actions, False, []
    for play in plays:
        ours = _made(game)
        frames, infos = ours.reset()
        theirs = [fresh(level) for level in infos["level_seed"]]
        assert tuple(theirs[0].minimal_action_set()) == codes
        assert (frames == look(theirs)).all()
        if cleared is not None and play is not _anything:
            getattr(ours._game, cleared[0])[:] = False
            for env in theirs:
                getattr(env.env, cleared[1])[:] = 0
        elapsed, total = np.zeros(4, np.int64), 0.0
        for _ in range(1100):
            actions = play(frames, rng, len(codes))
            frames, rewards, terminations, truncations, infos = ours.step(actions)
            done = [env.act(codes[action]) for env, action in zip(theirs, actions, strict=True)]
            assert rewards.tolist() == [reward for reward, _ in done]
            assert terminations.tolist() == [over for _, over in done]
            assert (infos["final_obs"] == look(theirs)).all()
            elapsed, total = elapsed + 1, total + rewards.sum()
            assert (truncations == (elapsed == 1000)).all()
            got_there = got_there or bool(np.any(reached(ours._game)))
            for i in np.flatnonzero(terminations | truncations):
                theirs[i], elapsed[i] = fresh(infos["level_seed"][i]), 0
            assert (frames == look(theirs)).all()
        returns.append(total)
    assert got_there
    assert min(returns) > 0
    assert returns == sorted(returns)  # who knows how to play sees more of the game


def test_a_level_starts_and_sticks_alike_whoever_played_before() -> None:
    def played(env: MinAtarVectorEnv) -> Array:
        """Frames of one level, whichever episode of the environment it is."""
        frames, infos = env.reset()
        while infos["level_seed"][0] != 5:
            frames, _, _, _, infos = env.step(np.array([1]))
        shown = [frames]
        for step in range(8):
            shown.append(env.step(np.array([1 + step % 2]))[0])
        return np.stack(shown)

    task = MinAtarTask("tests/few-v0", "breakout", seen=(4, 2))
    first, second = (played(task.make_vec("seen", 1, seed=seed)) for seed in (0, 2))
    assert (first == second).all()


def test_a_frame_has_a_plane_for_each_kind_of_thing() -> None:
    frames, _ = _made("breakout").reset()
    assert frames.dtype == np.uint8
    assert set(np.unique(frames)) == {0, 255}
    assert ((frames > 0).sum((2, 3)) == [1, 1, 1, 30]).all()  # paddle, ball, trail and bricks


@pytest.mark.parametrize("game", sorted(set(GAMES) - {"seaquest"}))
def test_a_kept_state_goes_on_as_it_would_have(game: str) -> None:
    _goes_on(game)


@needs_minatar
def test_a_kept_state_of_seaquest_goes_on_as_it_would_have() -> None:
    _goes_on("seaquest")


def _goes_on(game: str) -> None:
    env, other = _made(game), _made(game, seed=8)
    env.action_space.seed(0)
    env.reset()
    for _ in range(150):
        shown = env.step(env.action_space.sample())[0]
    states = env.get_state()
    other.reset()
    other.step(env.action_space.sample())
    assert (other.set_state(states) == shown).all()
    # Which level comes next is the order's affair, so the rest of one episode is compared.
    going = np.ones(4, np.bool_)
    for _ in range(60):
        actions = env.action_space.sample()
        ours, theirs = env.step(actions), other.step(actions)
        assert (ours[4]["final_obs"][going] == theirs[4]["final_obs"][going]).all()
        assert (ours[1][going] == theirs[1][going]).all()
        going &= ~(ours[2] | ours[3])


def test_levels_depend_on_the_seed_and_the_environments_index_alone() -> None:
    def levels(num_envs: int, action: int) -> Array:
        env = _made("breakout", "heldout", num_envs, seed=5)
        played: list[list[int]] = [[], []]
        _, infos = env.reset()
        while min(map(len, played)) < 4:
            before = infos["level_seed"]
            _, _, ended, _, infos = env.step(np.full(num_envs, action))
            for i in np.flatnonzero(ended[:2]):
                played[i].append(int(before[i]))
        return np.array([p[:4] for p in played])

    assert (levels(2, 0) == levels(40, 1)).all()


def test_breakout_passes_the_checks_of_tasks() -> None:
    results = check_task("breakout")
    assert {result.status for result in results} == {"passed"}


@pytest.mark.parametrize(
    "id_", [pytest.param(t, marks=needs_minatar) if "seaquest" in t else t for t in TASKS]
)
def test_gymnasium_makes_one_environment_of_either_split(id_: str) -> None:
    task = make_task(id_)
    for split in SPLITS:
        env = gymnasium.make(f"rlcondense.tasks:{id_}", split=split)
        assert env.observation_space == task.observation_space
        assert env.action_space == task.action_space
        frame, info = env.reset(seed=0)
        assert info["level_seed"] in task.splits[split]
        again, same = env.reset(seed=0)
        assert (frame == again).all()
        assert same["level_seed"] == info["level_seed"]
        frame, _, _, _, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(frame)
        assert info["level_seed"] == same["level_seed"]


def test_the_end_of_one_environments_episode_is_seen() -> None:
    env = gymnasium.make("rlcondense.tasks:minatar/breakout-v0")
    env.reset(seed=0)
    over = False
    while not over:
        frame, _, over, *_ = env.step(0)
    assert frame[1, SIDE - 1].any()  # the ball lies at the bottom


def test_students_of_these_frames_are_mlps_by_default() -> None:
    task = make_task("breakout")
    learner = make_learner("bc", "breakout", updates=2)
    assert learner.config.network == "mlp"
    frames, _ = _made("breakout", num_envs=6).reset()
    data = CondensedDataset(frames, np.arange(6) % 3, weights=np.ones(6, np.float32))
    scores = evaluate(
        learner.fit(data, task=task, seeds=[0]), task, "seen", protocol=protocol_of(4)
    )
    assert scores.lengths.min() > 1


def test_without_the_package_seaquest_alone_cannot_be_played(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rlcondense.tasks.minatar.find_spec", lambda name: None)
    _made("breakout").reset()
    task = make_task("seaquest")
    assert task.observation_space.shape == (10, 10, 10)
    with pytest.raises(MissingExtra, match=r"pip install 'rlcondense\[minatar\]'"):
        task.make_vec("seen", 1, seed=0)


def test_bad_requests_say_what_is_wrong() -> None:
    with pytest.raises(UnknownName, match="did you mean 'breakout'"):
        MinAtarTask("x", "break_out")
    with pytest.raises(BadConfig, match=r"overlap in range\(100, 200\)"):
        MinAtarTask("x", "breakout", heldout=(100, 200))
    with pytest.raises(BadConfig, match="heldout levels of 'x' must be at most 4294967295"):
        MinAtarTask("x", "breakout", heldout=(2**32, 10))
    with pytest.raises(BadConfig, match="steps of 'x' must be at least 1"):
        MinAtarTask("x", "breakout", steps=0)
    with pytest.raises(BadConfig, match="split must be one of"):
        make_task("breakout").make_vec("test", 1, seed=0)


def test_the_packages_game_names_the_package() -> None:
    packages = {name: make_task(f"minatar/{name}-v0").packages for name in ("breakout", "seaquest")}
    assert packages == {"breakout": (), "seaquest": ("MinAtar",)}
