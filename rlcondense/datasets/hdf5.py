"""Checks of an untrusted HDF5 file before its values are read.

Minari reads a whole episode at once. A small file may link to other files, declare more values
than fit in memory, or give Pillow a format that Pillow opens with an external program.
"""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rlcondense.errors import CorruptArtifact
from rlcondense.files import MOST_ARRAY_BYTES, check_regular
from rlcondense.text import shown

FILE = "main_data.hdf5"  # Minari's name for it
_JPEG = b"\xff\xd8\xff"
_MOST_DEFLATED = 1100  # largest compression ratio of deflate: 1032, and a margin
_SMALL = 2**20  # bytes below which the ratio is not checked
_AT_ONCE = 2**30  # bytes of variable-length values that may be read at once
_TOGETHER = 16 * 2**20  # the same of all that is read at once
_PATIENCE, _SLOWEST = 10.0, 2**20  # seconds for variable-length values, and bytes a second beyond

# Another process, of whose path the working directory, which may be the sender's, is no part.
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from rlcondense.datasets.hdf5 import main; main()"
)


def check_hdf5(path: Path, metadata: Mapping[str, Any], owner: str) -> None:
    """Refuse a file that links elsewhere, or does not hold what it or the metadata declare.

    Args:
        path: of the file.
        metadata: Minari's metadata of the dataset.
        owner: the dataset, for messages.

    Raises:
        CorruptArtifact: the file is refused.
    """
    with h5py.File(path, "r") as file:
        datasets = [i for i in _items(file, path.name, owner) if isinstance(i, h5py.Dataset)]
        for item in datasets:
            _check_size(item, owner)
        by_episode: dict[str, list[h5py.Dataset]] = {}
        for item in datasets:
            by_episode.setdefault(item.name.split("/")[1], []).append(item)
        for of_episode in by_episode.values():
            _check_sum(of_episode, owner)
        if lists := [item.name for item in datasets if _is_list(item, owner)]:
            _check_lists(path, lists, owner)
        episodes = metadata.get("total_episodes")
        if not isinstance(episodes, int) or episodes > len(file):
            raise CorruptArtifact(
                f"{owner} has {len(file)} episodes, {shown(episodes)} are announced"
            )
        steps = sum(len(file[f"episode_{number}/rewards"]) for number in range(episodes))
    if steps != metadata.get("total_steps"):
        announced = shown(metadata.get("total_steps"))
        raise CorruptArtifact(f"{owner} has {steps} steps, {announced} are announced")


def check_pictures(path: Path, shape: tuple[int, ...], owner: str) -> None:
    """Refuse observations that are no JPEG pictures of a shape `(H, W)` or `(H, W, C)`.

    Minari decodes those of an episode at once.

    Raises:
        CorruptArtifact: they are not.
    """
    from PIL import Image

    with h5py.File(path, "r") as file:
        for name in file:
            stored = file[name]["observations"]
            if (taken := len(stored) * math.prod(shape)) > MOST_ARRAY_BYTES:
                raise CorruptArtifact(
                    f"{owner}: pictures in {stored.name} take {taken:,} bytes, more than "
                    f"{MOST_ARRAY_BYTES:,}"
                )
            first = True
            for picture in _rows(stored, path.stat().st_size):
                content = np.asarray(picture, np.uint8).tobytes()
                if not content.startswith(_JPEG):
                    raise CorruptArtifact(
                        f"{owner}: {stored.name} holds data that are no JPEG picture"
                    )
                if first and Image.open(io.BytesIO(content)).size != shape[1::-1]:
                    raise CorruptArtifact(f"{owner}: pictures in {stored.name} are not {shape}")
                first = False


def has_action_probs(path: Path) -> bool:
    """Return whether a file's first episode has a column `action_probs`, without reading values."""
    check_regular(path)
    with h5py.File(path, "r") as file:
        group: Any = file
        for name in ("episode_0", "infos"):
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                return False
            group = group[name]
        return "action_probs" in group


def episode_seeds(path: Path, episodes: Iterable[int], owner: str) -> list[int | None]:
    """Return the seed with which each episode was reset, None where the file tells none.

    Of an episode's attributes, which Minari would read all, this one alone is read. A text is taken
    for none.

    Raises:
        CorruptArtifact: a seed is neither a whole number nor a text.
    """
    seeds: list[int | None] = []
    with h5py.File(path, "r") as file:
        for number in episodes:
            attributes = file[f"episode_{number}"].attrs
            if "seed" not in attributes:
                seeds.append(None)
                continue
            stored = attributes.get_id("seed")
            # Older versions of Minari wrote the word None; a text is not read, whatever it says.
            if stored.shape == () and h5py.check_string_dtype(stored.dtype) is not None:
                seeds.append(None)
                continue
            if stored.shape not in ((), (1,)) or stored.dtype.kind not in "iu":
                raise CorruptArtifact(f"{owner}: the seed of episode {number} is no whole number")
            seeds.append(int(np.asarray(attributes["seed"]).item()))
    return seeds


def check_flat(path: Path, *, in_blocks: bool = False) -> None:
    """Refuse a file of columns that links elsewhere or announces more than it stores.

    Args:
        path: of the file.
        in_blocks: whether columns are read block by block, so that memory does not limit them.

    Raises:
        CorruptArtifact: the file is refused.
    """
    owner = str(path)
    with h5py.File(path, "r") as file:
        datasets = [i for i in _items(file, path.name, owner) if isinstance(i, h5py.Dataset)]
        for item in datasets:
            _check_size(item, owner, in_blocks)
            if item.parent == file and item.dtype.hasobject:
                raise CorruptArtifact(f"{owner}: {item.name} holds no numbers")
        if not in_blocks:
            _check_sum(datasets, owner)


def _items(file: h5py.File, name: str, owner: str) -> Iterator[h5py.Group | h5py.Dataset]:
    """Return all groups and datasets of a file, each stored once and in the file itself."""
    groups, known = [file], set()
    while groups:
        group = groups.pop()
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise CorruptArtifact(
                    f"{owner}: {group.name.rstrip('/')}/{key} is a link, which may lead to "
                    "another file; Minari writes none"
                )
            item = group[key]
            if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                raise CorruptArtifact(
                    f"{owner}: the values of {item.name} lie in another file; Minari's lie "
                    f"in {name}"
                )
            address = h5py.h5o.get_info(item.id).addr
            if address in known:
                raise CorruptArtifact(f"{owner}: {item.name} occurs more than once")
            known.add(address)
            if isinstance(item, h5py.Group):
                groups.append(item)
            yield item


def _check_size(item: h5py.Dataset, owner: str, in_blocks: bool = False) -> None:
    """Refuse values that need more memory than their stored bytes can expand to."""
    if item.shape is None:
        return
    whole, chunk = (n * item.dtype.itemsize for n in (item.size, math.prod(item.chunks or ())))
    announced, stored = max(whole, chunk), item.id.get_storage_size()
    if announced > max(_SMALL, _MOST_DEFLATED * stored):
        raise CorruptArtifact(
            f"{owner}: {item.name} announces {announced:,} bytes, of which {stored:,} are stored"
        )
    if (chunk if in_blocks else announced) > MOST_ARRAY_BYTES:
        raise CorruptArtifact(
            f"{owner}: {item.name} takes {announced:,} bytes at once, more than "
            f"{MOST_ARRAY_BYTES:,}"
        )


def _check_sum(items: Sequence[h5py.Dataset], owner: str) -> None:
    """Refuse datasets that are read together and need more memory than they can expand to."""
    announced = sum(item.size * item.dtype.itemsize for item in items if item.shape is not None)
    stored = sum(item.id.get_storage_size() for item in items)
    if announced > max(_TOGETHER, _MOST_DEFLATED * stored):
        raise CorruptArtifact(
            f"{owner}: {len(items)} arrays announce {announced:,} bytes, of which {stored:,} are "
            "stored"
        )
    if announced > MOST_ARRAY_BYTES:
        raise CorruptArtifact(
            f"{owner}: {len(items)} arrays take {announced:,} bytes at once, more than "
            f"{MOST_ARRAY_BYTES:,}"
        )


def _is_list(item: h5py.Dataset, owner: str) -> bool:
    """Return whether values are strings or variable-length lists; refuse lists of lists."""
    if item.shape is None or not item.dtype.hasobject:
        return False
    is_text = h5py.check_string_dtype(item.dtype) is not None
    inner = None if is_text else h5py.check_vlen_dtype(item.dtype)
    if item.dtype.kind != "O" or item.ndim > 1 or (inner is not None and inner.hasobject):
        raise CorruptArtifact(f"{owner}: {item.name} holds lists of lists; Minari writes none")
    return is_text or inner is not None  # the rest are references


def _check_lists(path: Path, names: list[str], owner: str) -> None:
    """Refuse variable-length values that are unreadable or exceed the file's bytes in sum.

    A damaged heap, where HDF5 stores such values, can make it loop for ever while it holds Python's
    lock, so another process reads them first.
    """
    seconds = _PATIENCE + path.stat().st_size / _SLOWEST
    imports = json.dumps([place for place in sys.path if place])
    command = [sys.executable, "-P", "-c", _CHILD, imports, str(path.resolve())]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(names),
            check=False,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise CorruptArtifact(f"{owner}: reading {shown(names)} does not end") from None
    if done.returncode:
        raise CorruptArtifact(f"{owner}: {shown(names)} cannot be read")
    if large := json.loads(done.stdout):
        raise CorruptArtifact(f"{owner}: {', '.join(large)} holds more than the file has bytes")


def _large_lists(path: Path, names: list[str]) -> list[str]:
    """Return the datasets whose values together are larger than the file."""
    most, large = path.stat().st_size, []
    with h5py.File(path, "r") as file:
        for name in names:
            total = 0  # many values may share the same bytes
            for value in _rows(file[name], most):
                total += value.nbytes if isinstance(value, np.ndarray) else len(value)
                if total > most:
                    large.append(name)
                    break
    return large


def _rows(item: h5py.Dataset, file_bytes: int) -> Iterator[Any]:
    """Yield the values of a dataset in blocks of bounded size."""
    if item.ndim == 0:
        yield item[()]
        return
    at_once = max(1, _AT_ONCE // max(1, file_bytes))
    for start in range(0, len(item), at_once):
        yield from item[start : start + at_once]


def main() -> None:
    """Print which datasets of a file, both given by another process, are larger than it."""
    json.dump(_large_lists(Path(sys.argv[2]), json.loads(sys.stdin.read())), sys.stdout)
