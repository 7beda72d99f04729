"""Files of anybody's are read strictly, and what is written stays inside its folder."""

from __future__ import annotations

import json
import os
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlcondense import files
from rlcondense.errors import BadConfig, CorruptArtifact, RLCondenseError
from rlcondense.files import (
    Busy,
    FileRefusal,
    lock,
    lock_owner,
    open_to_append,
    output_folder,
    parse_json,
    read_arrays,
    read_json,
    refuse_links,
    replace_file,
    write_arrays,
    write_bytes,
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": NaN}', "holds NaN"),
        (b'{"a": -Infinity}', "holds -Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 18446744073709551616}', "too large"),
        (b"[-" + b"9" * 400 + b"]", "too large"),
        (b"9" * 5000, "too large"),
        (b'{"a": 1, "a": 2}', "names 'a' twice"),
        (b'"\\ud800"', "half of a surrogate pair"),
        (b'{"\\uDFFF": 1}', "half of a surrogate pair"),
        (b'"\\udc00\\ud800"', "half of a surrogate pair"),
        (b'"\xff"', "is not in UTF-8"),
        (b"[" * 33 + b"]" * 33, "nested too deeply"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested too deeply"),
        (b"[" * 200_000, "nested too deeply"),
        (b"[" + b"[]," * 2**22 + b"[]]", "has more than 4,194,304 lists and objects"),
        (b"", "is not JSON"),
        (b'{"a": 1', "is not JSON"),
        (b"'a'", "is not JSON"),
    ],
)
def test_json_is_strict(content: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(FileRefusal, match=reason):
        parse_json(content)
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(CorruptArtifact, match=f"a.json .*{reason}") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1.5, -(2**63), 2**63 - 1, True, None, "\U0001f600 \\ud800 é"]},
        [[[]]] * 200,
        "[" * 1000,
        {"deep": [[[[[[1]]]]]], "many": list(range(1000))},
    ],
)
def test_what_json_can_say_is_read_as_it_stands(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


def test_only_plain_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    plain, pipe, link = (tmp_path / name for name in ("plain", "pipe", "link"))
    plain.write_text("[1]")
    os.mkfifo(pipe)
    link.symlink_to(plain)
    assert read_json(plain) == [1]
    for path, reason in (
        (pipe, "is no plain file"),
        (link, "is a symbolic link"),
        (tmp_path, "is no plain file"),
        (Path("/dev/zero"), "is no plain file"),
        (tmp_path / "nothing", "is missing"),
        (Path("a\0b"), "cannot be read"),
    ):
        for read in (read_json, read_arrays):
            with pytest.raises(CorruptArtifact, match=reason):
                read(path)
    with pytest.raises(CorruptArtifact, match="is too large: 3 bytes, at most 2"):
        read_json(plain, 2)


def safetensors(header: Any, size: int) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


def array(dtype: Any, size: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [2], "data_offsets": [0, size]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (safetensors({"a": array("BF16", 4)}, 4), "of type 'BF16'"),
        (safetensors({"a": array("F8_E4M3", 2)}, 2), "of type 'F8_E4M3'"),
        (safetensors({"a": array(5, 4)}, 4), "of type 5"),
        (safetensors({"a": 1}, 0), "of type None"),
        (safetensors([1], 0), "of type None"),
        (safetensors({"__metadata__": 5}, 0), "its metadata are no texts"),
        (safetensors({"__metadata__": {"a": 1}}, 0), "its metadata are no texts"),
        (safetensors(b"[" * 100_000, 0), "nested too deeply"),
        (safetensors(b'{"a": 1, "a": 2}', 0), "twice"),
        (safetensors({"a": array("F32", 4)}, 4), "not a readable safetensors file"),
        (safetensors({"a": array("F32", 8)}, 3), "not a readable safetensors file"),
        (struct.pack("<Q", 2**60), "its header is no header"),
        (b"abc", "its header is no header"),
        (b"", "its header is no header"),
    ],
)
def test_arrays_are_of_known_types(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(CorruptArtifact, match=reason) as caught:
        read_arrays(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["bool", "u1", "i1", "u2", "i4", "u8", "i8", "f2", "f4", "f8"])
def test_arrays_of_known_types_come_back(dtype: str, tmp_path: Path) -> None:
    arrays = {"a": np.arange(6).reshape(2, 3).astype(dtype)}
    write_arrays(tmp_path / "a.safetensors", arrays, {"said": "of it"})
    [read] = read_arrays(tmp_path / "a.safetensors").values()
    assert read.dtype == arrays["a"].dtype
    assert (read == arrays["a"]).all()


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_text("precious")
    return path


def test_a_lock_never_touches_what_is_not_its_own(precious: Path, tmp_path: Path) -> None:
    link, second = tmp_path / "a.lock", tmp_path / "b.lock"
    link.symlink_to(precious)
    second.hardlink_to(precious)
    for path in (link, second):
        with pytest.raises(RLCondenseError, match="cannot lock"), lock(path):
            pass
        assert precious.read_text() == "precious"
    os.mkfifo(tmp_path / "c.lock")
    assert lock_owner(tmp_path / "c.lock") is None
    with pytest.raises(RLCondenseError, match="cannot lock"), lock(tmp_path / "c.lock"):
        pass


def test_who_only_looks_at_a_lock_does_not_hold_it(tmp_path: Path) -> None:
    path, is_over = tmp_path / "a.lock", threading.Event()

    def look() -> None:
        while not is_over.is_set():
            lock_owner(path)

    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(200):
            with lock(path, wait=False):
                pass
    finally:
        is_over.set()
        for thread in looking:
            thread.join()
    with lock(path, wait=False), pytest.raises(Busy) as busy, lock(path, wait=False):
        pass
    assert busy.value.owner["pid"] == os.getpid()


def test_writing_replaces_a_link_and_leaves_what_it_leads_to(
    precious: Path, tmp_path: Path
) -> None:
    for number, write in enumerate((write_bytes, replace_file)):
        for kind in (Path.symlink_to, Path.hardlink_to):
            path = tmp_path / f"{number}{kind.__name__}"
            kind(path, precious)
            write(path, b"new")
            assert (path.read_text(), path.is_symlink()) == ("new", False)
            assert precious.read_text() == "precious"
            path.unlink()
            kind(path, precious)
            with pytest.raises(OSError, match=r"symbolic link|no plain file|[Tt]oo many"):
                open_to_append(path)


def test_nobody_can_tell_the_name_of_a_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    monkeypatch.setattr(Path, "replace", lambda self, other: names.append(self.name))
    for _ in range(2):
        write_bytes(tmp_path / "a", b"")
    assert len(set(names)) == 2
    monkeypatch.setattr(files.secrets, "token_hex", lambda size: "guessed")
    (tmp_path / ".a.guessed.tmp").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RLCondenseError, match="cannot write"):
        write_bytes(tmp_path / "a", b"")
    assert not (tmp_path / "elsewhere").exists()


def test_a_path_through_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    refuse_links(tmp_path, tmp_path / "real" / "inner" / "new" / "file")
    refuse_links(tmp_path / "link", tmp_path / "link" / "inner")  # named by the user
    with pytest.raises(RLCondenseError, match="link is a symbolic link"):
        refuse_links(tmp_path, tmp_path / "link" / "inner")


@pytest.mark.parametrize("path", ["", ".", "/", "..", "a/.."])
def test_a_folder_to_write_has_a_name(path: str) -> None:
    with pytest.raises(BadConfig, match="--out must name a folder"):
        output_folder(Path(path))
    with pytest.raises(RLCondenseError, match=r"it names no file|cannot write"):
        write_bytes(Path(path), b"")
