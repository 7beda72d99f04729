"""Rows in few bytes: frames of low resolution, values of a few bits, labels of a byte a number.

A budget in bytes holds more rows, the less each costs. What is stored are codes; learners train on
the rows that a reader of the codes sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Space

from rlcondense.datasets.traces import dequantise, quantise
from rlcondense.errors import BadConfig, CorruptArtifact
from rlcondense.limits import check_count
from rlcondense.types import Array

MOST_DECODED_BYTES = 2**31  # of observations, which a file of a few bytes can ask for

SEEN = ("observations", "actions", "action_probs", "targets")  # what codes stand for
AT_A_TIME = 2**18  # values whose bits are packed at a time, a multiple of eight


@dataclass(frozen=True)
class Coding:
    """Form of the stored observations.

    Frames are averaged to `resolution`, and shown by bilinear interpolation. Pixels are whole
    numbers of steps of 255 / (2^bits - 1) grey levels, and are shown as whole ones; a feature's
    steps divide its range in the set, whose ends are stored as float32.

    Attributes:
        bits: bits of a pixel or a feature.
        shape: shape of an observation.
        resolution: side of the stored square frames, None for the frames' own sides.
    """

    bits: int
    shape: tuple[int, ...]
    resolution: int | None = None

    def __post_init__(self) -> None:
        check_count("bits", self.bits)
        for side in self.shape:
            check_count("a side of an observation", side, bound="numbers of an observation")
        check_count("numbers of an observation", math.prod(self.shape))
        if self.resolution is not None:
            check_count("resolution", self.resolution)
        if self.resolution is not None and (
            not self.frames or self.resolution > min(self.shape[1:])
        ):
            raise BadConfig(f"resolution {self.resolution} is not for observations of {self.shape}")

    @property
    def frames(self) -> bool:
        """Return whether observations are frames."""
        return len(self.shape) == 3

    @property
    def stored(self) -> tuple[int, ...]:
        """Shape of a stored observation."""
        side = self.resolution
        return self.shape if side is None else (self.shape[0], side, side)

    @property
    def values(self) -> int:
        """Number of stored values of an observation."""
        return math.prod(self.stored)

    def size(self, rows: int, label_bytes: int) -> int:
        """Return the bytes of rows with labels of some bytes each."""
        ends = 0 if self.frames else 8 * self.values
        return -(-rows * self.values * self.bits // 8) + rows * label_bytes + ends

    def rows(self, most: int, label_bytes: int) -> int:
        """Return the number of rows that a number of bytes holds.

        Raises:
            BadConfig: it holds none, or more than are read.
        """
        free = most - self.size(0, label_bytes)
        rows = 8 * free // (self.values * self.bits + 8 * label_bytes) if free > 0 else 0
        if rows < 1:
            raise BadConfig(f"{most} bytes hold no row: one takes {self.size(1, label_bytes)}")
        if self.decoded_bytes(rows) > MOST_DECODED_BYTES:
            raise BadConfig(f"{most} bytes hold {self.too_many(rows)}")
        return rows

    def decoded_bytes(self, rows: int) -> int:
        """Return the bytes of the observations that a reader of rows sees."""
        return rows * math.prod(self.shape) * (1 if self.frames else 4)

    def too_many(self, rows: int) -> str:
        """Return what is said of rows that are not read, since they do not fit in memory."""
        return (
            f"{rows:,} rows, which take {self.decoded_bytes(rows):,} bytes when read: "
            f"at most {MOST_DECODED_BYTES:,} are"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the coding as plain values."""
        return {**asdict(self), "shape": list(self.shape)}


@dataclass(frozen=True)
class CodedRows:
    """Rows as they are stored.

    Attributes:
        coding: their form.
        arrays: `observations`, packed bits; `low` and `high` `(F,)`, the ends of features; and one
            of `actions` (hard labels, or vectors), `action_probs` in 255ths, and float32 `targets`.
    """

    coding: Coding
    arrays: Mapping[str, Array]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def columns(self) -> dict[str, Array]:
        """Return what a reader sees: `observations`, `actions`, and other labels.

        With distributions or targets, the action is the likeliest one.
        """
        columns = _shown_labels(self.arrays)
        return {"observations": self._observations(len(columns["actions"])), **columns}

    def _observations(self, rows: int) -> Array:
        self._check(rows)
        coding, top = self.coding, 2**self.coding.bits - 1
        codes = _unpacked(self.arrays["observations"], rows * coding.values, coding.bits)
        if not coding.frames:
            low, high = self.arrays["low"], self.arrays["high"]
            shares = codes.reshape(rows, -1).astype(np.float32) / np.float32(top)
            seen: Array = low + shares * (high - low)
            return seen.astype(np.float32).reshape(rows, *coding.shape)
        frames = np.empty((rows, *coding.shape), np.uint8)
        for part in _chunks(rows, math.prod(coding.shape)):
            pixels = codes.reshape(rows, *coding.stored)[part].astype(np.float32) * np.float32(
                255 / top
            )
            frames[part] = np.rint(_resized(pixels, coding.shape, _bilinear))
        return frames

    def _check(self, rows: int) -> None:
        """Refuse codes that are not those of the rows, and rows that do not fit in memory."""
        coding, codes = self.coding, self.arrays["observations"]
        if codes.dtype != np.uint8 or codes.shape != (-(-rows * coding.values * coding.bits // 8),):
            raise CorruptArtifact(f"codes of shape {codes.shape} are not those of {rows} rows")
        ends = () if coding.frames else (self.arrays["low"], self.arrays["high"])
        if any(end.shape != (coding.values,) for end in ends):
            raise CorruptArtifact("low and high are not one number a feature")
        if coding.decoded_bytes(rows) > MOST_DECODED_BYTES:
            raise CorruptArtifact(coding.too_many(rows))


def encode(columns: Mapping[str, Array], coding: Coding) -> CodedRows:
    """Code observations and labels; other columns are left out.

    Args:
        columns: `observations`, `actions`, and `action_probs` or `targets` if they are the labels.
        coding: form of the observations.
    """
    observations = columns["observations"]
    rows, top = len(observations), 2**coding.bits - 1
    arrays = {}
    codes = np.empty((rows, coding.values), np.uint16)
    if coding.frames:
        for part in _chunks(rows, math.prod(coding.shape)):
            frames = _resized(observations[part].astype(np.float32), coding.stored, _average)
            codes[part] = np.rint(frames.clip(0, 255) * (top / 255)).reshape(len(frames), -1)
    else:
        features = observations.reshape(rows, -1).astype(np.float32)
        arrays["low"], arrays["high"] = features.min(0), features.max(0)
        span = np.maximum(arrays["high"] - arrays["low"], np.finfo(np.float32).tiny)
        codes[:] = np.rint((features - arrays["low"]) / span * top)
    arrays["observations"] = _packed(codes.reshape(-1), coding.bits)
    return CodedRows(coding, {**arrays, **_coded_labels(columns)})


def label_bytes(form: str, space: Space[Any]) -> int:
    """Return the bytes of a label.

    Args:
        form: `hard`, `soft`, `targets` or `continuous`.
        space: of the actions.
    """
    if isinstance(space, Box):
        return 4 * math.prod(space.shape)
    actions = int(getattr(space, "n", 1))
    index = np.min_scalar_type(actions - 1).itemsize
    return {"hard": index, "soft": actions, "targets": 4 * actions}[form]


def _coded_labels(columns: Mapping[str, Array]) -> dict[str, Array]:
    if "targets" in columns:
        return {"targets": columns["targets"].astype(np.float32)}
    if "action_probs" in columns:
        return {"action_probs": quantise(columns["action_probs"])}
    actions = columns["actions"]
    if actions.dtype.kind == "f":
        return {"actions": actions}
    return {"actions": actions.astype(np.min_scalar_type(int(actions.max())))}


def _shown_labels(arrays: Mapping[str, Array]) -> dict[str, Array]:
    if "targets" in arrays:
        targets = arrays["targets"]
        odds = np.exp(targets - targets.max(1, keepdims=True))
        probs = (odds / odds.sum(1, keepdims=True)).astype(np.float32)
        return {"targets": targets, "action_probs": probs, "actions": targets.argmax(1)}
    if "action_probs" in arrays:
        probs = dequantise(arrays["action_probs"])
        return {"action_probs": probs, "actions": probs.argmax(1)}
    actions = arrays["actions"]
    return {"actions": actions if actions.dtype.kind == "f" else actions.astype(np.int64)}


def _chunks(rows: int, values: int) -> Iterator[slice]:
    step = max(1, AT_A_TIME // values)
    return (slice(at, min(at + step, rows)) for at in range(0, rows, step))


def _packed(codes: npt.NDArray[np.uint16], bits: int) -> npt.NDArray[np.uint8]:
    """Pack the lowest bits of codes, highest first."""
    if bits == 8:
        return codes.astype(np.uint8)
    return np.concatenate(
        [
            np.packbits(np.unpackbits(part.astype(">u2").view(np.uint8)).reshape(-1, 16)[:, -bits:])
            for part in np.split(codes, range(AT_A_TIME, len(codes), AT_A_TIME))
        ]
    )


def _unpacked(packed: npt.NDArray[np.uint8], count: int, bits: int) -> npt.NDArray[np.uint16]:
    if bits == 8:
        return packed[:count].astype(np.uint16)
    codes = np.empty(count, np.uint16)
    for at in range(0, count, AT_A_TIME):
        size = min(AT_A_TIME, count - at)
        part = np.unpackbits(packed[at * bits // 8 :][: -(-size * bits // 8)], count=size * bits)
        wide = np.zeros((size, 16), np.uint8)
        wide[:, -bits:] = part.reshape(size, bits)
        codes[at : at + size] = np.packbits(wide).view(">u2")
    return codes


def _resized(frames: Array, shape: tuple[int, ...], matrix: Any) -> Array:
    """Resize frames `(B, C, H, W)` to a shape `(C, h, w)` along both sides."""
    if frames.shape[1:] == shape:
        return frames
    high, wide = (matrix(old, new) for old, new in zip(frames.shape[2:], shape[1:], strict=True))
    return np.asarray(high @ frames @ wide.T)


def _average(old: int, new: int) -> npt.NDArray[np.float32]:
    """Return the matrix `(new, old)` of means of neighbouring pixels."""
    edges = np.arange(new + 1) * old / new
    pixels = np.arange(old)
    shares = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = shares.clip(0)
    return np.asarray(shares / shares.sum(1, keepdims=True), np.float32)


def _bilinear(old: int, new: int) -> npt.NDArray[np.float32]:
    """Return the matrix `(new, old)` of linear interpolation between the centres of pixels."""
    places = ((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
    return np.asarray((1 - np.abs(places[:, None] - np.arange(old))).clip(0), np.float32)
