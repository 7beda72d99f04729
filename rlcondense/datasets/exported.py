"""Condensed sets in the folders that `rlcondense export` writes: npz, HDF5 and parquet."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from rlcondense.datasets.flat import NAMES, UNREADABLE
from rlcondense.datasets.report import ARRAYS, REPORT
from rlcondense.errors import CorruptArtifact
from rlcondense.files import MOST_ARRAY_BYTES, check_regular, read_arrays, read_json
from rlcondense.types import Array

DATA = "data"  # of the file or folder in an exported folder, without its suffix
OTHER_ARRAYS = "arrays.safetensors"  # beside parquet: arrays that have not one value a row
PARQUET = f"{DATA}/train-00000-of-00001.parquet"  # as the Hub names the files of a split
_MOST_ITEM_BYTES = 8  # of a number


def is_condensed(folder: str | Path) -> bool:
    """Return whether a path is the folder of a condensed set, saved or exported."""
    folder = Path(folder)
    return (folder / ARRAYS).is_file() or is_exported(folder)


def is_exported(folder: Path) -> bool:
    """Return whether a path is the folder of an exported condensed set."""
    if not any((folder / name).is_file() for name in _READERS):
        return False
    try:
        report = read_json(folder / REPORT)
    except CorruptArtifact:
        return False
    return isinstance(report, dict) and "label_kind" in report


def exported_arrays(folder: Path) -> dict[str, Array]:
    """Read the arrays of an exported condensed set, by our names.

    Raises:
        CorruptArtifact: they cannot be read, or are no numbers.
        MissingExtra: the format's library is not installed.
    """
    path = next(path for name in _READERS if (path := folder / name).is_file())
    check_regular(path)
    try:
        arrays = _READERS[str(path.relative_to(folder))](path)
    except UNREADABLE as error:
        raise CorruptArtifact(f"{path} cannot be read: {error}") from error
    if (folder / OTHER_ARRAYS).is_file():
        arrays |= read_arrays(folder / OTHER_ARRAYS)
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # what numpy returns of a member that is no array
            raise CorruptArtifact(f"{path}: {name} is no array")
        is_number = array.dtype.kind in "biuf" and array.dtype.itemsize <= _MOST_ITEM_BYTES
        if not (is_number and array.dtype.isnative):
            raise CorruptArtifact(f"{path}: {name} holds {array.dtype}, no numbers")
    ours = {theirs[0]: name for name, theirs in NAMES.items()}
    return {ours.get(name, name): array for name, array in arrays.items()}


def _read_npz(path: Path) -> dict[str, Array]:
    with zipfile.ZipFile(path) as archive:
        if sum(info.file_size for info in archive.infolist()) > MOST_ARRAY_BYTES:
            raise CorruptArtifact(f"{path} announces more than {MOST_ARRAY_BYTES:,} bytes")
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _read_hdf5(path: Path) -> dict[str, Array]:
    import h5py

    from rlcondense.datasets import hdf5

    hdf5.check_flat(path)
    with h5py.File(path, "r") as file:
        if groups := [name for name, item in file.items() if not isinstance(item, h5py.Dataset)]:
            raise CorruptArtifact(f"{path}: {groups[0]} is no array")
        return {name: np.asarray(item[...]) for name, item in file.items()}


def _read_parquet(path: Path) -> dict[str, Array]:
    from rlcondense.datasets.parquet import PREVIEW, open_parquet

    columns, _ = open_parquet(path, lambda names: [name for name in names if name != PREVIEW])
    announced = sum(math.prod(c.shape) * c.dtype.itemsize for c in columns.values())
    if announced > MOST_ARRAY_BYTES:
        raise CorruptArtifact(f"{path} announces more than {MOST_ARRAY_BYTES:,} bytes")
    return {name: column.take(column.shape[0]) for name, column in columns.items()}


_READERS: Mapping[str, Callable[[Path], dict[str, Array]]] = {
    f"{DATA}.npz": _read_npz,
    f"{DATA}.hdf5": _read_hdf5,
    PARQUET: _read_parquet,
}
