"""MuJoCo locomotion: Gymnasium's robots, version 5 (Towers et al., 2024, arXiv 2407.17032).

MuJoCo (Todorov, Erez and Tassa, 2012) simulates them. Observations and rewards are computed here
for all robots at once, and tests compare them with Gymnasium's environments step by step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box

from rlcondense.config import check_finite
from rlcondense.errors import BadConfig, MissingExtra, UnknownName
from rlcondense.tasks.base import ReturnEstimate, split_named
from rlcondense.tasks.gymnasium import OneSplit, TaskObservations
from rlcondense.tasks.levels import Bools, LevelOrder, Levels, LevelTask, LevelVectorEnv, Which
from rlcondense.types import Array

Floats = npt.NDArray[np.float64]
Seen = Mapping[str, Floats]
STEPS = 1000  # step limit after which an episode is truncated


class Robot(ABC):
    """Observations and rewards of one of Gymnasium's environments, for N robots at once.

    `seen` holds arrays `(N, ...)` of MuJoCo by their names in `mjData`.

    Attributes:
        fields: names of the arrays that it needs.
        features: length of an observation.
        motors: length of an action.
        strength: the largest value of an action.
        alive: reward of each step in which the robot stands.
        forward: reward for each m/s.
        effort: cost of the square of an action.
        feels: whether observations contain the external forces.
    """

    fields: ClassVar[tuple[str, ...]] = ("qpos", "qvel")
    features: ClassVar[int]
    motors: ClassVar[int]
    strength: ClassVar[float] = 1.0
    alive: ClassVar[float] = 1.0
    forward: ClassVar[float] = 1.0
    effort: ClassVar[float] = 1e-3
    feels: ClassVar[bool] = False

    @abstractmethod
    def observe(self, seen: Seen) -> Floats:
        """Return observations `(N, features)`."""

    @abstractmethod
    def place(self, seen: Seen, masses: Floats) -> Floats:
        """Return the distance `(N,)` that they have come, given the bodies' masses `(bodies,)`."""

    @abstractmethod
    def stands(self, seen: Seen) -> Bools:
        """Return whether they have not fallen, `(N,)`."""

    def impact(self, seen: Seen) -> Floats | float:
        """Return the cost `(N,)` of external forces."""
        return 0.0


class Planar(Robot):
    """Robot that moves in a plane.

    Attributes:
        max_speed: the bound to which observed speeds are clipped.
    """

    max_speed: ClassVar[float] = 10.0

    def observe(self, seen: Seen) -> Floats:
        speeds = seen["qvel"].clip(-self.max_speed, self.max_speed)
        return np.hstack([seen["qpos"][:, 1:], speeds])

    def place(self, seen: Seen, masses: Floats) -> Floats:
        return seen["qpos"][:, 0]


class Hopper(Planar):
    """One leg."""

    features, motors = 11, 3

    def stands(self, seen: Seen) -> Bools:
        qpos = seen["qpos"]
        rest = np.hstack([qpos[:, 2:], seen["qvel"]])
        upright = (qpos[:, 1] > 0.7) & (np.abs(qpos[:, 2]) < 0.2)
        return np.asarray(upright & (np.abs(rest) < 100).all(1))


class HalfCheetah(Planar):
    """Two legs and a back; it cannot fall."""

    features, motors = 17, 6
    alive, effort, max_speed = 0.0, 0.1, np.inf

    def stands(self, seen: Seen) -> Bools:
        return np.ones(len(seen["qpos"]), np.bool_)


class Walker2d(Planar):
    """Two legs."""

    features, motors = 17, 6

    def stands(self, seen: Seen) -> Bools:
        height, angle = seen["qpos"][:, 1:3].T
        return np.asarray((height > 0.8) & (height < 2) & (np.abs(angle) < 1))


class Ant(Robot):
    """Four legs."""

    fields = ("qpos", "qvel", "xpos", "cfrc_ext")
    features, motors = 105, 8
    effort, feels = 0.5, True

    def observe(self, seen: Seen) -> Floats:
        forces = self._forces(seen)[:, 1:]
        return np.hstack([seen["qpos"][:, 2:], seen["qvel"], _flat(forces)])

    def _forces(self, seen: Seen) -> Floats:
        return seen["cfrc_ext"].clip(-1, 1)

    def place(self, seen: Seen, masses: Floats) -> Floats:
        return seen["xpos"][:, 1, 0]

    def stands(self, seen: Seen) -> Bools:
        qpos = seen["qpos"]
        finite = np.isfinite(qpos).all(1) & np.isfinite(seen["qvel"]).all(1)
        return np.asarray(finite & (qpos[:, 2] >= 0.2) & (qpos[:, 2] <= 1))

    def impact(self, seen: Seen) -> Floats:
        return np.asarray(5e-4 * (self._forces(seen) ** 2).sum((1, 2)))


class Humanoid(Robot):
    """Two legs and two arms."""

    fields = ("qpos", "qvel", "xipos", "cinert", "cvel", "qfrc_actuator", "cfrc_ext")
    features, motors, strength = 348, 17, 0.4
    alive, forward, effort, feels = 5.0, 1.25, 0.1, True

    def observe(self, seen: Seen) -> Floats:
        bodies = [_flat(seen[name][:, 1:]) for name in ("cinert", "cvel", "cfrc_ext")]
        motors = seen["qfrc_actuator"][:, 6:]
        return np.hstack([seen["qpos"][:, 2:], seen["qvel"], *bodies[:2], motors, bodies[2]])

    def place(self, seen: Seen, masses: Floats) -> Floats:
        return np.asarray(seen["xipos"][:, :, 0] @ masses / masses.sum())

    def stands(self, seen: Seen) -> Bools:
        height = seen["qpos"][:, 2]
        return np.asarray((height > 1) & (height < 2))

    def impact(self, seen: Seen) -> Floats:
        return np.asarray((5e-7 * (seen["cfrc_ext"] ** 2).sum((1, 2))).clip(max=10))


ROBOTS: dict[str, Robot] = {
    "Ant-v5": Ant(),
    "HalfCheetah-v5": HalfCheetah(),
    "Hopper-v5": Hopper(),
    "Humanoid-v5": Humanoid(),
    "Walker2d-v5": Walker2d(),
}


@dataclass(frozen=True)
class MujocoTask(LevelTask):
    """One of Gymnasium's robots. Observations are float32.

    Args:
        id: catalogue id.
        env: one of `ROBOTS`.
        masses: factors of the masses of bodies, relative to Gymnasium's.
        seen: first reset seed and number of reset seeds that training data comes from.
        heldout: first reset seed and number of reset seeds kept for evaluation.
        score_range: the constants of the normalised score.
        random_return: measured return of the uniform random policy, by split.
    """

    replays = False
    packages = ("mujoco",)
    levels_are_reset_seeds = True

    id: str
    env: str
    masses: Mapping[str, float] = field(default_factory=dict)
    seen: tuple[int, int] = (0, 200)
    heldout: tuple[int, int] = (10_000, 10_000)
    score_range: tuple[float, float] | None = None
    random_return: Mapping[str, ReturnEstimate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.env not in ROBOTS:
            raise UnknownName("MuJoCo environment", self.env, ROBOTS)
        check_finite(self.masses, f"masses of {self.id!r}")
        if wrong := [body for body, factor in self.masses.items() if factor <= 0]:
            raise BadConfig(f"the mass of {wrong[0]!r} in {self.id!r} must be above 0")
        self.check_levels()

    @property
    def observation_space(self) -> Box:
        return Box(-np.inf, np.inf, (ROBOTS[self.env].features,), np.float32)

    @property
    def action_space(self) -> Box:
        robot = ROBOTS[self.env]
        return Box(-robot.strength, robot.strength, (robot.motors,), np.float32)

    def make_env(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """Make Gymnasium's environment with the task's masses.

        Raises:
            MissingExtra: MuJoCo is not installed.
            BadConfig: `masses` names a body that the robot does not have.
        """
        mujoco = _mujoco()
        env = gymnasium.make(self.env, render_mode=render_mode, disable_env_checker=True)
        simulator: Any = env.unwrapped
        model, data = simulator.model, simulator.data
        bodies = [model.body(i).name for i in range(model.nbody)]
        for body, factor in self.masses.items():
            if body not in bodies:
                raise BadConfig(f"{self.env} has no body {body!r} (bodies: {', '.join(bodies)})")
            model.body_mass[bodies.index(body)] *= factor
            model.body_inertia[bodies.index(body)] *= factor
        mujoco.mj_setConst(model, data)
        return TaskObservations(env)

    def make_vec(
        self, split: str, num_envs: int, *, seed: int, num_threads: int = 1, copy: bool = True
    ) -> MujocoVectorEnv:
        return MujocoVectorEnv(self, self.order(split, num_envs, seed), num_threads)

    def make_one(
        self, split: str = "seen", render_mode: str | None = None
    ) -> gymnasium.Env[Any, Any]:
        split = split_named(split)
        return OneSplit(self.make_env(render_mode), self.splits[split])


class MujocoVectorEnv(LevelVectorEnv):
    """Environments that share one model. A level is the seed of Gymnasium's reset.

    A thread steps one robot after another in one `mjData`, which stays in the processor's cache.

    Args:
        task: the task that they run.
        order: the sequence of levels.
        num_threads: threads that step them.
    """

    _pool: ThreadPoolExecutor | None = None

    def __init__(self, task: MujocoTask, order: LevelOrder, num_threads: int) -> None:
        super().__init__(task, order, STEPS)
        self._mujoco, self._robot = _mujoco(), ROBOTS[task.env]
        self._kind = self._mujoco.mjtState.mjSTATE_INTEGRATION
        one: Any = task.make_env().unwrapped
        self._one, num = one, self.num_envs
        self._starts: dict[int, tuple[Floats, Floats, Floats]] = {}
        self._states = np.zeros((num, self._mujoco.mj_stateSize(one.model, self._kind)))
        self._place = np.zeros(num)
        self._shown = np.zeros((num, self._robot.features), np.float32)
        self._fields = {
            name: np.zeros((num, *getattr(one.data, name).shape)) for name in self._robot.fields
        }
        chunks = np.array_split(self._every, min(num_threads, num))
        self._shares = [(self._mujoco.MjData(one.model), chunk) for chunk in chunks]
        if len(chunks) > 1:
            self._pool = ThreadPoolExecutor(len(chunks))

    def _begin(self, which: Which, levels: Levels) -> None:
        for i, level in zip(which, levels, strict=True):
            self._states[i], self._place[i], self._shown[i] = self._start_of(int(level))

    def _start_of(self, level: int) -> tuple[Floats, Floats, Floats]:
        """Return the initial state, position and observation of a level."""
        if level not in self._starts:
            self._one.reset(seed=level)
            model, data, state = self._one.model, self._one.data, self._states[0].copy()
            self._mujoco.mj_getState(model, data, state, self._kind)
            fields = {name: getattr(data, name)[None].copy() for name in self._robot.fields}
            place = self._robot.place(fields, model.body_mass)
            self._starts[level] = state, place[0], self._robot.observe(fields)[0]
        return self._starts[level]

    def _advance(self, actions: Array) -> tuple[Floats, Bools]:
        if self._pool is None:
            self._move(self._shares[0], actions)
        else:
            list(self._pool.map(lambda share: self._move(share, actions), self._shares))
        robot, fields, before = self._robot, self._fields, self._place
        self._shown = robot.observe(fields).astype(np.float32)
        self._place = robot.place(fields, self._one.model.body_mass).copy()
        speed, stands = (self._place - before) / self._one.dt, robot.stands(fields)
        costs = robot.effort * (actions**2).sum(1, dtype=np.float64) + robot.impact(fields)
        return robot.forward * speed + robot.alive * stands - costs, ~stands & self._moving

    def _move(self, share: tuple[Any, Which], actions: Array) -> None:
        data, which = share
        model, steps, lib, kind = self._one.model, self._one.frame_skip, self._mujoco, self._kind
        control, fields = data.ctrl, [(v, getattr(data, k)) for k, v in self._fields.items()]
        for i in which[self._moving[which]]:
            lib.mj_setState(model, data, self._states[i], kind)
            control[:] = actions[i]
            lib.mj_step(model, data, steps)
            if self._robot.feels:
                lib.mj_rnePostConstraint(model, data)
            lib.mj_getState(model, data, self._states[i], kind)
            for array, now in fields:
                array[i] = now

    def _observe(self, which: Which) -> npt.NDArray[np.float32]:
        return self._shown[which]

    def _saved(self) -> Sequence[Array]:
        return [self._states, self._place, self._shown]

    def _restore(self, arrays: Sequence[Array]) -> None:
        self._states, self._place, self._shown = arrays

    def close_extras(self, **kwargs: Any) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def _mujoco() -> Any:
    try:
        import mujoco
    except ImportError:
        raise MissingExtra("mujoco", "mujoco") from None
    return mujoco


def _flat(arrays: Floats) -> Floats:
    return arrays.reshape(len(arrays), -1)
