"""What is done to a sound file: to a value in it, to its arrays, or to its bytes."""

from __future__ import annotations

import contextlib
import copy
import json
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st
from safetensors.numpy import save

Json = Any


def _nested(depth: int) -> Json:
    value: Json = 0
    for _ in range(depth):
        value = [value]
    return value


_edges = st.sampled_from(
    [
        0, -1, 1, 2, 255, 256, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 10**400,
        0.0, -0.0, 0.5, 1e-320, 1e30, 1e308, -1e308, float("nan"), float("inf"), float("-inf"),
        True, False, None, "", " ", "0", "done", "failed", "seen", "soft", "expert", "bc", "random",
        "\ud800", "\x00", "a\x1b]0;title\x07", "::error::a command of CI", "a\nb", "<script>", "|",
        "../../up", "/", ".", "-", "é" * 300, "x" * 100_000, [], {}, [[]], [{}], [None], {"": None},
        _nested(150),
    ]
)  # fmt: skip
values: st.SearchStrategy[Json] = st.one_of(
    _edges,
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=3)),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=6,
    ),
).map(copy.deepcopy)  # what is drawn is changed further


def places(value: Json, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values within a value; of long lists those of a few."""
    found = [path]
    if isinstance(value, dict):
        for key, part in value.items():
            found += places(part, (*path, key))
    elif isinstance(value, list):
        for index in range(min(3, len(value))):
            found += places(value[index], (*path, index))
    return found


@st.composite
def mutated(draw: st.DrawFn, sound: Json, most: int = 3) -> Json:
    """A value that was sound, with up to `most` changes somewhere within it."""
    changed = copy.deepcopy(sound)
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(places(changed)))
        if not path:
            return draw(values)
        owner = changed
        for key in path[:-1]:
            owner = owner[key]
        key = path[-1]
        what = draw(st.sampled_from(["replace", "replace", "replace", "drop", "add", "swap"]))
        if what == "drop":
            del owner[key]
        elif what == "replace":
            owner[key] = draw(values)
        elif what == "swap":  # for a sound value from somewhere else
            other = sound
            for part in draw(st.sampled_from(places(sound))):
                other = other[part]
            owner[key] = copy.deepcopy(other)
        elif isinstance(owner, dict):
            owner[draw(st.text(max_size=8))] = draw(values)
        else:
            owner.insert(key, draw(values))
    return changed


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """Bytes that were sound, cut, with others among them or with some of them changed."""
    content = bytearray(sound)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        what = draw(st.sampled_from(["cut", "insert", "change", "repeat"]))
        if what == "cut":
            del content[at : at + draw(st.integers(1, 2 * len(sound)))]
        elif what == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=8) | st.just(b"[" * 100_000))
        elif what == "repeat":
            content[at:at] = content[at : at + draw(st.integers(1, 64))]
        else:
            some = draw(st.binary(min_size=1, max_size=4))
            content[at : at + len(some)] = some
    return bytes(content)


@st.composite
def flipped(draw: st.DrawFn, sound: bytes) -> bytes:
    """Bytes of the same number that were sound, a few of which are others.

    Most of what is drawn is where the file says something: HDF5 leaves much of its pages empty.
    """
    content = bytearray(sound)
    said = [at for at, byte in enumerate(sound) if byte]
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.sampled_from(said) | st.integers(0, len(content) - 1))
        size = draw(st.sampled_from([1, 1, 1, 4, 8]))
        edge = draw(
            st.sampled_from([0, 1, 255, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, at, len(sound)])
            | st.integers(0, 2**64 - 1)
        )
        content[at : at + size] = (edge % 256**size).to_bytes(size, "little")
    return bytes(content[: len(sound)])


_hdf5_dtypes = st.sampled_from(
    ["u1", "i8", "f2", "f8", ">f4", "?", "S3", "V8", [("a", "f4"), ("b", "i8")], "c8",
     h5py.string_dtype(), h5py.vlen_dtype(np.uint8), h5py.ref_dtype]
)  # fmt: skip


@st.composite
def hdf5_changes(draw: st.DrawFn, path: Path) -> None:
    """Change a sound HDF5 file: its attributes, its groups, or a dataset's type, shape or place."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(draw(st.integers(1, 3))):
            name = draw(st.sampled_from(names))
            what = draw(st.sampled_from(["attribute", "replace", "drop", "link", "copy", "value"]))
            with contextlib.suppress(Exception):  # what HDF5 does not write cannot be sent
                _change_item(draw, file, name, what, draw(st.sampled_from(names)))


def _change_item(draw: st.DrawFn, file: h5py.File, name: str, what: str, other: str) -> None:
    item = file[name]
    if what == "attribute":
        key = draw(st.sampled_from(["seed", "id", "total_steps", "options/a", "options"]))
        item.attrs[key] = draw(_edges | st.just([1, 2]))
    elif what == "value":
        if item.dtype.kind in "iufb":  # of others, h5py itself crashes as it writes
            item[...] = draw(_fills)
    else:
        shape = getattr(item, "shape", (10,))
        del file[name]
        if what == "replace":
            shape = draw(st.sampled_from([shape, shape[:1], (*shape, 2), (), (0,), (2**40,)]))
            chunks = draw(st.sampled_from([None, True])) if shape else None
            file.create_dataset(name, shape, draw(_hdf5_dtypes), chunks=chunks)
        elif what == "link":
            links = [h5py.SoftLink(f"/{other}"), h5py.ExternalLink("x", "/"), file.get(other)]
            file[name] = draw(st.sampled_from(links))
        elif what == "copy":
            file.copy(other, name)


_dtypes = st.sampled_from(["u1", "i1", "i4", "i8", "u8", "f2", "f4", "f8", "?"])
_fills = st.sampled_from(
    [0, 1, 2, 15, 200, -1, 0.5, 1e30, float("nan"), float("inf"), 2**62, 2**63 - 1]
)


@st.composite
def changed_arrays(draw: st.DrawFn, sound: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays that were sound, with others in the place of some."""
    arrays = dict(sound)
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(sorted(arrays)))
        what = draw(st.sampled_from(["replace", "drop", "element", "rename", "cast"]))
        array = arrays[name]
        if what == "replace":
            shape = draw(
                st.sampled_from([array.shape, array.shape[:1], array.shape[1:], (0,), (1,), ()])
                | st.lists(st.integers(0, 4), max_size=4).map(tuple)
            )
            with np.errstate(all="ignore"):
                arrays[name] = np.full(shape, draw(_fills)).astype(draw(_dtypes))
        elif what == "drop":
            del arrays[name]
        elif what == "rename":
            arrays[draw(st.sampled_from([*sound, "", "level_seeds", "action_probs", "x"]))] = array
            arrays.pop(name, None)
        elif what == "cast":
            with np.errstate(all="ignore"):
                arrays[name] = array.astype(draw(_dtypes))
        elif array.size:
            arrays[name] = array.copy()
            with np.errstate(all="ignore"):
                fill = np.asarray(draw(_fills)).astype(array.dtype)
            arrays[name].reshape(-1)[draw(st.integers(0, array.size - 1))] = fill
        if not arrays:
            break
    return arrays


@st.composite
def mutated_arrays(draw: st.DrawFn, sound: dict[str, np.ndarray]) -> bytes:
    """Safetensors of arrays that were sound, with others in the place of some, or in a bad file."""
    arrays = draw(changed_arrays(sound))
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    if draw(st.integers(0, 3)):
        return content
    if draw(st.booleans()):
        return draw(damaged(content))
    length = struct.unpack("<Q", content[:8])[0]
    header = json.dumps(draw(mutated(json.loads(content[8 : 8 + length])))).encode()
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def toml(table: Json) -> str:
    """A value as the lines of a TOML file, as far as TOML has such values."""
    if not isinstance(table, dict):
        return f"x = {_toml_value(table)}\n"
    return "".join(f"{json.dumps(str(k))} = {_toml_value(v)}\n" for k, v in table.items())


def _toml_value(value: Json) -> str:
    if isinstance(value, dict):
        pairs = [f"{json.dumps(str(k))} = {_toml_value(v)}" for k, v in value.items()]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    text = json.dumps(value)
    return {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}.get(text, text)
