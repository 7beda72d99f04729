"""Procgen: sixteen games of generated levels (Cobbe et al., 2020, arXiv 1912.01588)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from rlcondense.config import check_choice
from rlcondense.errors import BadConfig, MissingLibrary, UnknownName
from rlcondense.limits import check_count
from rlcondense.runtime.quiet_import import quiet_import
from rlcondense.tasks.base import OneEnv, ReturnEstimate, Task, shared_levels, split_named
from rlcondense.tasks.levels import as_splits, check_splits

GAMES = (
    "bigfish", "bossfight", "caveflyer", "chaser", "climber", "coinrun", "dodgeball", "fruitbot",
    "heist", "jumper", "leaper", "maze", "miner", "ninja", "plunder", "starpilot",
)  # fmt: skip
MODES = ("easy", "hard")
# Options of Procgen that change the rendered picture and nothing else. (`restrict_themes` also
# changes the sizes of sprites and hence the dynamics.)
VIEWS: Mapping[str, Mapping[str, bool]] = MappingProxyType(
    {
        "ordinary": {},
        "plain": {"use_backgrounds": False, "use_monochrome_assets": True},
        "bare": {"use_backgrounds": False},
    }
)
# System packages with the libraries that Procgen's drawing links to and slim images lack.
PACKAGES = "libgl1 libglib2.0-0"
MOST_LEVEL = 2**31 - 1  # Procgen seeds levels by 32-bit integers
NUM_ACTIONS = 15
GIVE_UP = -1  # Procgen's action that ends an episode
OBSERVATION_SHAPE = (3, 64, 64)

Observations = npt.NDArray[np.uint8]
Actions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ProcgenTask(Task):
    """One game in one mode and one view.

    Tasks that differ only in their view have the same dynamics: equal actions lead to equal
    rewards, episode ends and levels.

    Args:
        id: catalogue id.
        game: one of `GAMES`.
        mode: `easy` or `hard`.
        view: `ordinary`; `plain`, without backgrounds and with one flat colour for each type of
            object; or `bare`, without backgrounds but with sprites.
        seen: first level and number of levels that training data comes from.
        heldout: first level and number of levels kept for evaluation.
        score_range: the published constants of the normalised score.
        random_return: measured return of the uniform random policy, by split.
        overlap: True only for a task that reproduces a paper whose splits overlap.
    """

    packages = ("procgen-mirror",)

    id: str
    game: str
    mode: str = "easy"
    view: str = "ordinary"
    seen: tuple[int, int] = (0, 200)
    heldout: tuple[int, int] = (10_000, 10_000)
    score_range: tuple[float, float] | None = None
    random_return: Mapping[str, ReturnEstimate] = field(default_factory=dict)
    overlap: bool = False

    def __post_init__(self) -> None:
        if self.game not in GAMES:
            raise UnknownName("Procgen game", self.game, GAMES)
        check_choice(self, "mode", tuple(MODES))
        check_choice(self, "view", tuple(VIEWS))
        splits = as_splits(self.seen, self.heldout)
        check_splits(splits, self.id)
        for split, levels in splits.items():
            if levels.stop - 1 > MOST_LEVEL:
                raise BadConfig(
                    f"{split} levels of {self.id!r} must be at most {MOST_LEVEL}, Procgen's last"
                )
        shared = shared_levels(splits)
        if shared and not self.overlap:
            raise BadConfig(f"seen and held-out levels of {self.id!r} overlap in {shared}")

    @property
    def observation_space(self) -> gymnasium.spaces.Box:
        return gymnasium.spaces.Box(0, 255, OBSERVATION_SHAPE, np.uint8)

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        return gymnasium.spaces.Discrete(NUM_ACTIONS)

    @property
    def splits(self) -> Mapping[str, range]:
        return as_splits(self.seen, self.heldout)

    def make_vec(
        self, split: str, num_envs: int, *, seed: int, num_threads: int = 1, copy: bool = True
    ) -> ProcgenVectorEnv:
        split = split_named(split)
        return ProcgenVectorEnv(
            self.game,
            self.mode,
            self.splits[split],
            num_envs,
            seed=seed,
            num_threads=num_threads,
            copy=copy,
            view=self.view,
        )

    def make_one(self, split: str = "seen", render_mode: str | None = None) -> ProcgenEnv:
        return ProcgenEnv(self, split, render_mode)

    def level_seeds(
        self, split: str, num_envs: int, episodes: int, *, seed: int
    ) -> npt.NDArray[np.int64]:
        # The sequence of levels does not depend on the episodes, so each is abandoned at once.
        give_up = np.full(num_envs, GIVE_UP)
        with contextlib.closing(self.make_vec(split, num_envs, seed=seed)) as env:
            levels = [env.reset(seed=seed)[1]["level_seed"]]
            levels += [env.step(give_up)[-1]["level_seed"] for _ in range(episodes - 1)]
        return np.stack(levels, axis=1)

    @contextlib.contextmanager
    def environments_watched(self) -> Iterator[list[range]]:
        """Record the levels of every Procgen environment that is made within the context.

        The library's own constructor is watched, so that environments made without the task are
        recorded too; only those of another process are not. Environments of another game show no
        levels of this task.
        """
        with quiet_import("procgen"):
            from gym3.libenv import CEnv
        levels: list[range] = []
        original = CEnv.__init__

        def init(env: Any, *args: Any, **options: Any) -> None:
            levels.append(self._levels_shown(options.get("options") or {}))
            original(env, *args, **options)

        CEnv.__init__ = init
        try:
            yield levels
        finally:
            CEnv.__init__ = original

    def _levels_shown(self, options: Mapping[str, Any]) -> range:
        """Return the levels of the task that Procgen's options can show, in any view."""
        mode = {0: "easy", 1: "hard"}.get(options.get("distribution_mode", 1))
        if (options.get("env_name"), mode) != (self.game, self.mode):
            return range(0)
        first, number = int(options.get("start_level", 0)), int(options.get("num_levels", 0))
        if not number or options.get("use_sequential_levels"):  # it can continue with any level
            return range(2**31)
        return range(first, first + number)


class ProcgenVectorEnv(VectorEnv[Observations, Actions, Any]):
    """Procgen's C++ vector environment behind Gymnasium's interface.

    It resets in the step in which an episode ends: the observation is then the first of the next
    episode, `infos["prev_level_seed"]` names the level that ended and `infos["level_seed"]` the
    current level. Procgen neither shows the frame after the last step nor distinguishes a time-out
    from an end, so truncations are always False and there is no `final_obs`.

    Args:
        game: one of `GAMES`.
        mode: `easy` or `hard`.
        levels: level seeds to draw from.
        num_envs: number of environments.
        seed: decides, together with an environment's index, the sequence of levels.
        num_threads: C++ threads; no effect on the levels or the frames.
        copy: return copies. False returns views of Procgen's own buffers, valid until the next
            step, at no cost.
        view: one of `VIEWS`.

    Example:
        >>> env = ProcgenVectorEnv("starpilot", "easy", range(200), num_envs=2, seed=0)
        >>> observations, infos = env.reset()
        >>> observations.shape
        (2, 3, 64, 64)
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "autoreset_mode": "SameStep"}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(
        self,
        game: str,
        mode: str,
        levels: range,
        num_envs: int,
        *,
        seed: int,
        num_threads: int = 1,
        copy: bool = True,
        view: str = "ordinary",
    ) -> None:
        check_count("num_envs", num_envs)
        if not 0 <= seed < 2**31 - 1:
            raise BadConfig(f"a Procgen seed must lie in [0, 2**31 - 1), not {seed}")
        self.game, self.mode, self.levels, self.view = game, mode, levels, view
        self.num_envs = num_envs
        self.num_threads = num_threads
        self.copy = copy
        self.single_observation_space = gymnasium.spaces.Box(0, 255, OBSERVATION_SHAPE, np.uint8)
        self.single_action_space = gymnasium.spaces.Discrete(NUM_ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._seed = seed
        self._open(seed)

    def _open(self, seed: int) -> None:
        with quiet_import("procgen"):
            from procgen import ProcgenGym3Env

        with _system_libraries():
            self._env = ProcgenGym3Env(
                num=self.num_envs,
                env_name=self.game,
                distribution_mode=self.mode,
                start_level=self.levels.start,
                num_levels=len(self.levels),
                rand_seed=seed,
                num_threads=self.num_threads,
                **VIEWS[self.view],
            )
        self._env._reuse_arrays = True  # Procgen's option for views instead of copies
        # The first look-up of a C function takes cffi's lock. If garbage collection interrupts the
        # thread that holds it and closes an abandoned simulator, a look-up then would wait forever.
        _ = self._env._c_lib.libenv_close
        self._fresh, self._shown = True, False  # no step was made, no level was shown

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start new episodes on the first levels of `seed`, or on the next levels if it is None."""
        if isinstance(seed, (list, tuple)):
            raise BadConfig("Procgen takes one seed for all environments, not one for each")
        if seed is not None and not (self._fresh and seed == self._seed):
            self._env.close()
            self._seed = seed
            self._open(seed)
        elif not self._fresh or (self._shown and seed is None):
            self.step_async(np.full(self.num_envs, GIVE_UP))
        self._shown = True
        observations, _, _ = self._observe()
        return observations, self._infos()

    def step(
        self, actions: Actions
    ) -> tuple[
        Observations,
        npt.NDArray[np.float32],
        npt.NDArray[np.bool_],
        npt.NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Apply `(N,)` actions; the class describes the step in which an episode ends."""
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: Actions) -> None:
        """Start a step on Procgen's threads and return at once."""
        self._fresh = False
        self._env.act(np.asarray(actions))

    def step_wait(
        self,
    ) -> tuple[
        Observations,
        npt.NDArray[np.float32],
        npt.NDArray[np.bool_],
        npt.NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Wait for the step started by `step_async` and return its results."""
        observations, rewards, first = self._observe()
        return observations, rewards, first, np.zeros(self.num_envs, np.bool_), self._infos()

    def _observe(self) -> tuple[Observations, npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        rewards, observations, first = self._env.observe()
        # Procgen's frames are (height, width, channel): the transpose is a view in the memory
        # layout that torch calls channels-last.
        frames = observations["rgb"].transpose(0, 3, 1, 2)
        if not self.copy:
            return frames, rewards, first
        return frames.copy(), rewards.copy(), first.copy()

    def _infos(self) -> dict[str, Any]:
        info = self._env._info
        keys = ("level_seed", "prev_level_seed", "prev_level_complete")
        return {key: info[key].copy() if self.copy else info[key] for key in keys}

    def get_state(self) -> list[bytes]:
        """Return the full state of every environment, for checkpoints."""
        return list(self._env.get_state())

    def set_state(self, states: list[bytes]) -> Observations:
        """Restore every environment to a state of `get_state` and return its observation."""
        self._env.set_state(states)
        self._fresh = False
        return self._observe()[0]

    def render(self) -> tuple[Any, ...]:
        """Return the current frames as (height, width, channel)."""
        return tuple(self._observe()[0].transpose(0, 2, 3, 1))

    def close_extras(self, **kwargs: Any) -> None:
        """Free the C++ environments if they were made."""
        if hasattr(self, "_env"):
            self._env.close()


class ProcgenEnv(OneEnv):
    """One Procgen environment, such as `procgen/starpilot-easy-v0`, which can be drawn."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012

    def render(self) -> npt.NDArray[np.uint8] | None:  # type: ignore[override]
        if self.render_mode is None or self._vec is None:
            return None
        frames: Any = self._vec.render()
        return np.ascontiguousarray(frames[0])


@contextlib.contextmanager
def _system_libraries() -> Iterator[None]:
    """Turn the loader's error about a library that is absent into one with the way out.

    Raises:
        MissingLibrary: the system lacks a library that Procgen links to.
    """
    try:
        yield
    except OSError as error:
        library = re.search(r"(lib[\w.+-]+): cannot open shared object file", str(error))
        if library is None:
            raise
        raise MissingLibrary("Procgen", library[1], PACKAGES) from error
