"""A leaderboard as one archive: what is packed is verified, and what is hostile is refused."""

from __future__ import annotations

import gzip
import hashlib
import json
import stat
import subprocess
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rlcondense.cli import main
from rlcondense.submissions.add import add
from rlcondense.submissions.archive import SUMS, pack
from tests.reporting.boards import RANDOM, SHIPPED

Files = dict[str, bytes]


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["leaderboard", *map(str, arguments)])


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of a leaderboard with one record."""
    root = tmp_path_factory.mktemp("archive")
    assert add(SHIPPED / f"{RANDOM}.json.gz", root / "board").added == (RANDOM,)
    assert command("build", root / "board").exit_code == 0
    done = command("pack", root / "board", "--out", root / "board.zip")
    assert done.exit_code == 0, done.output
    return root / "board.zip"


def files_of(path: Path) -> Files:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def summed(files: Files) -> Files:
    sums = [f"{hashlib.sha256(files[n]).hexdigest()}  {n}\n" for n in files if n != SUMS]
    return {**files, SUMS: "".join(sums).encode()}


def repacked(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_an_archive_verifies_and_has_checksums_that_others_can_check(
    archive: Path, tmp_path: Path
) -> None:
    done = command("verify", archive)
    assert done.exit_code == 0, done.output
    names = files_of(archive).keys()
    assert {f"results/{RANDOM}.json", "index.json", "leaderboard.json", SUMS} <= names
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path)
    subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=tmp_path, check=True)
    assert pack(tmp_path, tmp_path.parent / "again.zip") == len(names)
    assert (tmp_path.parent / "again.zip").read_bytes() == archive.read_bytes()


def test_a_record_that_was_changed_is_found_with_its_checksum_and_without(
    archive: Path, tmp_path: Path
) -> None:
    files = files_of(archive)
    name = f"results/{RANDOM}.json"
    record = json.loads(files[name])
    record["returns"]["heldout"][0][0] += 1
    files[name] = json.dumps(record).encode()
    done = command("verify", repacked(tmp_path / "a.zip", files))
    assert done.exit_code == 2
    assert f"holds {name}, which differs from {SUMS}" in done.output
    done = command("verify", repacked(tmp_path / "b.zip", summed(files)))
    assert done.exit_code == 1
    assert f"{RANDOM}.json: " in done.output


def _link(archive: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo("README.md")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(entry, "/etc/passwd")


def _twice(archive: zipfile.ZipFile) -> None:
    archive.writestr("README.md", "one")
    archive.writestr("readme.md", "two")


def _without_records(archive: zipfile.ZipFile) -> None:
    for name, content in summed({"README.md": b"x"}).items():
        archive.writestr(name, content)


def _unlisted(archive: zipfile.ZipFile) -> None:
    archive.writestr("README.md", "x")
    archive.writestr(SUMS, f"{'0' * 64}  x\n")


NO_FILE, NO_SUMS = "which is no file of a leaderboard", f"{SUMS} is missing or malformed"
HOSTILE: dict[str, tuple[Callable[[zipfile.ZipFile], None], str]] = {
    "parent": (lambda a: a.writestr("../outside.json", "{}"), NO_FILE),
    "absolute": (lambda a: a.writestr("/outside.json", "{}"), NO_FILE),
    "deep": (lambda a: a.writestr("results/../../outside.json", "{}"), NO_FILE),
    "folder": (lambda a: a.writestr("results/", ""), NO_FILE),
    "other folder": (lambda a: a.writestr("bin/x", ""), NO_FILE),
    "hidden": (lambda a: a.writestr(".bashrc", ""), NO_FILE),
    "link": (_link, NO_FILE),
    "twice": (_twice, "two files of one name"),
    "packed otherwise": (
        lambda a: a.writestr("README.md", "x", zipfile.ZIP_BZIP2), "packed in another way"
    ),
    "without checksums": (lambda a: a.writestr("README.md", "x"), NO_SUMS),
    "unlisted": (_unlisted, f"holds README.md, which differs from {SUMS}"),
    "checksums of nothing": (lambda a: a.writestr(SUMS, ""), NO_SUMS),
    "no text": (lambda a: a.writestr(SUMS, b"\xff\xfe"), NO_SUMS),
    "without records": (_without_records, "it has no results/"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_in_one_line_and_leaves_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(inside))
    path = tmp_path / "hostile.zip"
    with zipfile.ZipFile(path, "w") as archive:
        HOSTILE[name][0](archive)
    done = command("verify", path)
    assert done.exit_code == 2, done.output
    assert HOSTILE[name][1] in done.output
    assert done.output.count("\n") == 1
    assert not list(inside.iterdir())
    assert {p.name for p in tmp_path.iterdir()} == {"inside", "hostile.zip"}


@pytest.mark.parametrize(
    "damage", ["cut", "flipped", "encrypted", "patched", "later", "larger than it says", "empty"]
)
def test_a_damaged_archive_is_refused_in_one_line(
    archive: Path, tmp_path: Path, damage: str
) -> None:
    content = bytearray(archive.read_bytes())
    central = content.index(b"PK\x01\x02")
    if damage == "cut":
        del content[len(content) // 2 :]
    if damage == "flipped":
        for place in range(200, central, 97):
            content[place] ^= 0x55
    if damage == "encrypted":
        content[central + 8] |= 1
    if damage == "patched":
        content[central + 8] |= 0x20
    if damage == "later":  # of a version of the format that is to come
        content[central + 6] = 99
    if damage == "larger than it says":
        content[central + 24 : central + 28] = (1).to_bytes(4, "little")
    if damage == "empty":
        content.clear()
    path = tmp_path / "damaged.zip"
    path.write_bytes(content)
    done = command("verify", path)
    assert done.exit_code == 2, done.output
    assert done.output.count("\n") == 1


def test_what_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlcondense.submissions.archive.MOST_FILE_BYTES", 1000)
    path = repacked(tmp_path / "a.zip", summed({"README.md": b"x" * 1001}))
    assert "README.md, which is too large" in command("verify", path).output
    monkeypatch.setattr("rlcondense.submissions.archive.MOST_BYTES", 1000)
    path = repacked(tmp_path / "b.zip", summed({"README.md": b"x" * 600, "index.json": b"y" * 600}))
    assert "more than 1,000 bytes unpacked" in command("verify", path).output
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.md", bytes(10**8))
    content = bytearray(bomb.read_bytes())
    for place in (content.find(b"PK\1\2") + 24, 22):  # announced: ten bytes
        content[place : place + 4] = (10).to_bytes(4, "little")
    bomb.write_bytes(content)
    tracemalloc.start()
    assert command("verify", bomb).exit_code == 2
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()
    packed = {f"results/{n}.json.gz": gzip.compress(b" " * 600, mtime=0) for n in "ab"}
    path = repacked(tmp_path / "c.zip", summed(packed))
    assert "its records unpack to more than 1,000 bytes" in command("verify", path).output
    monkeypatch.setattr("rlcondense.submissions.archive.MOST_FILE_BYTES", 10**6)
    monkeypatch.setattr("rlcondense.submissions.archive.MOST_BYTES", 2**25)
    packed = {f"results/{n}.json.gz": gzip.compress(b" " * (2**24 + 1), mtime=0) for n in "abc"}
    path = repacked(tmp_path / "d.zip", summed(packed))
    assert "its records unpack to more than 33,554,432 bytes" in command("verify", path).output
    whole = gzip.compress(b" " * 2**24, mtime=0)  # the most that a file may have
    packed = dict.fromkeys(packed, whole + b"x")  # and it is no gzip, when it is unpacked
    path = repacked(tmp_path / "e.zip", summed(packed))
    assert "its records unpack to more than 33,554,432 bytes" in command("verify", path).output
    monkeypatch.setattr("rlcondense.submissions.archive.MOST_FILES", 2)
    assert "too many files: 4" in command("verify", path).output


def test_what_is_no_leaderboard_is_not_packed(tmp_path: Path) -> None:
    done = command("pack", tmp_path, "--out", tmp_path / "x.zip")
    assert done.exit_code == 2
    assert "it has no index.json" in done.output
    (tmp_path / "index.json").write_text("{}")
    assert "ends in .zip" in command("pack", tmp_path, "--out", tmp_path / "x.tar").output
    (tmp_path / "README.md").symlink_to("/etc/passwd")
    done = command("pack", tmp_path, "--out", tmp_path / "x.zip")
    assert done.exit_code == 2
    assert "is a symbolic link" in done.output
