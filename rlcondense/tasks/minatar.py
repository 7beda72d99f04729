"""MinAtar: five Atari games on 10 x 10 cells (Young and Tian, 2019, arXiv 1903.03176).

Four of them run here as arrays, many environments at a time, bit for bit like the published
package. Seaquest runs in that package, since its state is lists whose order matters.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt

from rlcondense.catalogue import import_file
from rlcondense.errors import BadConfig, MissingExtra, UnknownName
from rlcondense.tasks.base import ReturnEstimate
from rlcondense.tasks.levels import (
    Bools,
    LevelOrder,
    Levels,
    LevelTask,
    LevelVectorEnv,
    Which,
)
from rlcondense.types import Array

SIDE = 10
STAY, LEFT, UP, RIGHT, DOWN, FIRE = range(6)
MOST_LEVEL = 2**32 - 1  # numpy's RandomState takes no higher seed
STICKY = 0.1  # probability that an environment repeats the last action
Ints = npt.NDArray[np.int64]
Frames = npt.NDArray[np.uint8]


class Game(ABC):
    """Game in N environments at once. The state is arrays with one row for each environment.

    Args:
        num_envs: N.

    Attributes:
        planes: number of planes of a frame.
        actions: those of the six actions that have an effect in this game.
        random: random stream of each environment.
    """

    planes: ClassVar[int]
    actions: ClassVar[tuple[int, ...]]

    def __init__(self, num_envs: int) -> None:
        self.random = [np.random.RandomState(0) for _ in range(num_envs)]

    @abstractmethod
    def begin(self, which: Which) -> None:
        """Start new games in environments `(B,)`."""

    @abstractmethod
    def act(self, actions: Ints) -> tuple[Ints, Bools]:
        """Apply actions `(N,)` of the six; return rewards `(N,)` and terminations `(N,)`."""

    @abstractmethod
    def draw(self, which: Which) -> Frames:
        """Return frames `(B, planes, 10, 10)` of environments `(B,)`: 255 for an object, else 0."""

    def saved(self) -> dict[str, Array]:
        """Return the state without the random streams."""
        return {k: v for k, v in vars(self).items() if isinstance(v, np.ndarray)}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Restore what `saved` returned."""
        vars(self).update(arrays)


class Breakout(Game):
    """Keep a ball in play with a paddle, and break bricks with it."""

    planes = 4
    actions = (STAY, LEFT, RIGHT)

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)
        self.paddle, self.x, self.y, self.right, self.down, self.last_x, self.last_y = np.zeros(
            (7, num_envs), np.int64
        )
        self.struck = np.zeros(num_envs, np.bool_)
        self.bricks = np.zeros((num_envs, SIDE, SIDE), np.bool_)

    def begin(self, which: Which) -> None:
        side = np.array([self.random[i].randint(2) for i in which])
        self.paddle[which], self.y[which], self.last_y[which] = 4, 3, 3
        self.x[which] = self.last_x[which] = (SIDE - 1) * side
        self.right[which], self.down[which] = 1 - 2 * side, 1
        self.struck[which] = False
        self.bricks[which] = False
        self.bricks[which, 1:4] = True

    def act(self, actions: Ints) -> tuple[Ints, Bools]:
        self.paddle = _moved(self.paddle, actions, LEFT, RIGHT)
        self.last_x, self.last_y = self.x, self.y
        x, y = self.x + self.right, self.y + self.down
        sideways = (x < 0) | (x >= SIDE)
        x, roof = x.clip(0, SIDE - 1), y < 0
        y = y.clip(0)
        every = np.arange(len(x))
        hit = self.bricks[every, y, x] & ~roof
        broken = hit & ~self.struck
        self.bricks[every[broken], y[broken], x[broken]] = False
        floor = (y == SIDE - 1) & ~roof & ~hit
        if len(cleared := np.flatnonzero(floor & ~self.bricks.any((1, 2)))):
            self.bricks[cleared, 1:4] = True
        # The paddle catches a ball above it, and a ball that flies to its cell.
        above = floor & (self.last_x == self.paddle)
        ahead = floor & ~above & (x == self.paddle)
        self.right = np.where(sideways ^ ahead, -self.right, self.right)
        self.down = np.where(roof | broken | above | ahead, -self.down, self.down)
        self.x, self.y = x, np.where(broken | above | ahead, self.last_y, y)
        self.struck = hit
        return broken.astype(np.int64), floor & ~above & ~ahead

    def draw(self, which: Which) -> Frames:
        frames, i = _blank(which, self.planes)
        frames[i, 0, SIDE - 1, self.paddle[which]] = 255
        frames[i, 1, self.y[which], self.x[which]] = 255
        frames[i, 2, self.last_y[which], self.last_x[which]] = 255
        frames[:, 3] = self.bricks[which] * np.uint8(255)
        return frames


class Asterix(Game):
    """Move among objects that enter from the sides: collect gold and avoid enemies."""

    planes = 4
    actions = (STAY, LEFT, UP, RIGHT, DOWN)
    ROWS: ClassVar[Ints] = np.arange(1, 9)

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)
        self.player_x, self.player_y = np.zeros((2, num_envs), np.int64)
        self.spawn_speed, self.spawn_timer, self.move_speed, self.move_timer = np.zeros(
            (4, num_envs), np.int64
        )
        self.ramp_timer, self.ramp_index = np.zeros((2, num_envs), np.int64)
        # For each row: whether it holds an object, its column and its direction.
        self.there, self.gold = np.zeros((2, num_envs, 8), np.bool_)
        self.x, self.right = np.zeros((2, num_envs, 8), np.int64)

    def begin(self, which: Which) -> None:
        self.player_x[which] = self.player_y[which] = 5
        self.spawn_speed[which] = self.spawn_timer[which] = 10
        self.move_speed[which] = self.move_timer[which] = 5
        self.ramp_timer[which], self.ramp_index[which] = 100, 0
        self.there[which] = False

    def act(self, actions: Ints) -> tuple[Ints, Bools]:
        due = self.spawn_timer == 0
        for i in np.flatnonzero(due):
            self._spawn(int(i))
        self.spawn_timer = np.where(due, self.spawn_speed, self.spawn_timer)
        self.player_x = _moved(self.player_x, actions, LEFT, RIGHT)
        self.player_y = _moved(self.player_y, actions, UP, DOWN).clip(1, SIDE - 2)
        rewards, over = self._meet()
        due = self.move_timer == 0
        self.move_timer = np.where(due, self.move_speed, self.move_timer)
        self.x += self.right * due[:, None]
        self.there &= (self.x >= 0) & (self.x < SIDE)
        # Without movement there is no new contact: gold was taken, and enemies ended the game.
        more, too = self._meet()
        self.spawn_timer -= 1
        self.move_timer -= 1
        self._ramp()
        return rewards + more, over | too

    def _spawn(self, i: int) -> None:
        random = self.random[i]
        right, gold = random.rand() < 1 / 2, random.rand() < 1 / 3
        free = np.flatnonzero(~self.there[i])
        if len(free):
            row = free[random.randint(len(free))]
            self.there[i, row], self.gold[i, row] = True, gold
            self.x[i, row], self.right[i, row] = (0, 1) if right else (SIDE - 1, -1)

    def _meet(self) -> tuple[Ints, Bools]:
        met = self.there & (self.x == self.player_x[:, None])
        met &= self.player_y[:, None] == self.ROWS
        taken = met & self.gold
        self.there &= ~taken
        return taken.sum(1), (met & ~self.gold).any(1)

    def _ramp(self) -> None:
        ramping = (self.spawn_speed > 1) | (self.move_speed > 1)
        harder = ramping & (self.ramp_timer < 0)
        self.ramp_timer -= ramping & ~harder
        self.ramp_timer[harder] = 100
        self.move_speed -= harder & (self.move_speed > 1) & (self.ramp_index % 2 == 1)
        self.spawn_speed -= harder & (self.spawn_speed > 1)
        self.ramp_index += harder

    def draw(self, which: Which) -> Frames:
        frames, i = _blank(which, self.planes)
        frames[i, 0, self.player_y[which], self.player_x[which]] = 255
        place, row = np.nonzero(self.there[which])
        x, right = self.x[which][place, row], self.right[which][place, row]
        frames[place, np.where(self.gold[which][place, row], 3, 1), row + 1, x] = 255
        behind = x - right
        seen = (behind >= 0) & (behind < SIDE)
        frames[place[seen], 2, row[seen] + 1, behind[seen]] = 255
        return frames


class Freeway(Game):
    """Cross eight lanes of cars repeatedly."""

    planes = 7
    actions = (STAY, UP, DOWN)
    LANES: ClassVar[Ints] = np.arange(1, 9)
    COLUMN = 4

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)
        self.y, self.move_timer, self.left = np.zeros((3, num_envs), np.int64)
        # A car moves every |speed| + 1 steps, to the right where its speed is positive.
        self.x, self.timer, self.speed = np.zeros((3, num_envs, 8), np.int64)

    def begin(self, which: Which) -> None:
        self._hurry(which)
        self.x[which] = 0
        self.y[which], self.move_timer[which], self.left[which] = SIDE - 1, 3, 2500

    def _hurry(self, which: Which) -> None:
        """Draw new speeds for the cars of environments `(B,)`."""
        for i in which:
            random = self.random[i]
            self.speed[i] = random.randint(1, 6, 8) * np.sign(random.rand(8) - 0.5).astype(int)
        self.timer[which] = np.abs(self.speed[which])

    def act(self, actions: Ints) -> tuple[Ints, Bools]:
        free = self.move_timer == 0
        moved = free & ((actions == UP) | (actions == DOWN))
        self.y = np.where(free, _moved(self.y, actions, UP, DOWN), self.y)
        self.move_timer[moved] = 3
        won = self.y == 0
        self._hurry(np.flatnonzero(won))
        self.y[won | self._hit()] = SIDE - 1
        due = self.timer == 0
        self.x = (self.x + due * np.sign(self.speed)) % SIDE
        self.timer = np.where(due, np.abs(self.speed), self.timer - 1)
        self.y[self._hit()] = SIDE - 1
        self.move_timer -= self.move_timer > 0
        self.left -= 1
        return won.astype(np.int64), self.left < 0

    def _hit(self) -> Bools:
        """Return whether a car is in the chicken's cell, `(N,)`."""
        cars = (self.x == self.COLUMN) & (self.y[:, None] == self.LANES)
        return np.asarray(cars.any(1))

    def draw(self, which: Which) -> Frames:
        frames, i = _blank(which, self.planes)
        x, speed, i = self.x[which], self.speed[which], i[:, None]
        frames[i[:, 0], 0, self.y[which], self.COLUMN] = 255
        frames[i, 1, self.LANES, x] = 255
        frames[i, 1 + np.abs(speed), self.LANES, (x - np.sign(speed)) % SIDE] = 255
        return frames


class SpaceInvaders(Game):
    """Shoot at aliens that descend row by row and shoot back."""

    planes = 6
    actions = (STAY, LEFT, RIGHT, FIRE)

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)
        self.x, self.heading, self.interval = np.zeros((3, num_envs), np.int64)
        self.shot_timer, self.move_timer, self.alien_shot_timer = np.zeros((3, num_envs), np.int64)
        self.aliens, self.shots, self.alien_shots = np.zeros((3, num_envs, SIDE, SIDE), np.bool_)

    def begin(self, which: Which) -> None:
        self.x[which], self.heading[which], self.shot_timer[which] = 5, -1, 0
        self.interval[which] = self.move_timer[which] = 12
        self.alien_shot_timer[which] = 10
        self.aliens[which] = self.shots[which] = self.alien_shots[which] = False
        self.aliens[which, :4, 2:8] = True

    def act(self, actions: Ints) -> tuple[Ints, Bools]:
        every = np.arange(len(actions))
        fires = (actions == FIRE) & (self.shot_timer == 0)
        self.shots[fires, SIDE - 1, self.x[fires]] = True
        self.shot_timer[fires] = 5
        self.x = _moved(self.x, actions, LEFT, RIGHT)
        self.shots[:, :-1], self.shots[:, -1] = self.shots[:, 1:].copy(), False
        self.alien_shots[:, 1:], self.alien_shots[:, 0] = self.alien_shots[:, :-1].copy(), False
        over = self.alien_shots[every, -1, self.x] | self.aliens[every, -1, self.x]
        over |= self._march(np.flatnonzero(self.move_timer == 0))
        self._shoot(np.flatnonzero(self.alien_shot_timer == 0))
        killed = self.aliens & self.shots
        self.aliens &= ~killed
        self.shots &= ~killed
        self.shot_timer -= self.shot_timer > 0
        self.move_timer -= 1
        self.alien_shot_timer -= 1
        cleared = ~self.aliens.any((1, 2))
        self.interval -= cleared & (self.interval > 6)
        self.aliens[cleared, :4, 2:8] = True
        return killed.sum((1, 2)), over

    def _march(self, which: Which) -> Bools:
        """Move the aliens of environments `(B,)`; return where they reached the cannon, `(N,)`."""
        over = np.zeros(len(self.x), np.bool_)
        if not len(which):
            return over
        aliens, heading = self.aliens[which], self.heading[which]
        self.move_timer[which] = np.minimum(aliens.sum((1, 2)), self.interval[which])
        edge = np.where(heading < 0, aliens[:, :, 0].any(1), aliens[:, :, -1].any(1))
        over[which] = edge & aliens[:, -1].any(1)
        self.heading[which] = np.where(edge, -heading, heading)
        down, left, right = edge, ~edge & (heading < 0), ~edge & (heading > 0)
        for moving, step, axis in ((down, 1, 1), (left, -1, 2), (right, 1, 2)):
            aliens[moving] = np.roll(aliens[moving], step, axis)
        self.aliens[which] = aliens
        over[which] |= aliens[np.arange(len(which)), -1, self.x[which]]
        return over

    def _shoot(self, which: Which) -> None:
        """Let the lowest alien of the column nearest to the cannon shoot, in `(B,)` games."""
        columns = np.arange(SIDE)
        # Of two equally near columns, the left one.
        far = np.abs(columns - self.x[which, None]) * SIDE + columns
        column = np.where(self.aliens[which].any(1), far, SIDE**2).argmin(1)
        row = SIDE - 1 - self.aliens[which, ::-1, column].argmax(1)
        self.alien_shots[which, row, column] = True
        self.alien_shot_timer[which] = 10

    def draw(self, which: Which) -> Frames:
        frames, i = _blank(which, self.planes)
        frames[i, 0, SIDE - 1, self.x[which]] = 255
        frames[:, 1] = aliens = self.aliens[which] * np.uint8(255)
        frames[i, np.where(self.heading[which] < 0, 2, 3)] = aliens
        frames[:, 4] = self.shots[which] * np.uint8(255)
        frames[:, 5] = self.alien_shots[which] * np.uint8(255)
        return frames


class Seaquest(Game):
    """Shoot fish and submarines, and bring divers up before the oxygen is gone.

    Raises:
        MissingExtra: MinAtar is not installed.
    """

    planes = 10
    actions = (STAY, LEFT, UP, RIGHT, DOWN, FIRE)
    MOST_BYTES = 8192

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)
        package = _package("seaquest")
        self._envs = [package.Env(ramping=True) for _ in range(num_envs)]
        for env, random in zip(self._envs, self.random, strict=True):
            env.random = random

    def begin(self, which: Which) -> None:
        for i in which:
            self._envs[i].reset()

    def act(self, actions: Ints) -> tuple[Ints, Bools]:
        done = [env.act(action) for env, action in zip(self._envs, actions, strict=True)]
        rewards, over = zip(*done, strict=True)
        return np.array(rewards, np.int64), np.array(over, np.bool_)

    def draw(self, which: Which) -> Frames:
        planes = np.stack([self._envs[i].state() for i in which])
        return np.ascontiguousarray(planes.transpose(0, 3, 1, 2)) * np.uint8(255)

    def saved(self) -> dict[str, Array]:
        fixed = ("random", "channels", "action_map", "ramping")
        states = [{k: v for k, v in vars(env).items() if k not in fixed} for env in self._envs]
        texts = [json.dumps(state).encode().ljust(self.MOST_BYTES) for state in states]
        return {"states": np.frombuffer(b"".join(texts), np.uint8).reshape(-1, self.MOST_BYTES)}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        for env, text in zip(self._envs, arrays["states"], strict=True):
            vars(env).update(json.loads(text.tobytes()))


GAMES: dict[str, type[Game]] = {
    "asterix": Asterix,
    "breakout": Breakout,
    "freeway": Freeway,
    "seaquest": Seaquest,
    "space_invaders": SpaceInvaders,
}


@dataclass(frozen=True)
class MinAtarTask(LevelTask):
    """One game with the published sticky actions and difficulty ramp.

    A frame has one plane for each kind of object, 255 in its cells. Actions are the game's minimal
    set.

    Args:
        id: catalogue id.
        game: one of `GAMES`.
        steps: the step limit after which an episode is truncated.
        seen: first seed and number of seeds that training data comes from.
        heldout: first seed and number of seeds kept for evaluation.
        score_range: the constants of the normalised score.
        random_return: measured return of the uniform random policy, by split.
    """

    id: str
    game: str
    steps: int = 1000
    seen: tuple[int, int] = (0, 200)
    heldout: tuple[int, int] = (10_000, 10_000)
    score_range: tuple[float, float] | None = None
    random_return: Mapping[str, ReturnEstimate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.game not in GAMES:
            raise UnknownName("MinAtar game", self.game, GAMES)
        if self.steps < 1:
            raise BadConfig(f"steps of {self.id!r} must be at least 1, not {self.steps}")
        self.check_levels()
        for split, levels in self.splits.items():
            if levels.stop - 1 > MOST_LEVEL:
                raise BadConfig(f"{split} levels of {self.id!r} must be at most {MOST_LEVEL}")

    @property
    def packages(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("MinAtar",) if self.game == "seaquest" else ()  # the others are this package's

    @property
    def observation_space(self) -> gymnasium.spaces.Box:
        return gymnasium.spaces.Box(0, 255, (GAMES[self.game].planes, SIDE, SIDE), np.uint8)

    @property
    def action_space(self) -> gymnasium.spaces.Discrete:
        return gymnasium.spaces.Discrete(len(GAMES[self.game].actions))

    def make_vec(
        self, split: str, num_envs: int, *, seed: int, num_threads: int = 1, copy: bool = True
    ) -> MinAtarVectorEnv:
        return MinAtarVectorEnv(self, self.order(split, num_envs, seed))


class MinAtarVectorEnv(LevelVectorEnv):
    """Environments of one game. A level is the seed of a new environment of the package.

    Args:
        task: the task that they run.
        order: the sequence of levels.
    """

    def __init__(self, task: MinAtarTask, order: LevelOrder) -> None:
        super().__init__(task, order, task.steps)
        self._game = GAMES[task.game](self.num_envs)
        self._codes = np.array(self._game.actions)
        self._last = np.full(self.num_envs, STAY)

    def _begin(self, which: Which, levels: Levels) -> None:
        for i, level in zip(which, levels, strict=True):
            self._game.random[i].seed(level)
        self._game.begin(which)
        self._last[which] = STAY

    def _advance(self, actions: Array) -> tuple[Ints, Bools]:
        drawn = np.array([random.random_sample() for random in self._game.random])
        self._last = np.where(drawn < STICKY, self._last, self._codes[actions])
        return self._game.act(self._last)

    def _observe(self, which: Which) -> Frames:
        return self._game.draw(which)

    def _saved(self) -> Sequence[Array]:
        states = [random.get_state(legacy=False)["state"] for random in self._game.random]
        keys = np.stack([state["key"] for state in states])
        places = np.array([state["pos"] for state in states])
        return [self._last, keys, places, *self._game.saved().values()]

    def _restore(self, arrays: Sequence[Array]) -> None:
        self._last, keys, places, *rest = arrays
        for random, key, place in zip(self._game.random, keys, places, strict=True):
            random.set_state(("MT19937", key, int(place), 0, 0.0))
        self._game.restore(dict(zip(self._game.saved(), rest, strict=True)))


def _package(game: str) -> ModuleType:
    """Import the module of a game alone: MinAtar's package imports seaborn, which takes seconds."""
    spec = find_spec("minatar")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("minatar", "minatar")
    return import_file(Path(spec.submodule_search_locations[0]) / "environments" / f"{game}.py")


def _moved(at: Ints, actions: Ints, back: int, forth: int) -> Ints:
    """Return positions `(N,)` on a line after actions `(N,)`."""
    return np.asarray((at + (actions == forth) - (actions == back)).clip(0, SIDE - 1))


def _blank(which: Which, planes: int) -> tuple[Frames, Ints]:
    """Return empty frames for environments `(B,)`, and the indices of the frames."""
    return np.zeros((len(which), planes, SIDE, SIDE), np.uint8), np.arange(len(which))
