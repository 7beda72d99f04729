"""Pictures of condensed sets: frames before, after and their difference, and the actions."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense import catalogue
from rlcondense.datasets.condensed import CondensedDataset, load_condensed
from rlcondense.datasets.hub import is_on_hub
from rlcondense.datasets.minari import is_local
from rlcondense.datasets.transitions import Columns, TransitionDataset
from rlcondense.errors import BadConfig, RLCondenseError
from rlcondense.files import FileRefusal, read_bounded, read_strictly, write_bytes, write_json
from rlcondense.make import load_dataset
from rlcondense.text import unquoted
from rlcondense.types import Array

# Frames in a line: of a selection that has no more, and of others, whose pictures take more bytes.
SHOWN, FEWER = 15, 8
MOST_ENLARGED = 16
MOST_AMPLIFIED = 128
MOST_COLOURS = 256  # of a leaderboard's pictures, which take a third of the bytes so
MOST_ACTIONS = 1000  # most actions whose shares are stored
MOST_BYTES = 2 * 2**20
MOST_VALUES = 2**22  # of a frame as it is drawn
LEAST_SIDE = 60  # pixels; smaller frames are enlarged, with space between them
BETWEEN = 90  # the grey level of that space
# For planes that are not colours: far apart from each other, and from black.
COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255), "red": (230, 50, 50), "cyan": (60, 220, 230),
    "yellow": (250, 220, 40), "green": (60, 180, 75), "blue": (60, 100, 240),
    "orange": (245, 130, 48), "magenta": (240, 50, 230), "brown": (150, 95, 40),
    "grey": (140, 140, 140),
}  # fmt: skip
EPISODES_IN_TURN = 5  # of each policy of shipped data of mixed quality
LATER = {"steps", "returns", "levels", "tiers"}  # which pictures drawn earlier lack
PNG = b"\x89PNG\r\n\x1a\n"  # which a picture begins with
NAME = re.compile(r"([0-9a-f]{16})\.(png|json)")


@dataclass(frozen=True)
class Picture:
    """The facts about the picture of a condensed dataset.

    Attributes:
        kind: `synthetic`, or `selection`.
        rows: the rows of the condensed dataset whose frames are shown.
        size: number of rows of the condensed dataset.
        label_kind: `hard`, `soft` or `continuous`.
        actions: each action's share of the labels; None for continuous ones.
        dataset_actions: each action's share of the source's labels, if the source is available.
        amplified: the factor by which the drawn difference is enlarged.
        steps: of a selection, the share of its rows in each tenth of their episodes' lengths.
        returns: likewise in each tenth of the source's rows by their episodes' return, upwards.
        levels: how many levels the selection's rows are of, and the source's; None if unknown.
        tiers: by who played, the share of the selection's rows and of the source's; None if one
            policy played all.
    """

    kind: str
    rows: tuple[int, ...]
    size: int
    label_kind: str
    actions: tuple[float, ...] | None
    dataset_actions: tuple[float, ...] | None
    amplified: int = 1
    steps: tuple[float, ...] | None = None
    returns: tuple[float, ...] | None = None
    levels: tuple[int, int] | None = None
    tiers: Mapping[str, tuple[float, float]] | None = None


def write_picture(condensed: Path, out: Path) -> Path | None:
    """Draw the condensed dataset of a folder to `<out>.png` and `<out>.json`.

    If its source is available, the original frames stand above the condensed ones. The picture
    has the nearest of `MOST_COLOURS` colours.

    Args:
        condensed: the folder.
        out: path without its ending.

    Returns:
        The PNG, or None for observations that are not frames.

    Raises:
        CorruptArtifact: the folder holds no condensed dataset.
    """
    data = load_condensed(condensed)
    drawn = draw(data, _source(data))
    if drawn is None:
        return None
    sheet, picture = drawn
    path = out.with_name(f"{out.name}.png")
    write_bytes(path, _png(sheet, MOST_COLOURS))
    write_json(out.with_name(f"{out.name}.json"), asdict(picture))
    return path


def draw_enlarged(data: CondensedDataset, path: Path) -> tuple[int, ...]:
    """Draw some frames of a condensed dataset to a PNG.

    Returns:
        The rows that are shown.

    Raises:
        BadConfig: its observations are not frames.
    """
    drawn = draw(data, most=MOST_ENLARGED)
    if drawn is None:
        shape = data.observations.shape[1:]
        raise BadConfig(f"observations of {shape} are no frames, and cannot be drawn")
    sheet, picture = drawn
    write_bytes(path, _png(sheet))
    return picture.rows


def wrong_pictures(folder: Path, condensations: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the files among a leaderboard's pictures that are not pictures, and why.

    The content of the pictures is not checked.

    Args:
        folder: of the pictures; need not exist.
        condensations: ids of the condensations with records.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = NAME.fullmatch(path.name)
        if name is None:
            yield unquoted(path.name), "is no picture: it is not called <condensation id>.png"
        elif name[1] not in condensations:
            yield path.name, "is the picture of a condensation that no record is of"
        elif wrong := _not_as_drawn(path):
            yield path.name, wrong


def _not_as_drawn(path: Path) -> str:
    """Return why a file cannot be a picture written here, or an empty text."""
    try:
        if path.suffix == ".png":
            content = read_bounded(path, MOST_BYTES)
            return "" if content.startswith(PNG) else "is no PNG"
        values = read_strictly(path, MOST_BYTES)
    except FileRefusal as error:
        return str(error)
    names = {field.name for field in fields(Picture)}
    well = isinstance(values, dict) and names - LATER <= values.keys() <= names
    return "" if well else "does not tell of a picture"


def _source(data: CondensedDataset) -> TransitionDataset | None:
    """Return the dataset of a condensed set, if no network and no plugin is needed to read it."""
    if data.report is None or not _is_at_hand(data.report.dataset):
        return None
    try:
        dataset = load_dataset(str(data.report.dataset))
    except RLCondenseError:
        return None
    return dataset if dataset.sha256 == data.report.dataset_sha256 else None


def _is_at_hand(name: object) -> bool:
    """Return whether a name, which may be a stranger's, is that of shipped or of built data."""
    if not isinstance(name, str) or not catalogue.ID.fullmatch(name):
        return False
    entry = catalogue.entries("datasets").get(name)
    if entry is None:
        return is_local(name)
    if entry.entry_point == catalogue.FILE:  # which somebody named on this machine
        return not is_on_hub(str(entry.config.get("path", "")))
    return entry.is_built_in


def draw(
    data: CondensedDataset, source: TransitionDataset | None = None, most: int | None = None
) -> tuple[npt.NDArray[np.uint8], Picture] | None:
    """Draw a sheet of frames, and return it with the facts about it.

    Args:
        data: the condensed set.
        source: the dataset it was condensed from.
        most: frames in a line; by default `SHOWN` of a selection that has no more, else `FEWER`.

    Returns:
        `(height, width, 3)` and the picture; None for observations that are not frames. A selection
        has one line of frames; synthetic frames have three, if `source` and `initial_indices`
        exist: before, after, and grey plus the difference. Planes that are not colours are painted
        in `COLOURS`, and their difference on black.
    """
    if not _can_be_drawn(data.observations.shape):
        return None
    painted = data.observations.shape[1] not in (1, 3)
    if most is None:
        is_small = len(data) <= SHOWN and data.source_indices is not None
        most = SHOWN if is_small else FEWER
    rows = np.unique(np.linspace(0, len(data) - 1, most).round().astype(int))
    after = np.asarray(data.observations[rows], np.float64)
    lines, amplified = [after], 1
    if source is not None and not _is_from(data, source):
        source = None
    if source is not None and data.initial_indices is not None:
        start = np.asarray(source.observations[np.asarray(data.initial_indices)[rows]], np.float64)
        moved = after - start
        amplified = _amplification(float(np.abs(moved).max()))
        moved *= amplified
        lines = [start, after, np.abs(moved) if painted else 127.5 + moved]
    num_actions = max(_num_actions(part) for part in (data, source) if part is not None)
    picture = Picture(
        kind="selection" if data.source_indices is not None else "synthetic",
        rows=tuple(int(row) for row in rows),
        size=len(data),
        label_kind=data.label_kind,
        actions=_shares(data, data.label_kind, num_actions),
        dataset_actions=None if source is None else _shares(source, data.label_kind, num_actions),
        amplified=amplified,
        **_kept(data, source),
    )
    return _sheet([_paint(line) for line in lines] if painted else lines), picture


def draw_frames(frames: Array) -> bytes:
    """Draw a line of frames `(n, planes, height, width)` as a PNG; planes may be no colours."""
    line = np.asarray(frames, np.float64)
    return _png(_sheet([line if line.shape[1] in (1, 3) else _paint(line)]), MOST_COLOURS)


def legend(planes: Sequence[str]) -> str:
    """Return a line on the colour of each plane in a picture."""
    return ", ".join(
        f"{colour} {plane}" for colour, plane in zip(cycle(COLOURS), planes, strict=False)
    )


def _paint(frames: Array) -> Array:
    """Paint frames `(n, planes, height, width)` in RGB: each pixel in its brightest plane's colour.

    Among equally bright planes the last one counts.
    """
    colours = np.array(list(islice(cycle(COLOURS.values()), frames.shape[1])))
    brightest = frames.shape[1] - 1 - frames[:, ::-1].argmax(1)
    light = frames.max(1, keepdims=True) / 255
    return np.asarray(colours[brightest].transpose(0, 3, 1, 2) * light)


def _is_from(data: CondensedDataset, source: TransitionDataset) -> bool:
    """Return whether the source has the rows that a condensed dataset names."""
    named = [rows for rows in (data.source_indices, data.initial_indices) if rows is not None]
    same_frames = source.observations.shape[1:] == data.observations.shape[1:]
    return same_frames and all(int(rows.max()) < len(source) for rows in named)


def _amplification(largest: float) -> int:
    """Return the largest power of two that keeps the difference within a pixel's range."""
    if largest <= 0:
        return 1
    return int(2 ** np.clip(np.floor(np.log2(127.5 / largest)), 0, np.log2(MOST_AMPLIFIED)))


def _kept(data: CondensedDataset, source: TransitionDataset | None) -> dict[str, Any]:
    """Compute where in the source the rows of a selection come from."""
    if source is None or data.source_indices is None:
        return {}
    if source.rewards is None or source.steps is None:
        return {}
    rows = np.asarray(data.source_indices)
    lengths = np.array([len(episode) for episode in source.episodes])
    of_row = np.repeat(np.arange(len(lengths)), lengths)
    places = (np.arange(len(source)) - np.repeat(np.cumsum(lengths) - lengths, lengths)) / lengths[
        of_row
    ]
    returns = source.episode_returns()[of_row]
    ends = (np.searchsorted(np.sort(returns), returns, side) for side in ("left", "right"))
    ranks = np.add(*ends) / (2 * len(source))  # rows of equal returns have their middle
    levels = None
    if source.level_seeds is not None:
        seeds = np.asarray(source.level_seeds)
        levels = (len(np.unique(seeds[rows])), len(np.unique(seeds)))
    return {
        "steps": _tenths(places[rows]),
        "returns": _tenths(ranks[rows]),
        "levels": levels,
        "tiers": _tiers(source.id, of_row, rows),
    }


def _tiers(source: str, of_row: Array, rows: Array) -> dict[str, tuple[float, float]] | None:
    """Compute by who played which share of the rows is kept, and which the source has.

    Args:
        source: id of the dataset.
        of_row: the episode of each of its rows.
        rows: those that are kept.
    """
    entry = catalogue.entries("datasets").get(source)
    names = () if entry is None else entry.facts.get("tiers", ())
    if not names:
        return None
    tier = of_row // EPISODES_IN_TURN % len(names)
    of_kept, of_all = (np.bincount(t, minlength=len(names)) / len(t) for t in (tier[rows], tier))
    shares = zip(of_kept.tolist(), of_all.tolist(), strict=True)
    return {
        name: (round(kept, 6), round(whole, 6))
        for name, (kept, whole) in zip(names, shares, strict=True)
    }


def _tenths(values: Array) -> tuple[float, ...]:
    """Compute the share of values from 0 to 1 in each tenth."""
    counts = np.bincount(np.minimum((values * 10).astype(int), 9), minlength=10)
    return tuple(round(float(count) / len(values), 6) for count in counts)


def _num_actions(data: Columns) -> int:
    """Return the number of discrete actions that the data contain."""
    if data.actions.ndim > 1 or data.actions.dtype.kind not in "iu" or data.actions.min() < 0:
        return 0
    number = int(data.actions.max()) + 1
    if data.action_probs is not None and data.action_probs.ndim == 2:
        number = max(number, data.action_probs.shape[1])
    return number if number <= MOST_ACTIONS else 0


def _shares(data: Columns, label_kind: str, num_actions: int) -> tuple[float, ...] | None:
    """Compute each action's share of the labels."""
    if not num_actions:
        return None
    if label_kind == "soft" and data.action_probs is not None:
        shares = data.action_probs.mean(0)
    else:
        shares = np.bincount(data.actions, minlength=num_actions) / len(data)
    return tuple(round(float(share), 6) for share in shares)


def _can_be_drawn(shape: tuple[int, ...]) -> bool:
    """Return whether observations are frames `(N, planes, H, W)` that are not huge on a sheet."""
    values = math.prod(shape[1:])
    return len(shape) == 4 and values > 0 and values * _enlargement(shape) ** 2 <= MOST_VALUES


def _enlargement(shape: tuple[int, ...]) -> int:
    """Return how many pixels wide and high a pixel of frames `(N, planes, H, W)` is drawn."""
    return -(-LEAST_SIDE // min(shape[2:]))


def _sheet(lines: list[Array]) -> npt.NDArray[np.uint8]:
    """Join lines of `(n, channels, height, width)` frames into one `(height, width, 3)` picture."""
    times = _enlargement(lines[0].shape)
    large = [line.repeat(times, 2).repeat(times, 3) for line in lines]
    edge = ((0, 0), (0, 0), *[((times - 1) // 2,) * 2] * 2)
    large = [np.pad(line, edge, constant_values=BETWEEN) for line in large]
    drawn = [np.concatenate(list(line.transpose(0, 2, 3, 1)), 1) for line in large]
    pixels = np.concatenate(drawn, 0).round().clip(0, 255).astype(np.uint8)
    return np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels


def _png(pixels: npt.NDArray[np.uint8], colours: int | None = None) -> bytes:
    """Return pixels as a PNG, of their own colours or of a number of colours near them."""
    from PIL import Image

    image = Image.fromarray(pixels)
    if colours is not None:
        image = image.quantize(colours, dither=Image.Dither.NONE)
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return content.getvalue()
