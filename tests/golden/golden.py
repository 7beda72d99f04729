"""Hashes of what two small suites give: its records, condensed sets, tables and site.

A change of the code that should change no result changes none of them. Floating point differs
between kinds of CPU and between versions of torch, so hashes hold where they were made.

    python tests/golden/golden.py write     # after a change that was meant
    python tests/golden/golden.py check     # exit code 1, and what differs

A folder may be named in which it is all computed; it must be empty, since what is there already
would not be computed again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlcondense.files import canonical_json

HERE = Path(__file__).parent
SUITES = (HERE / "golden.toml", HERE / "golden-frames.toml")
HASHES = HERE / "hashes.json"
# Where and when a record was made; the clock's figures; and what is taken of both.
CIRCUMSTANCES = ("environment", "key", "timings", "memory", "content_sha256")

Hashes = dict[str, dict[str, str]]


def compute(folder: Path) -> Hashes:
    """Run the suites into a folder and hash all that comes of it."""
    results, board, site = (folder / name for name in ("results", "board", "site"))
    for suite in SUITES:
        _rlcondense("sweep", suite, "--results", results)
    records = {path.stem: json.loads(path.read_text()) for path in _files(results / "records")}
    shutil.rmtree(board, ignore_errors=True)
    (board / "results").mkdir(parents=True)
    for cell_id, record in records.items():
        text = json.dumps(_timeless(record), indent=2, sort_keys=True)
        (board / "results" / f"{cell_id}.json").write_text(text + "\n")
    _rlcondense("leaderboard", "build", board, "--strict", "--site", site)
    return {
        "records": {
            cell_id: _sha256(canonical_json(_result(record)).encode())
            for cell_id, record in records.items()
        },
        "condensed": _hashes(results / "condensed", ".safetensors"),
        "tables": _hashes(board, ".md", ".csv", ".tex", ".html"),
        "site": _hashes(site, ".html", ".css", ".js", ".svg"),
    }


def circumstances() -> dict[str, Any]:
    """What hashes hold for."""
    from rlcondense.runtime.provenance import describe

    return {name: describe("cpu")[name] for name in ("cpu", "packages")}


def differences(expected: Hashes, computed: Hashes) -> list[str]:
    """What is missing, new or different, a line each."""
    lines = []
    for kind in expected.keys() | computed.keys():
        old, new = expected.get(kind, {}), computed.get(kind, {})
        lines += [f"{kind}: {name} is gone" for name in old.keys() - new.keys()]
        lines += [f"{kind}: {name} is new" for name in new.keys() - old.keys()]
        lines += [f"{kind}: {n} differs" for n in old.keys() & new.keys() if old[n] != new[n]]
    return sorted(lines)


def read() -> dict[str, Any]:
    """The hashes that are kept, and what they hold for."""
    kept: dict[str, Any] = json.loads(HASHES.read_text())
    return kept


def _result(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in CIRCUMSTANCES}


def _timeless(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as if all machines were one, and took a second for everything."""
    kept = dict(record)
    kept["timings"] = {
        name: dict.fromkeys(seconds, 1.0) for name, seconds in record["timings"].items()
    }
    kept["memory"] = dict.fromkeys(record["memory"], 2**20)
    kept["environment"] = {
        **record["environment"], "git": None, "cpu": "a CPU", "packages": {}, "python": "3",
    }  # fmt: skip
    kept["key"] = {**record["key"], "source_sha256": "0" * 64}
    costs = ("timings", "memory", "content_sha256")
    content = {name: value for name, value in kept.items() if name not in costs}
    return {**kept, "content_sha256": _whole_sha256(canonical_json(content).encode())}


def _rlcondense(*arguments: str | Path) -> None:
    script = Path(sys.executable).with_name("rlcondense")
    subprocess.run(
        [sys.executable, script, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _hashes(folder: Path, *endings: str) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): _sha256(path.read_bytes())
        for path in _files(folder)
        if path.name.endswith(endings)
    }


def _sha256(content: bytes) -> str:
    return _whole_sha256(content)[:16]


def _whole_sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    """Write the hashes, or compare with them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=["write", "check"])
    parser.add_argument("folder", nargs="?", type=Path)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp())
    if folder.is_dir() and any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    computed = compute(folder)
    if given.action == "write":
        kept = {"made_on": circumstances(), "hashes": computed}
        HASHES.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
        return
    kept = read()
    lines = differences(kept["hashes"], computed)
    print(*lines, f"{len(lines)} differences (in {folder})", sep="\n")
    if lines and kept["made_on"] != circumstances():
        print(f"the hashes hold for {kept['made_on']}, here are {circumstances()}")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
