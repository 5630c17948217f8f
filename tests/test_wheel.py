"""The wheel, installed: what README.md says of parts of one's own, with the package in the working directory."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_seg import load_module
from tests.console import SHORT, SMALL
from tests.readmes import READMES, ROOT, blocks


def ran(arguments: list[str], folder: Path, path: str = "") -> str:
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_an_installed_wheel_trains_parts_of_a_package_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    source = tmp_path / "source"  # a build leaves files beside it
    for part in ("lightning_seg", "conf"):
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--no-compile"]
    ran([*pip, "install", *options, "--target", str(site), str(source)], tmp_path)  # by way of a wheel
    package = next(block for block in blocks(READMES[0], "python") if block.startswith("# my_package.py"))
    (work / "my_package.py").write_text(package)
    where = ran([sys.executable, "-c", "import lightning_seg; print(lightning_seg.__file__)"], work, str(site))
    assert Path(where.strip()).is_relative_to(site)
    lines = [line for block in blocks(READMES[0], "bash") for line in block.splitlines() if "my_package." in line]
    assert len(lines) == 2
    commands = [[word.strip("'") for word in line.split()] for line in lines]
    command = str(site / "bin" / commands[0][0])
    both = [word for words in commands for word in words[1:] if not word.startswith("run=")]  # a network and a loss
    ran([command, *both, "run=own_network", *SMALL, *SHORT], work, str(site))
    monkeypatch.syspath_prepend(str(work))
    monkeypatch.delitem(sys.modules, "my_package", raising=False)  # of another README's test
    module = load_module(work / "runs" / "own_network" / "checkpoints" / "best.ckpt", trusted=["my_package"])
    assert (type(module.backbone).__name__, type(module.loss).__name__) == ("Net", "SquaredError")
