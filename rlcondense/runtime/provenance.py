"""Provenance of results beside the cell: versions, sources, and device."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import rlcondense
from rlcondense.errors import BadConfig
from rlcondense.limits import check_device
from rlcondense.runtime.sources import OURS, source_files
from rlcondense.runtime.tune import THREADS

if TYPE_CHECKING:
    from rlcondense.records.record import EnvironmentJson, GitJson
    from rlcondense.tasks.base import Task

# What changes no result: what shows results, and who asks for them.
REPORTS = frozenset(
    ("cli", "console.py", "comparison", "reporting", "submissions", "checks", "_catalogue")
)
PACKAGES = ("torch", "numpy", "gymnasium", "d3rlpy", "minari", "procgen-mirror", "safetensors")


def resolve_device(name: str) -> str:
    """Resolve `auto`, `cpu` or `cuda` to `cpu` or `cuda`; on a GPU, make results repeatable.

    Raises:
        BadConfig: it is none of these, or there is no GPU.
    """
    check_device(name)
    if name == "cuda" and not torch.cuda.is_available():
        raise BadConfig("device cuda was asked for, but torch sees no GPU (try --device cpu)")
    if name == "cpu" or not torch.cuda.is_available():
        return "cpu"
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    return "cuda"


def describe(device: str, threads: int = THREADS, packages: Iterable[str] = ()) -> EnvironmentJson:
    """Return the software and hardware environment, as stored in a record.

    Args:
        device: `cpu` or `cuda`.
        threads: number of threads.
        packages: a task's own distributions.
    """
    return {
        "rlcondense": rlcondense.__version__,
        "python": platform.python_version(),
        "packages": versions(packages),
        "os": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "device": device,
        "threads": threads,
        "git": _git(),
    }


def source_of(task: Task, settings: str, *classes: Any) -> dict[str, str | None]:
    """Return what the work on a task depends on: code, registered settings and versions.

    Args:
        task: the task.
        settings: those that it is registered with; see `catalogue.settings_of_task`.
        *classes: further classes whose source counts.
    """
    return {
        "task": task.id,
        "task_settings": settings,
        "source_sha256": source_sha256(type(task), *task.code, *classes),
        **versions(task.packages),
    }


def source_sha256(*classes: Any) -> str:
    """Compute the sha256 of the files that classes depend on, and of this package's files.

    The command line and the reports are excluded, since they change no result, and so are the
    recipes in `baselines`, which a wheel has inside the package and a checkout beside it. Files
    are read once a process, since what it has loaded changes no more.
    """
    ours, of_ours = _own_sources()
    theirs = {file: content for cls in classes for file, content in _sources(cls, ours).items()}
    digest = hashlib.sha256(of_ours)
    for content in sorted(theirs.values()):
        digest.update(content)  # wherever they lie
    return digest.hexdigest()


@cache
def _sources(cls: Any, ours: frozenset[Path]) -> Mapping[Path, bytes]:
    """Return the names and contents of the files that a class depends on, without ours."""
    return {file: file.name.encode() + file.read_bytes() for file in {*source_files(cls)} - ours}


@cache
def _own_sources() -> tuple[frozenset[Path], bytes]:
    """Return this package's files that change results, and their names and contents."""
    files = [f for f in OURS.rglob("*.py") if REPORTS.isdisjoint(f.relative_to(OURS).parts)]
    return frozenset(files), b"".join(f.name.encode() + f.read_bytes() for f in sorted(files))


def versions(packages: Iterable[str] = ()) -> dict[str, str | None]:
    """Return the versions of the packages that results depend on, and of a task's own."""
    return {name: _version(name) for name in dict.fromkeys((*PACKAGES, *packages))}


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


@cache
def _git() -> GitJson | None:
    """Commit and cleanliness of the checkout this package is run from, if it is one.

    They are looked up once a process, near the time when it loaded its code.
    """
    root = Path(rlcondense.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True, text=True, check=True, env=environment,
        ).stdout.strip()  # fmt: skip

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return None
