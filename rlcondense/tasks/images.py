"""Image classification as a task: an episode is a hundred images, the return the number correct.

It lets methods that step environments run on supervised problems, as Lupu et al. (2024, section
6) run HaDES on MNIST. No action influences which image comes next.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.files import check_regular
from rlcondense.places import cache_root
from rlcondense.tasks.base import ReturnEstimate, Task, TaskVectorEnv, split_named
from rlcondense.tasks.levels import LevelOrder, Levels, Step
from rlcondense.types import Array

SHEET = 100  # images of an episode
DIGITS_HELD_OUT = 500
MOST_BYTES, MOST_LABELS = 2**31, 1000  # limits of an unpacked file and of the number of classes
NAMES = {"seen": ("x_train", "y_train"), "heldout": ("x_test", "y_test")}


@dataclass(frozen=True)
class Images:
    """Labelled images of one split.

    Attributes:
        frames: `(N, 1, H, W)` uint8.
        labels: `(N,)` int64.
    """

    frames: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def sheet(self, level: int) -> npt.NDArray[np.int64]:
        """Return the images `(SHEET,)` of a level; levels within one pass share none."""
        passes, number = divmod(level, len(self.labels) // SHEET)
        order = np.random.default_rng(passes).permutation(len(self.labels))
        return order[number * SHEET : (number + 1) * SHEET]


@dataclass(frozen=True)
class ImagesTask(Task):
    """Classification of scikit-learn's digits, or of the images in a file.

    Args:
        id: catalogue id.
        file: an .npz with `x_train` (N, H, W) in uint8, `y_train` (N,), `x_test` and `y_test`, as
            Keras names them, in the folder `$RLCONDENSE_IMAGES`; empty for the digits.
        score_range: the constants of the normalised score.
        random_return: measured return of the uniform random policy, by split.
    """

    id: str
    file: str = ""
    score_range: tuple[float, float] | None = None
    random_return: Mapping[str, ReturnEstimate] = field(default_factory=dict)

    heldout: ClassVar[range] = range(10_000, 20_000)

    @cached_property
    def images(self) -> Mapping[str, Images]:
        """Images of each split.

        Raises:
            BadConfig: the file is missing, or has another content.
        """
        return _of_file(images_folder() / self.file) if self.file else _digits()

    @cached_property
    def observation_space(self) -> Box:
        return Box(0, 255, self.images["seen"].frames.shape[1:], np.uint8)

    @cached_property
    def action_space(self) -> Discrete:
        return Discrete(int(self.images["seen"].labels.max()) + 1)

    @property
    def seen(self) -> range:
        """Seen levels: enough for a hundred thousand images, or 200 for the digits as elsewhere."""
        return range(1000 if self.file else 200)

    @property
    def splits(self) -> Mapping[str, range]:
        return MappingProxyType({"seen": self.seen, "heldout": self.heldout})

    def make_vec(
        self, split: str, num_envs: int, *, seed: int, num_threads: int = 1, copy: bool = True
    ) -> ImagesVectorEnv:
        split = split_named(split)
        return ImagesVectorEnv(self, split, LevelOrder(self.splits[split], num_envs, seed))

    def level_seeds(self, split: str, num_envs: int, episodes: int, *, seed: int) -> Levels:
        split = split_named(split)
        return LevelOrder(self.splits[split], num_envs, seed).first(episodes)


def images_folder() -> Path:
    """Return the folder of image files: `$RLCONDENSE_IMAGES`, or `images` in `$RLCONDENSE_HOME`."""
    named = os.environ.get("RLCONDENSE_IMAGES")
    return Path(named) if named else cache_root() / "images"


@cache
def _digits() -> Mapping[str, Images]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    frames = np.rint(x.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    parts = {"seen": slice(DIGITS_HELD_OUT, None), "heldout": slice(DIGITS_HELD_OUT)}
    return {split: Images(frames[part], y[part].astype(np.int64)) for split, part in parts.items()}


@cache
def _of_file(path: Path) -> Mapping[str, Images]:
    try:
        check_regular(path)
        with path.open("rb") as opened, zipfile.ZipFile(opened) as held:
            if (size := sum(part.file_size for part in held.infolist())) > MOST_BYTES:
                raise BadConfig(f"{path} unpacks to {size:,} bytes, above {MOST_BYTES:,}")
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            by_split = {
                split: Images(np.asarray(file[x])[:, None], np.asarray(file[y]))
                for split, (x, y) in NAMES.items()
            }
    except RLCondenseError:
        raise
    except Exception as error:  # zipfile, its decompressors and numpy's parser raise many
        raise BadConfig(
            f"{path} cannot be read as images ({type(error).__name__}: {error}); put an .npz of "
            "x_train, y_train, x_test and y_test there, or name its folder in $RLCONDENSE_IMAGES"
        ) from error
    for split, images in by_split.items():
        frames, labels = images.frames, images.labels
        if frames.dtype != np.uint8 or frames.ndim != 4 or labels.shape != (len(frames),):
            raise BadConfig(
                f"{path}: images of {split} must be (N, H, W) in uint8 with N labels, not "
                f"{frames.dtype} {frames[:, 0].shape} with {labels.shape}"
            )
        if len(frames) < SHEET:
            raise BadConfig(f"{path}: {split} needs at least {SHEET} images, not {len(frames)}")
        if labels.dtype.kind not in "iu" or not 0 <= labels.min() <= labels.max() < MOST_LABELS:
            raise BadConfig(
                f"{path}: labels of {split} must be whole numbers in 0..{MOST_LABELS - 1}"
            )
    seen, heldout = (by_split[split].frames.shape[1:] for split in NAMES)
    if seen != heldout:
        raise BadConfig(f"{path}: images seen are {seen[1:]}, and held-out ones {heldout[1:]}")
    return {split: Images(i.frames, i.labels.astype(np.int64)) for split, i in by_split.items()}


class ImagesVectorEnv(TaskVectorEnv):
    """Environments that each show one sheet after another, with no step between two sheets.

    The observation after a sheet's last image is the first image of the next sheet.

    Args:
        task: the task with the images.
        split: `seen` or `heldout`.
        order: the sequence of levels.
    """

    def __init__(self, task: ImagesTask, split: str, order: LevelOrder) -> None:
        super().__init__(task, order.num_envs)
        self._order, self._images = order, task.images[split]

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
        """Start new episodes on the first levels of `seed`, or on the next levels if it is None."""
        self._order = self._order.reseeded(seed)
        self._levels = np.zeros(self.num_envs, np.int64)
        self._sheets = np.zeros((self.num_envs, SHEET), np.int64)
        self._at = np.zeros(self.num_envs, np.int64)
        self._start(np.arange(self.num_envs))
        return self._images.frames[self._now], {"level_seed": self._levels.copy()}

    def _start(self, which: npt.NDArray[np.int64]) -> None:
        self._levels[which] = self._order.next(which)
        self._sheets[which] = [self._images.sheet(int(level)) for level in self._levels[which]]
        self._at[which] = 0

    @property
    def _now(self) -> npt.NDArray[np.int64]:
        """Return the number `(N,)` of the image that each environment shows."""
        return np.asarray(self._sheets[np.arange(self.num_envs), self._at])

    def step(self, actions: Array) -> Step:
        """Classify the current images; the class describes the step in which a sheet ends."""
        shown = self._now
        rewards = (np.asarray(actions) == self._images.labels[shown]).astype(np.float32)
        ended = self._at == SHEET - 1
        self._at = np.minimum(self._at + 1, SHEET - 1)
        last = self._images.frames[self._now]  # a finished sheet repeats its last image here
        if ended.any():
            self._start(np.flatnonzero(ended))
        infos = {"level_seed": self._levels.copy(), "final_obs": last}
        observations = self._images.frames[self._now]
        return observations, rewards, ended, np.zeros(self.num_envs, np.bool_), infos
