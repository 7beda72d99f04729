"""Which level comes next, for tasks whose simulator does not decide that itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rlcondense.errors import BadConfig

Levels = npt.NDArray[np.int64]


class LevelOrder:
    """The levels that each environment plays one after the other, drawn with replacement.

    An environment's k-th level is a function of the seed, its index and k: neither actions nor
    how many environments follow have a say.

    Args:
        levels: to draw from.
        num_envs: how many environments.
        seed: of the draws.

    Raises:
        BadConfig: there are no environments, or the seed is negative.
    """

    def __init__(self, levels: range, num_envs: int, seed: int) -> None:
        if num_envs < 1:
            raise BadConfig(f"num_envs must be at least 1, not {num_envs}")
        if seed < 0:
            raise BadConfig(f"a seed of levels must not be negative, but is {seed}")
        self.levels, self.num_envs, self.seed = levels, num_envs, seed
        self.begun = np.zeros(num_envs, np.int64)
        self._order = np.empty((0, num_envs), np.int64)

    def reseeded(self, seed: int | list[int] | None) -> LevelOrder:
        """The order of another seed from its start, or this one, going on, where that is None.

        Raises:
            BadConfig: it is a list of seeds.
        """
        if isinstance(seed, (list, tuple)):
            raise BadConfig("one seed is taken for all environments, not one for each")
        return self if seed is None else LevelOrder(self.levels, self.num_envs, seed)

    def next(self, environments: npt.NDArray[np.int64]) -> Levels:
        """The levels `(B,)` that the environments `(B,)`, no two the same, begin now."""
        episodes = self.begun[environments]
        self.begun[environments] += 1
        while len(self._order) <= episodes.max(initial=-1):
            self._draw()
        return np.asarray(self._order[episodes, environments])

    def _draw(self) -> None:
        # One more level for everyone. The first draws do not depend on how many follow.
        rng = np.random.default_rng([self.seed, len(self._order)])
        drawn = (rng.random(self.num_envs) * len(self.levels)).astype(np.int64)
        self._order = np.vstack([self._order, self.levels.start + drawn])
