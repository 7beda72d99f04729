"""Parquet files in the form of Hugging Face's datasets: frames are PNG pictures, vectors lists."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlcondense.datasets.summary import png
from rlcondense.datasets.writers import blocks
from rlcondense.errors import BadConfig, CorruptArtifact, MissingExtra
from rlcondense.files import FileRefusal, check_regular, read_bounded
from rlcondense.runtime.progress import Progress, silent
from rlcondense.text import shown
from rlcondense.types import Array

PREVIEW = "preview"  # column of pictures beside frames of floats
_SHAPES = b"rlcondense.shapes"  # of a schema's metadata: the shape of a row, by column
_FEATURES = b"huggingface"
_PICTURES = ("PNG", "JPEG")
_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
_JPEG = b"\xff\xd8"  # how its files begin
_BATCH = 256  # rows that are read at once
_MOST_VALUES = 2**20  # of one row
_AT_ONCE = 2**24  # values that are read at once
_FEW = 8  # rows of pictures that are read at once: a small file can have large ones
_MOST_PIXELS = 2**22  # of one picture
_MOST_PICTURE_BYTES = 2**25  # of its file


def require_pyarrow() -> None:
    """Raise `MissingExtra` if pyarrow is not installed, or needs another NumPy than ours."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingExtra("pyarrow, which reads and writes parquet,", "parquet") from error


def are_pictures(column: Array) -> bool:
    """Return whether a column holds frames `(N, C, H, W)` of one or three channels."""
    return column.ndim == 4 and column.shape[1] in (1, 3)


def write_parquet(path: Path, columns: Mapping[str, Array], progress: Progress = silent) -> None:
    """Write columns of N rows as one parquet file, frames of bytes as PNG.

    Frames of floats are written unchanged, and rounded as pictures to look at beside them.

    Raises:
        BadConfig: a column has rows without a value.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = dict(columns)
    for name, column in columns.items():
        if not math.prod(column.shape[1:]):  # of which Arrow ends the process
            raise BadConfig(f"{name} has rows without a value, which parquet does not hold")
    observations = columns["observations"]
    if are_pictures(observations) and observations.dtype != np.uint8:
        columns[PREVIEW] = observations
    pictures = {PREVIEW, *(n for n, c in columns.items() if are_pictures(c) and c.dtype == "u1")}
    kinds = {name: _kind(column, name in pictures) for name, column in columns.items()}
    shapes = {name: list(c.shape[1:]) for name, c in columns.items() if name != PREVIEW}
    features = {
        "info": {"features": {name: _feature(c, name in pictures) for name, c in columns.items()}}
    }
    metadata = {_SHAPES: json.dumps(shapes), _FEATURES: json.dumps(features)}
    schema = pa.schema(list(kinds.items()), metadata)
    largest = max(columns.values(), key=lambda column: column.nbytes)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in blocks(largest):
            parts = [
                _cells(np.ascontiguousarray(column[rows]), kinds[name], name in pictures)
                for name, column in columns.items()
            ]
            writer.write_table(pa.table(parts, schema))
            progress("write", rows.stop, len(largest))


def _kind(column: Array, is_picture: bool) -> Any:
    """Return the type of a column's cells."""
    import pyarrow as pa

    if is_picture:
        return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    kind = pa.from_numpy_dtype(column.dtype)
    return pa.list_(kind, math.prod(column.shape[1:])) if column.ndim > 1 else kind


def _feature(column: Array, is_picture: bool) -> dict[str, Any]:
    """Return a column's type as Hugging Face's datasets name it."""
    if is_picture:
        return {"_type": "Image"}
    value = {"dtype": str(column.dtype), "_type": "Value"}
    if column.ndim == 1:
        return value
    return {"feature": value, "length": math.prod(column.shape[1:]), "_type": "Sequence"}


def _cells(block: Array, kind: Any, is_picture: bool) -> Any:
    import pyarrow as pa

    if is_picture:
        return pa.array([{"bytes": png(frame), "path": None} for frame in block], kind)
    if block.ndim == 1:
        return pa.array(block)
    return pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), type=kind)


# Where a folder has its parquet files: of the Hub and of LeRobot, of the Hub's conversion, flat.
_PLACES = ("data/*.parquet", "data/*/*.parquet", "*.parquet", "*/*.parquet", "*/*/*.parquet")
_SPLIT = re.compile(r"(.+)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?")
_USUAL_SPLIT = re.compile(r"(train|test|validation|valid|val|dev)(?:[-_.]?[0-9]+)?")
_CHUNK = re.compile(r"chunk-\d+")  # of a LeRobot folder
TRAIN = "train"


def parquet_files(path: Path) -> list[Path]:
    """Return the parquet files of a path, in order: the file itself, or those of a folder.

    Numbers in their names are compared as numbers. Of a folder with several splits, whose files
    are named as the Hub names them, those of `train`.

    Raises:
        BadConfig: they are of several configurations or splits, and none or several are of `train`.
    """
    if not path.is_dir():
        return [path] if path.suffix == ".parquet" and path.is_file() else []
    files: list[Path] = next(filter(None, (list(path.glob(place)) for place in _PLACES)), [])
    files = [file for file in files if _split(file) == TRAIN] or files
    parts = {(_folder(file, path), _named_split(file)) for file in files}
    if len(parts) > 1:
        told = ", ".join(sorted(shown(" ".join(filter(None, part))) for part in parts)[:5])
        raise BadConfig(
            f"{path} has data of several configurations or splits ({told}): name the folder or "
            "file of one"
        )
    return sorted(files, key=lambda file: _in_order(str(file)))


def _in_order(text: str) -> list[tuple[int, str]]:
    """Return a key by which `file-2` comes before `file-10`."""
    parts = re.split(r"([0-9]+)", text)
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)]


def _folder(file: Path, root: Path) -> str:
    """Return the folder of a file below those that only share out its rows."""
    places = file.parent.relative_to(root).parts
    return "/".join(place for place in places if not _CHUNK.fullmatch(place))


def _named_split(file: Path) -> str:
    named = _SPLIT.fullmatch(file.stem) or _USUAL_SPLIT.fullmatch(file.stem)
    return named[1] if named else ""


def picture_files(folder: Path) -> list[Path]:
    """Return the files of a folder that cells may name as pictures, in order."""
    return sorted(f for f in folder.rglob("*") if _is_picture(f) and f.is_file())


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in _PICTURE_SUFFIXES


def _split(file: Path) -> str:
    """Return the split that a file's name, or else its folder's, says it is of."""
    return _named_split(file) or file.parent.name


class ParquetColumn:
    """A column of parquet files, read once from its first row to its last.

    Args:
        files: the files, in order.
        name: name of the column.
        root: folder in which pictures may lie that cells name by path; None for a file alone, which
            is known by its own bytes only.

    Raises:
        CorruptArtifact: its cells are neither numbers, nor lists of equal length, nor pictures.

    Attributes:
        shape: shape, rows first; pictures have their channels last unless the file states another.
        dtype: type of the first rows.
    """

    def __init__(self, files: list[Path], name: str, root: Path | None) -> None:
        import pyarrow.parquet as pq

        stored = json.loads((pq.read_schema(files[0]).metadata or {}).get(_SHAPES, b"{}"))
        row = stored.get(name) if isinstance(stored, dict) else None
        self._root = None if root is None else root.resolve()
        self._name, self._row = name, _row_shape(row)
        self._blocks = self._read(files)
        self._buffer = next(self._blocks, np.empty(0))
        rows = sum(pq.read_metadata(file).num_rows for file in files)
        self.shape: tuple[int, ...] = (rows, *self._buffer.shape[1:])
        self.dtype = self._buffer.dtype

    def take(self, rows: int) -> Array:
        """Return the next rows."""
        parts, missing = [], rows
        while missing > len(self._buffer):
            parts.append(self._buffer)
            missing -= len(self._buffer)
            block = next(self._blocks, None)
            if block is None or block.shape[1:] != self.shape[1:]:
                raise CorruptArtifact(f"column {self._name} ends early or has uneven rows")
            self._buffer = block
        parts.append(self._buffer[:missing])
        self._buffer = self._buffer[missing:]
        return np.concatenate(parts)

    def _read(self, files: list[Path]) -> Iterator[Array]:
        import pyarrow.parquet as pq

        try:
            for path in files:
                with pq.ParquetFile(path) as file:  # one at a time: a folder may have thousands
                    if self._name not in file.schema_arrow.names:
                        raise CorruptArtifact(f"{shown(path.name)} has no column {self._name}")
                    rows = self._rows_at_once(file)
                    for batch in file.iter_batches(rows, columns=[self._name]):
                        yield self._values(batch.column(0))
        except (OSError, ValueError) as error:  # those of Arrow and of Pillow are among them
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise CorruptArtifact(f"column {self._name} cannot be read: {reason}") from error

    def _rows_at_once(self, file: Any) -> int:
        """Return how many rows may be read at once; refuse rows of too many values."""
        import pyarrow as pa

        metadata, widest = file.metadata, 1
        for group in range(metadata.num_row_groups):
            part = metadata.row_group(group)
            rows = max(1, part.num_rows)
            for number in range(part.num_columns):
                chunk = part.column(number)
                place = chunk.path_in_schema  # a name may hold dots
                is_own = place == self._name or place.startswith(f"{self._name}.")
                if not is_own:
                    continue
                if chunk.num_values > _MOST_VALUES * rows:
                    raise CorruptArtifact(
                        f"column {self._name} has rows of more than {_MOST_VALUES:,} values"
                    )
                widest = max(widest, -(-chunk.num_values // rows))
        if pa.types.is_struct(file.schema_arrow.field(self._name).type):
            return _FEW
        return max(1, min(_BATCH, _AT_ONCE // widest))

    def _values(self, cells: Any) -> Array:
        """Return a batch of cells as an array, rows first."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if cells.null_count:
            raise CorruptArtifact(f"column {self._name} has empty cells")
        if pa.types.is_struct(cells.type):
            self._check_pictures(cells)
            frames = np.stack([self._picture(cell) for cell in cells.to_pylist()])
            moved = np.moveaxis(frames, -1, 1)
            return moved if moved.shape[1:] == self._row else frames
        rows, sides = len(cells), []
        kinds = pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list
        while any(is_kind(cells.type) for is_kind in kinds):
            lengths = pc.list_value_length(cells)
            sides.append(lengths[0].as_py() if len(lengths) else 0)
            if pc.any(pc.not_equal(lengths, sides[-1])).as_py():
                raise CorruptArtifact(f"column {self._name} has lists of unequal length")
            cells = cells.flatten()
            if cells.null_count:
                raise CorruptArtifact(f"column {self._name} has empty cells")
        if not (pa.types.is_primitive(cells.type) or pa.types.is_boolean(cells.type)):
            raise CorruptArtifact(f"column {self._name} holds {cells.type}, no numbers")
        values = np.asarray(cells.to_numpy(zero_copy_only=False))
        is_stored = self._row is not None and math.prod(self._row) == math.prod(sides)
        shape = (rows, *(self._row if is_stored and self._row is not None else sides))
        return values.reshape(shape)

    def _check_pictures(self, cells: Any) -> None:
        """Refuse pictures in cells whose files are larger than those in the folder may be."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if cells.type.get_field_index("bytes") < 0:
            return
        content = cells.field("bytes")
        if pa.types.is_null(content.type):
            return
        if not (pa.types.is_binary(content.type) or pa.types.is_large_binary(content.type)):
            raise CorruptArtifact(f"column {self._name} holds no pictures")
        if (pc.max(pc.binary_length(content)).as_py() or 0) > _MOST_PICTURE_BYTES:
            raise CorruptArtifact(
                f"column {self._name} has a picture of more than {_MOST_PICTURE_BYTES:,} bytes"
            )

    def _picture(self, cell: Mapping[str, Any]) -> Array:
        from PIL import Image

        content = cell.get("bytes")
        if not isinstance(content, bytes):
            content = self._file(cell.get("path"))
        try:
            with Image.open(io.BytesIO(content), formats=_PICTURES) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    raise CorruptArtifact(
                        f"column {self._name} has a picture of {picture.size} pixels"
                    )
                usual = picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
                pixels = np.asarray(usual)
        except (Image.DecompressionBombError, SyntaxError) as error:  # the latter: a broken PNG
            raise CorruptArtifact(f"column {self._name} has a bad picture: {error}") from error
        return pixels[..., None] if pixels.ndim == 2 else pixels

    def _file(self, name: Any) -> bytes:
        """Return the content of a picture's file, which lies in the folder of the data."""
        if self._root is None:
            raise CorruptArtifact(
                f"column {self._name} names pictures by their paths: name the folder of the data"
            )
        path = (self._root / str(name)).resolve()
        is_inside = path.is_relative_to(self._root) and _is_picture(path)
        if not isinstance(name, str) or not is_inside:
            raise CorruptArtifact(f"column {self._name} holds no pictures")
        try:
            return read_bounded(path, _MOST_PICTURE_BYTES)
        except FileRefusal as error:
            raise CorruptArtifact(f"column {self._name}: {shown(name)} {error}") from error


def _row_shape(stored: Any) -> tuple[int, ...] | None:
    """Return the shape of a row that a file states, if it is one."""
    is_shape = isinstance(stored, list) and all(type(side) is int and side >= 0 for side in stored)
    return tuple(stored) if is_shape else None


def holds_jpeg(path: Path, is_wanted: Callable[[str], bool]) -> bool:
    """Return whether a picture in the wanted columns is stored as JPEG, which is lossy."""
    require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for file in parquet_files(path):
            check_regular(file)
            with pq.ParquetFile(file) as opened:
                names = [
                    field.name
                    for field in opened.schema_arrow
                    if pa.types.is_struct(field.type) and is_wanted(field.name)
                ]
                for batch in opened.iter_batches(_FEW, columns=names) if names else ():
                    if any(_has_jpeg(column) for column in batch.columns):
                        return True
    except (OSError, ValueError):
        return False  # whoever reads the columns says what is wrong
    return False


def _has_jpeg(cells: Any) -> bool:
    """Return whether one of a column's pictures is a JPEG, by its bytes or else by its name."""
    import pyarrow as pa

    parts = {field.name: cells.field(field.name) for field in cells.type}
    for row in range(len(cells)):
        content = parts["bytes"][row] if "bytes" in parts else pa.scalar(None)
        if isinstance(content, pa.BinaryScalar) and content.is_valid:
            if content.as_buffer()[: len(_JPEG)].to_pybytes() == _JPEG:
                return True
        elif "path" in parts:
            name = parts["path"][row].as_py()
            if isinstance(name, str) and Path(name).suffix.lower() in (".jpg", ".jpeg"):
                return True
    return False


def open_parquet(
    path: Path, choose: Callable[[list[str]], list[str]]
) -> tuple[dict[str, ParquetColumn], list[str]]:
    """Open columns of a file or folder, and return the names of all columns too.

    Args:
        path: of the file or folder.
        choose: returns those of the names to open; a column reads its first rows when it is opened.
    """
    require_pyarrow()
    import pyarrow.parquet as pq

    files = parquet_files(path)
    for file in files:
        check_regular(file)
    names = pq.ParquetFile(files[0]).schema_arrow.names
    root = path if path.is_dir() else None
    return {name: ParquetColumn(files, name, root) for name in choose(names)}, names
