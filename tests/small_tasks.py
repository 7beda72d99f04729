"""Two small problems whose optimum is known: a gridworld seen in frames, and a reach in a plane."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.tasks.base import ReturnEstimate, Task

Array = np.ndarray[Any, Any]
SIDE, CELL = 4, 3
MOVES = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])
STEP_COST = 0.05
LIMIT = 30


class _SmallEnv(VectorEnv[Any, Any, Any]):
    """Same-step autoreset; a level is where an episode starts."""

    def __init__(self, task: SmallTask, levels: range, num_envs: int) -> None:
        self.task, self.levels, self.num_envs = task, levels, num_envs
        self.single_observation_space, self.single_action_space = (
            task.observation_space,
            task.action_space,
        )
        self.observation_space = batch_space(task.observation_space, num_envs)
        self.action_space = batch_space(task.action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.streams = [np.random.default_rng([seed or 0, i]) for i in range(self.num_envs)]
        self.level = np.zeros(self.num_envs, np.int64)
        self.state = np.zeros((self.num_envs, 2), np.float64)
        self.time = np.zeros(self.num_envs, np.int64)
        self._begin(np.arange(self.num_envs))
        return self.task.look(self.state), {"level_seed": self.level.copy()}

    def _begin(self, which: Array) -> None:
        for i in which:
            self.level[i] = self.streams[i].choice(self.levels)
            self.state[i] = self.task.start(int(self.level[i]))
            self.time[i] = 0

    def step(self, actions: Any) -> Any:
        self.state, rewards, terminations = self.task.move(self.state, np.asarray(actions))
        self.time += 1
        truncations = (self.time >= LIMIT) & ~terminations
        self._begin(np.flatnonzero(terminations | truncations))
        infos = {"level_seed": self.level.copy()}
        return self.task.look(self.state), rewards, terminations, truncations, infos


class SmallTask(Task):
    """What both problems share."""

    id = "tests/small-v0"
    score_range = None
    random_return: Mapping[str, ReturnEstimate] = {}

    @property
    def splits(self) -> Mapping[str, range]:
        return {"seen": range(100), "heldout": range(1000, 1100)}

    def make_vec(
        self, split: str, num_envs: int, *, seed: int, num_threads: int = 1, copy: bool = True
    ) -> VectorEnv[Any, Any, Any]:
        self.check_split(split)
        return _SmallEnv(self, self.splits[split], num_envs)

    @abstractmethod
    def look(self, state: Array) -> Array:
        """Observations of states `(B, 2)`."""

    @abstractmethod
    def start(self, level: int) -> Array:
        """Where a level starts."""

    @abstractmethod
    def move(self, state: Array, actions: Array) -> tuple[Array, Array, Array]:
        """The states after actions, rewards and terminations."""


class Gridworld(SmallTask):
    """From any cell of a 4 x 4 grid to the corner, seen as frames of 12 x 12 pixels.

    Each step costs 0.05 and the corner gives 1: the best return from n cells away is 1.05 - 0.05 n.
    """

    @property
    def observation_space(self) -> Space[Any]:
        return Box(0, 255, (3, SIDE * CELL, SIDE * CELL), np.uint8)

    @property
    def action_space(self) -> Space[Any]:
        return Discrete(4)

    def look(self, state: Array) -> Array:
        cells = np.zeros((len(state), 3, SIDE, SIDE), np.uint8)
        at = state.astype(int)
        cells[np.arange(len(state)), 0, at[:, 0], at[:, 1]] = 255
        cells[:, 1, -1, -1] = 255
        return cells.repeat(CELL, 2).repeat(CELL, 3)

    def start(self, level: int) -> Array:
        return np.array(divmod(level % (SIDE * SIDE - 1), SIDE))

    def move(self, state: Array, actions: Array) -> tuple[Array, Array, Array]:
        after = (state + MOVES[actions]).clip(0, SIDE - 1)
        there = (after == SIDE - 1).all(1)
        return after, np.where(there, 1.0, -STEP_COST).astype(np.float32), there

    def best_return(self, levels: Array) -> Array:
        """The return of the shortest way from each level."""
        starts = np.array([self.start(int(level)) for level in levels.ravel()])
        steps = (2 * (SIDE - 1) - starts.sum(1)).reshape(levels.shape)
        return 1 + STEP_COST - STEP_COST * steps

    def shortest(self, state: Array) -> Array:
        """An action of a shortest way."""
        return np.where(state[:, 1] < SIDE - 1, 0, 1)


class Reach(SmallTask):
    """From anywhere in a square to its middle; an action is a step of up to 0.5 each way.

    Each step costs the distance after it, and the middle, within 0.25, ends the episode.
    """

    @property
    def observation_space(self) -> Space[Any]:
        return Box(-1, 1, (2,), np.float32)

    @property
    def action_space(self) -> Space[Any]:
        return Box(-0.5, 0.5, (2,), np.float32)

    def look(self, state: Array) -> Array:
        return state.astype(np.float32)

    def start(self, level: int) -> Array:
        return np.random.default_rng(level).uniform(-1, 1, 2)

    def move(self, state: Array, actions: Array) -> tuple[Array, Array, Array]:
        after = (state + np.clip(actions, -0.5, 0.5)).clip(-1, 1)
        distance = np.linalg.norm(after, axis=1)
        return after, -distance.astype(np.float32), distance < 0.25

    def shortest(self, state: Array) -> Array:
        """The step straight to the middle."""
        return (-state).clip(-0.5, 0.5).astype(np.float32)


def play(
    task: SmallTask,
    shortest: Callable[[Array], Array],
    transitions: int,
    noise: float,
    seed: int = 0,
) -> TransitionDataset:
    """Whole episodes of the shortest way, with a share of random actions."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    episode = 0
    while len(rows) < transitions:
        level = int(rng.integers(100))
        state = np.asarray(task.start(level), np.float64)[None]
        for step in range(LIMIT):
            best = shortest(state)
            drawn = task.action_space
            random = (
                rng.uniform(drawn.low, drawn.high)[None].astype(np.float32)
                if isinstance(drawn, Box)
                else rng.integers(0, 4, 1)
            )
            action = random if rng.random() < noise else best
            after, reward, ended = task.move(state, action)
            rows.append(
                {
                    "observations": task.look(state)[0],
                    "actions": action[0],
                    "rewards": reward[0],
                    "terminations": bool(ended[0]),
                    "truncations": step == LIMIT - 1 and not ended[0],
                    "episode_ids": episode,
                    "steps": step,
                    "level_seeds": level,
                }
            )
            state = after
            if ended[0]:
                break
        episode += 1
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return TransitionDataset(**columns, id="tests/small-play-v0", task=task.id)
