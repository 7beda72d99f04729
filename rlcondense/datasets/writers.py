"""Writers of columns: npz and HDF5 files of named columns, and folders of Minari.

Columns are written block by block, so that memory does not limit them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from rlcondense.datasets.flat import NAMES
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.files import room_beside
from rlcondense.runtime.progress import Progress, silent
from rlcondense.types import Array

BLOCK_BYTES = 2**22  # of one block of a column
DERIVED = ("episode_ids", "steps")  # columns that follow from where episodes end


def formats_name(name: str) -> str:
    """Return the name that formats have for one of our columns."""
    return NAMES[name][0] if name in NAMES else name


def blocks(column: Array) -> Iterator[slice]:
    """Yield slices of rows of a column `(N, ...)`, each of at most `BLOCK_BYTES` or one row."""
    row = max(1, column.nbytes // max(1, len(column)))
    step = max(1, BLOCK_BYTES // row)
    for start in range(0, len(column), step):
        yield slice(start, min(start + step, len(column)))


def write_npz(path: Path, columns: Mapping[str, Array], progress: Progress = silent) -> None:
    """Write columns as a compressed npz file, which `numpy.load` reads."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (name, column) in enumerate(columns.items()):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                header = {
                    "descr": np.lib.format.dtype_to_descr(column.dtype),  # type: ignore[no-untyped-call]
                    "fortran_order": False,
                    "shape": column.shape,
                }
                np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
                for rows in blocks(column):
                    file.write(np.ascontiguousarray(column[rows]).tobytes())
            progress("write", number + 1, len(columns))


def write_hdf5(path: Path, columns: Mapping[str, Array], progress: Progress = silent) -> None:
    """Write columns as an HDF5 file of one dataset each, as D4RL's files are."""
    import h5py

    claim = path.with_name(f".{path.name}.claim")
    with h5py.File(path, "w") as file, room_beside(claim) as make_room:
        for number, (name, column) in enumerate(columns.items()):
            item = file.create_dataset(
                name, column.shape, column.dtype, compression="gzip" if column.size else None
            )
            for rows in blocks(column):
                make_room(column[rows].nbytes)
                item[rows] = column[rows]
            progress("write", number + 1, len(columns))


def dataset_columns(data: TransitionDataset) -> tuple[dict[str, Array], list[str]]:
    """Return a dataset's columns by formats' names, and a line for each thing that they lose.

    In formats an episode ends once, at its last row, and has one level.
    """
    columns = {name: column for name, column in data.columns().items() if name not in DERIVED}
    last = np.zeros(len(data), bool)
    last[[rows.stop - 1 for rows in data.episodes]] = True
    terminations = last & data.column("terminations")
    truncations = last & ~terminations
    losses = []
    changed = (terminations != data.terminations) | (truncations != data.truncations)
    if changed.any():
        losses.append(
            f"{int(changed.sum())} rows have other ends of episodes than the data: in the format "
            "an episode ends at its last row only, as terminated or else as truncated"
        )
    if data.level_seeds is not None:
        firsts = np.array([data.level_seeds[rows.start] for rows in data.episodes])
        levels = np.repeat(firsts, [len(rows) for rows in data.episodes])
        if (changed := levels != data.level_seeds).any():
            losses.append(
                f"{int(changed.sum())} rows have another level seed than the data: in the format "
                "an episode has that of its first row"
            )
            columns["level_seeds"] = levels
    columns |= {"terminations": terminations, "truncations": truncations}
    return {formats_name(name): column for name, column in columns.items()}, losses
