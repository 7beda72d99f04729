"""Datasets on the Hugging Face Hub: `hf:OWNER/NAME` is fetched once, and exports are pushed there.

`HF_ENDPOINT` names another hub, `HF_TOKEN` (or `hf auth login`) says who asks, as for the Hub's own
tools.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlcondense.datasets.exported import DATA, OTHER_ARRAYS, PARQUET
from rlcondense.errors import BadConfig, MissingExtra, RLCondenseError
from rlcondense.files import lock, make_folder
from rlcondense.places import cache_root
from rlcondense.text import shown

PREFIX = "hf:"
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
# The Hub's own branches have a slash: conversions to parquet, and pull requests.
_REVISION = rf"refs/(?:convert|pr)/{_PART}|{_PART}"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(
    rf"hf:(?P<repository>{_PART}/{_PART})(?:@(?P<revision>{_REVISION}))?(?:/(?P<path>.+))?"
)
_NEWEST = "newest"  # folder of what has no revision
_MAIN = "main"  # the branch that is pushed to
_UNREAD = ["*.mp4", ".git*"]  # files that no reader reads
# The data of an export, in whatever format: what a new export does not write is removed.
_OURS = [
    f"{DATA}.npz", f"{DATA}.hdf5", f"{DATA}/main_data.hdf5", f"{DATA}/metadata.json", PARQUET,
    OTHER_ARRAYS,
]  # fmt: skip


@dataclass(frozen=True)
class HubName:
    """The parts of `hf:OWNER/NAME[@REVISION][/PATH]`.

    Attributes:
        repository: `OWNER/NAME`.
        revision: branch, tag or commit, such as `main` or `refs/convert/parquet`; empty for the
            newest.
        path: file or folder in the repository; empty for all of it.
    """

    repository: str
    revision: str = ""
    path: str = ""

    @property
    def folder(self) -> Path:
        """The folder of what is fetched, on this machine."""
        part = hashlib.sha256(self.path.encode()).hexdigest()[:12] if self.path else "all"
        revision = f".{_NEWEST}" if self.revision == _NEWEST else self.revision or _NEWEST
        hub = "hub"
        if endpoint := _endpoint():  # another hub may have the same names
            hub += f"-{hashlib.sha256(endpoint.encode()).hexdigest()[:12]}"
        return cache_root() / hub / self.repository / revision / part


def is_on_hub(source: str) -> bool:
    """Return whether the name of a dataset is one of the Hub."""
    return source.startswith(PREFIX)


def hub_name(source: str) -> HubName:
    """Split the name of a dataset of the Hub, or raise `BadConfig`."""
    parts = _NAME.fullmatch(source)
    if parts is None or ".." in source or "//" in source:
        raise BadConfig(f"{shown(source)} is not of the form hf:OWNER/NAME[@REVISION][/PATH]")
    return HubName(parts["repository"], parts["revision"] or "", parts["path"] or "")


def fetched(source: str) -> Path:
    """Return the path of a dataset of the Hub on this machine, which is fetched on first use.

    Videos are left out.

    Raises:
        BadConfig: the name is malformed.
        MissingExtra: huggingface_hub is not installed.
        RLCondenseError: the Hub is unreachable, or has no such dataset.
    """
    name = hub_name(source)
    folder = name.folder
    with lock(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            building = folder.with_name(f".{folder.name}.fetching")
            if not _COMMIT.fullmatch(name.revision):  # what was begun may be of another commit
                shutil.rmtree(building, ignore_errors=True)
            with _asking(f"{source} cannot be fetched") as library:
                library.snapshot_download(
                    name.repository,
                    repo_type="dataset",
                    revision=name.revision or None,
                    local_dir=building,
                    allow_patterns=[name.path, f"{name.path}/*"] if name.path else None,
                    ignore_patterns=_UNREAD,
                    endpoint=_endpoint(),
                )
            shutil.rmtree(building / ".cache", ignore_errors=True)
            make_folder(building)
            building.replace(folder)
    path = folder / name.path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadConfig(f"{shown(source)} leads out of what was fetched")
    if not path.exists():
        shutil.rmtree(folder)
        raise RLCondenseError(f"{name.repository} on the Hub has no {shown(name.path)}")
    return path


def forget(source: str) -> bool:
    """Remove what was fetched of a dataset of the Hub, and return whether there was anything."""
    folder = hub_name(source).folder
    known = folder.is_dir()
    _remove(folder)
    return known


def _remove(folder: Path) -> None:
    """Remove the folder of what was fetched, once no other process fetches it."""
    if folder.is_dir():
        with lock(folder.with_name(f".{folder.name}.lock")):
            shutil.rmtree(folder, ignore_errors=True)


def check_target(source: str) -> HubName:
    """Return the parts of `hf:OWNER/NAME`, to which data can be pushed, or raise `BadConfig`."""
    name = hub_name(source)
    if name.path or name.revision:
        raise BadConfig(f"{shown(source)}: data are pushed to hf:OWNER/NAME")
    return name


def push(folder: Path, source: str) -> None:
    """Write the files of a folder to a dataset of the Hub, which is made if it is not there.

    Data of an earlier export that the folder does not have are removed there, and what was fetched
    of the dataset is forgotten here.

    Args:
        folder: a folder that `rlcondense export` wrote.
        source: `hf:OWNER/NAME`.

    Raises:
        MissingExtra: huggingface_hub is not installed.
        RLCondenseError: the Hub is unreachable, refuses it, or has data there that no export wrote.
    """
    repository = check_target(source).repository
    try:
        with _asking(f"{folder} is written, but cannot be pushed to {source}") as library:
            api = library.HfApi(endpoint=_endpoint())
            api.create_repo(repository, repo_type="dataset", exist_ok=True)
            for name in api.list_repo_files(repository, repo_type="dataset"):
                if name.startswith((f"{DATA}/", f"{DATA}.")) and name not in _OURS:
                    raise RLCondenseError(
                        f"{folder} is written, but not pushed: {source} has {shown(name)}, which "
                        "no export wrote and readers would take for the data"
                    )
            api.upload_folder(
                repo_id=repository,
                repo_type="dataset",
                folder_path=folder,
                commit_message="Export of rlcondense",
                delete_patterns=_OURS,
            )
    finally:
        for revision in ("", _MAIN):  # what was fetched before is not the newest
            for part in HubName(repository, revision).folder.parent.glob("[!.]*"):
                _remove(part)


def require_library() -> Any:
    """Return the Hub's library, or raise `MissingExtra` if it is not installed."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtra("huggingface_hub, which speaks to the Hub,", "remote") from error
    return huggingface_hub


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


@contextlib.contextmanager
def _asking(failure: str) -> Iterator[Any]:
    """Yield the Hub's library; its errors become one line that begins with what failed."""
    huggingface_hub = require_library()
    # The library's log of its retries would bury our message about the outcome.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        yield huggingface_hub
    except RLCondenseError:
        raise
    except Exception as error:  # of the library, of its transport, or of the disk
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RLCondenseError(f"{failure}: {reason} (is this machine online?)") from error
