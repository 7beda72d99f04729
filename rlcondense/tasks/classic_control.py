"""Classic control: cart-pole, acrobot, mountain car and pendulum, as arrays of environments.

The equations are those of Gymnasium's environments (Towers et al., 2024, arXiv 2407.17032), and
tests compare the two step by step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium.utils.seeding import np_random

from rlcondense.config import check_positive
from rlcondense.errors import BadConfig, UnknownName
from rlcondense.limits import check_most
from rlcondense.tasks.gymnasium import GymnasiumTask
from rlcondense.tasks.levels import Bools, LevelOrder, Levels, LevelVectorEnv, Which
from rlcondense.types import Array

Floats = npt.NDArray[np.float64]


class System(ABC):
    """The equations of one environment for many states at once, each a column.

    Attributes:
        steps: the step limit after which an episode is truncated.
        start: lowest and highest values of a state at the start of an episode.
        above_zero: constants that must be above zero.
        most: bounds of constants that Gymnasium's spaces hold.
    """

    steps: ClassVar[int]
    above_zero: ClassVar[tuple[str, ...]] = ()
    most: ClassVar[Mapping[str, float]] = {}
    start: ClassVar[tuple[tuple[float, ...], tuple[float, ...]]]

    @abstractmethod
    def step(self, state: Floats, actions: Array) -> tuple[Floats, Floats, Bools]:
        """Apply `(N, ...)` actions: next states `(D, N)`, rewards `(N,)`, terminations `(N,)`."""

    @abstractmethod
    def observe(self, state: Floats) -> npt.NDArray[np.float32]:
        """Return the observations `(N, O)` of states `(D, N)`."""

    def starts(self, level: int) -> Floats:
        """Return the state `(D,)` of Gymnasium's environment after `reset(seed=level)`."""
        low, high = np.array(self.start)
        return np.asarray(low + (high - low) * np_random(level)[0].random(len(low)))


@dataclass(frozen=True)
class CartPole(System):
    """Push a cart left or right to balance a pole on it (Barto, Sutton and Anderson, 1983).

    Attributes:
        length: half the length of the pole, m.
        polemass_length: product of the pole's mass, kg, and `length`.
        masspole: mass of the pole, kg.
        total_mass: mass of cart and pole, kg.
        force_mag: force of a push, N.
        gravity: acceleration of gravity, m/s^2.
        tau: duration of a step, s.
    """

    steps = 500
    start = ((-0.05,) * 4, (0.05,) * 4)
    above_zero = ("length", "total_mass", "tau")
    MAX_POSITION: ClassVar[float] = 2.4
    MAX_ANGLE: ClassVar[float] = 12 * 2 * math.pi / 360

    length: float = 0.5
    polemass_length: float = 0.05
    masspole: float = 0.1
    total_mass: float = 1.1
    force_mag: float = 10.0
    gravity: float = 9.8
    tau: float = 0.02

    def step(self, state: Floats, actions: Array) -> tuple[Floats, Floats, Bools]:
        _, speed, angle, spin = state
        sine, cosine = np.sin(angle), np.cos(angle)
        force = np.where(actions == 1, self.force_mag, -self.force_mag)
        push = (force + self.polemass_length * spin**2 * sine) / self.total_mass
        spin_up = (self.gravity * sine - cosine * push) / (
            self.length * (4 / 3 - self.masspole * cosine**2 / self.total_mass)
        )
        speed_up = push - self.polemass_length * spin_up * cosine / self.total_mass
        after = state + self.tau * _rows(speed, speed_up, spin, spin_up)
        fallen = (np.abs(after[0]) > self.MAX_POSITION) | (np.abs(after[2]) > self.MAX_ANGLE)
        return after, np.ones(len(fallen)), fallen

    def observe(self, state: Floats) -> npt.NDArray[np.float32]:
        return _shown(*state)


@dataclass(frozen=True)
class Acrobot(System):
    """Swing the lower of two links up by a torque at the joint between them (Sutton, 1996).

    Attributes:
        LINK_LENGTH_1: length of the upper link, m.
        LINK_MASS_1: mass of the upper link, kg.
        LINK_MASS_2: mass of the lower link, kg.
        LINK_COM_POS_1: distance from the upper link's end to its centre of mass, m.
        LINK_COM_POS_2: distance from the lower link's end to its centre of mass, m.
        LINK_MOI: moment of inertia of either, kg m^2.
    """

    steps = 500
    start = ((-0.1,) * 4, (0.1,) * 4)
    above_zero = ("LINK_LENGTH_1", "LINK_MASS_1", "LINK_MASS_2", "LINK_MOI")
    MAX_SPIN: ClassVar[Floats] = np.array([[4 * math.pi], [9 * math.pi]])
    GRAVITY: ClassVar[float] = 9.8
    STEP_SECONDS: ClassVar[float] = 0.2

    LINK_LENGTH_1: float = 1.0
    LINK_MASS_1: float = 1.0
    LINK_MASS_2: float = 1.0
    LINK_COM_POS_1: float = 0.5
    LINK_COM_POS_2: float = 0.5
    LINK_MOI: float = 1.0

    def starts(self, level: int) -> Floats:
        return super().starts(level).astype(np.float32).astype(np.float64)

    def step(self, state: Floats, actions: Array) -> tuple[Floats, Floats, Bools]:
        torque = actions - 1.0
        dt = self.STEP_SECONDS
        k1 = self._derivative(state, torque)
        k2 = self._derivative(state + dt / 2 * k1, torque)
        k3 = self._derivative(state + dt / 2 * k2, torque)
        k4 = self._derivative(state + dt * k3, torque)
        after = state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        after[:2] -= 2 * math.pi * np.rint(after[:2] / (2 * math.pi))
        after[2:] = after[2:].clip(-self.MAX_SPIN, self.MAX_SPIN)
        up = -np.cos(after[0]) - np.cos(after[1] + after[0]) > 1
        return after, np.where(up, 0.0, -1.0), up

    def _derivative(self, state: Floats, torque: Floats) -> Floats:
        theta1, theta2, spin1, spin2 = state
        m1, m2, l1 = self.LINK_MASS_1, self.LINK_MASS_2, self.LINK_LENGTH_1
        c1, c2, inertia, g = self.LINK_COM_POS_1, self.LINK_COM_POS_2, self.LINK_MOI, self.GRAVITY
        coupling = m2 * l1 * c2 * np.cos(theta2)
        pull = m2 * l1 * c2 * np.sin(theta2)
        d1 = (m1 * c1**2 + m2 * (l1**2 + c2**2) + 2 * inertia) + 2 * coupling
        d2 = (m2 * c2**2 + inertia) + coupling
        phi2 = m2 * c2 * g * np.sin(theta1 + theta2)
        phi1 = (m1 * c1 + m2 * l1) * g * np.sin(theta1) + phi2 - pull * spin2 * (spin2 + 2 * spin1)
        ratio = d2 / d1
        spin2_up = (torque + ratio * phi1 - pull * spin1**2 - phi2) / (
            (m2 * c2**2 + inertia) - ratio * d2
        )
        return _rows(spin1, spin2, -ratio * spin2_up - phi1 / d1, spin2_up)

    def observe(self, state: Floats) -> npt.NDArray[np.float32]:
        sine, cosine = np.sin(state[:2]), np.cos(state[:2])
        return _shown(cosine[0], sine[0], cosine[1], sine[1], state[2], state[3])


@dataclass(frozen=True)
class MountainCar(System):
    """Rock a weak car out of a valley (Moore, 1990).

    Attributes:
        force: force of the engine.
        gravity: gravity along the slope.
        goal_velocity: the lowest velocity of the car at the goal.
    """

    steps = 200
    start = ((-0.6,), (-0.4,))
    LOWEST, HIGHEST, GOAL = -1.2, 0.6, 0.5
    MAX_SPEED: ClassVar[float] = 0.07

    force: float = 0.001
    gravity: float = 0.0025
    goal_velocity: float = 0.0

    def starts(self, level: int) -> Floats:
        return np.append(super().starts(level), 0.0)

    def step(self, state: Floats, actions: Array) -> tuple[Floats, Floats, Bools]:
        position, velocity = state
        push = (actions - 1) * self.force - np.cos(3 * position) * self.gravity
        velocity = (velocity + push).clip(-self.MAX_SPEED, self.MAX_SPEED)
        position = (position + velocity).clip(self.LOWEST, self.HIGHEST)
        velocity = np.where((position == self.LOWEST) & (velocity < 0), 0.0, velocity)
        at_goal = (position >= self.GOAL) & (velocity >= self.goal_velocity)
        return _rows(position, velocity), np.full(len(at_goal), -1.0), at_goal

    def observe(self, state: Floats) -> npt.NDArray[np.float32]:
        return _shown(*state)


@dataclass(frozen=True)
class Pendulum(System):
    """Swing a pendulum up by a weak torque, and hold it there.

    Attributes:
        g: gravity, m/s^2.
        m: mass, kg.
        l: length, m.
        max_torque: the largest torque, N m.
        max_speed: the largest angular speed, rad/s.
        dt: duration of a step, s.
    """

    steps = 200
    start = ((-math.pi, -1.0), (math.pi, 1.0))
    above_zero = ("m", "l", "dt")
    most = {"max_torque": 2.0, "max_speed": 8.0}  # noqa: RUF012  those of Gymnasium's spaces

    g: float = 10.0
    m: float = 1.0
    l: float = 1.0  # noqa: E741  Gymnasium's names
    max_torque: float = 2.0
    max_speed: float = 8.0
    dt: float = 0.05

    def step(self, state: Floats, actions: Array) -> tuple[Floats, Floats, Bools]:
        angle, speed = state
        torque = actions[:, 0].clip(-self.max_torque, self.max_torque).astype(np.float64)
        from_top = (angle + math.pi) % (2 * math.pi) - math.pi
        costs = from_top**2 + 0.1 * speed**2 + 0.001 * torque**2
        push = 3 * self.g / (2 * self.l) * np.sin(angle) + 3 / (self.m * self.l**2) * torque
        speed = (speed + push * self.dt).clip(-self.max_speed, self.max_speed)
        after = _rows(angle + speed * self.dt, speed)
        return after, -costs, np.zeros(len(costs), np.bool_)

    def observe(self, state: Floats) -> npt.NDArray[np.float32]:
        return _shown(np.cos(state[0]), np.sin(state[0]), state[1])


SYSTEMS: dict[str, type[System]] = {
    "Acrobot-v1": Acrobot,
    "CartPole-v1": CartPole,
    "MountainCar-v0": MountainCar,
    "Pendulum-v1": Pendulum,
}


@dataclass(frozen=True)
class ClassicControlTask(GymnasiumTask):
    """One of Gymnasium's classic control environments, stepped as arrays.

    Args:
        env: one of `SYSTEMS`.
        physics: constants of the system to change, by Gymnasium's names.
        settings: none; `GymnasiumTask` takes them.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.env not in SYSTEMS:
            raise UnknownName("classic control environment", self.env, SYSTEMS)
        if self.settings:
            raise BadConfig(
                f"{self.id!r} has no settings ({', '.join(self.settings)}): its constants are "
                "'physics', and rlcondense.tasks.gymnasium:GymnasiumTask takes 'settings'"
            )
        for split, levels in self.splits.items():
            check_most(f"levels of split {split}", len(levels), "levels that are made at once")
        try:
            system = self.system()
            check_positive(system, *system.above_zero)
            for name, bound in system.most.items():
                if getattr(system, name) > bound:
                    raise BadConfig(f"{name} must be at most {bound:g}, as its space has it")
        except (BadConfig, TypeError) as error:
            raise BadConfig(f"physics of {self.id!r}: {error}") from error

    def system(self) -> System:
        """System of equations with the task's constants."""
        return SYSTEMS[self.env](**self.physics)

    def make_vec(
        self, split: str, num_envs: int, *, seed: int, num_threads: int = 1, copy: bool = True
    ) -> ClassicControlVectorEnv:
        return ClassicControlVectorEnv(self, self.order(split, num_envs, seed))


class ClassicControlVectorEnv(LevelVectorEnv):
    """Environments whose states are columns of one array.

    Args:
        task: the task that they run.
        order: the sequence of levels.

    Example:
        >>> env = make_task("cartpole").make_vec("seen", 256, seed=0)
        >>> observations, infos = env.reset()
        >>> observations.shape
        (256, 4)
    """

    def __init__(self, task: ClassicControlTask, order: LevelOrder) -> None:
        self._system = task.system()
        super().__init__(task, order, self._system.steps)
        self._starts = _starts(self._system, order.levels)
        self._state = np.zeros((len(self._starts), self.num_envs))

    def _begin(self, which: Which, levels: Levels) -> None:
        self._state[:, which] = self._starts[:, levels - self._order.levels.start]

    def _advance(self, actions: Array) -> tuple[Floats, Bools]:
        self._state, rewards, terminations = self._system.step(self._state, actions)
        return rewards, terminations

    def _observe(self, which: Which) -> npt.NDArray[np.float32]:
        return self._system.observe(self._state[:, which])

    def _saved(self) -> Sequence[Array]:
        return [self._state.T]

    def _restore(self, arrays: Sequence[Array]) -> None:
        self._state = arrays[0].T.copy()


@cache
def _starts(system: System, levels: range) -> Floats:
    """Return the initial state `(D, L)` of each level."""
    return np.stack([system.starts(level) for level in levels], 1)


def _rows(*rows: Floats) -> Floats:
    """Return one array `(D, N)` of D rows `(N,)`, in a third of the time of `np.stack`."""
    array = np.empty((len(rows), len(rows[0])))
    for i, row in enumerate(rows):
        array[i] = row
    return array


def _shown(*features: Floats) -> npt.NDArray[np.float32]:
    """Return observations `(N, O)` of O features `(N,)`."""
    array = np.empty((len(features[0]), len(features)), np.float32)
    for i, feature in enumerate(features):
        array[:, i] = feature
    return array
