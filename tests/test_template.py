from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlcondense.catalogue import import_file
from rlcondense.checks.common import SampleBoxTask, sample_box_data
from rlcondense.cli import main
from rlcondense.errors import BadConfig
from rlcondense.template import write_method_package


@pytest.mark.slow
def test_the_package_that_is_written_passes_its_own_test(tmp_path: Path) -> None:
    """With the metadata that an installation would leave; CI tries it with the wheel, installed."""
    done = CliRunner().invoke(main, ["new", "method", "my-demo", "--out", str(tmp_path / "pkg")])
    assert done.exit_code == 0, done.output
    assert "rlcondense check my-demo" in done.stdout
    info = tmp_path / "pkg" / "my_demo-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-demo\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[rlcondense.methods]\nmy-demo = my_demo:MyDemo\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "pkg")}
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "."],
        cwd=tmp_path / "pkg", env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout
    assert "failed" not in tested.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My Method", "must be lower-case"),
        ("../escape", "must be lower-case"),
        ("gradmatch", "there is a method 'gradmatch' already"),
        ("gradmatch-v2", "there is a method 'gradmatch-v2' already"),
        ("numpy", "is a word of Python or a package here"),
        ("select", "is a word of Python or a package here"),
        ("true", "is a word of Python or a package here"),
    ],
)
def test_bad_names_are_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=message):
        write_method_package(name, tmp_path / "x")


def test_what_is_written_selects_rows_of_continuous_actions_too(tmp_path: Path) -> None:
    folder = write_method_package("of-means", tmp_path / "x")
    method = import_file(folder / "of_means" / "__init__.py").OfMeans()
    data = method.condense(sample_box_data(), task=SampleBoxTask(), budget=20)
    assert len(data) == 20
    assert data.source_indices is not None
    assert data.source_indices.tolist() != list(range(20))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="exists already"):
        write_method_package("mine", tmp_path)
