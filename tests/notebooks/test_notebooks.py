"""The notebooks run from start to end, and are committed as they ran.

`jupyter execute --inplace notebooks/*.ipynb` brings their outputs up to date.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.warm_commands import SMALL

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# What makes their trainings shorter, where nothing that a notebook asserts or draws depends on it.
NARROW = "backbone.decoder_channels=[16,8,8,8,8]"
FEW = "callbacks=[checkpoint,last,curves,confusion]"
SHORTER = {
    "01_losses": {
        "0.998, 400": "0.998, 40",
        "torch.ones(400": "torch.ones(40",
        "400 * gradient": "40 * gradient",
        "-0.31, 30": "-0.31, 6",
        "0.98, 49": "0.98, 9",
        "5, 40, 71": "5, 40, 11",
        "-4, 4, 200": "-4, 4, 20",
        "torch.ones(200": "torch.ones(20",
        "200 * gradient": "20 * gradient",
        "-0.005, 60": "-0.005, 6",
    },
    "02_train_and_sweep": {
        r"\"train\": 32, \"val\": 12, \"test\": 24": r"\"train\": 8, \"val\": 4, \"test\": 6",
        "trainer.max_epochs=8": f"trainer.max_epochs=1 {NARROW} callbacks.details=null",
        r"seed=0,1\"": r"seed=0\"",
        "seed=0,1,2": "seed=0,1",
        "max_epochs: 5": r"max_epochs: 1\ncallbacks:\n  details: null",
        "trainer.max_epochs=3": "trainer.max_epochs=1",
        "n_trials: 5": "n_trials: 2",
        r"  - override /trainer: cpu\n": r"  - override /trainer: cpu\n  - override /callbacks: no_pictures\n",
        "tu-mobilenetv3_small_100": "resnet18",
        "[64, 48, 32, 24, 16]": "[16, 8, 8, 8, 8]",
    },
    "03_subclass": {
        "num_train: 128": "num_train: 16",
        "num_val: 16": "num_val: 4",
        "num_test: 32": "num_test: 22",
        "max_epochs: 8": "max_epochs: 1",
        r"  classes: ${backbone.features}": r"  classes: ${backbone.features}\n  decoder_channels: [16, 8, 8, 8, 8]",
    },
    "04_many_devices": {
        "[0, 0.2, 0.4, 0.6, 0.75, 0.85, 0.92, 0.97]": "[0, 0.75]",
        r"\"data.batch_size=4\"]": rf"\"data.batch_size=4\", \"{NARROW}\", \"{FEW}\"]",
        "trainer.max_epochs=2": "trainer.max_epochs=1",
        "data.num_train=32": "data.num_train=16",
    },
}
IN_JUPYTER = "06_few_labels"  # the others in processes that have imported the package, which takes a kernel seconds
# A file or a folder of the machine that a notebook ran on.
ABSOLUTE_PATH = re.compile(
    r"(?<![\w./:<])(/(root|home|Users|tmp|work|usr|opt|var|mnt|content)\b|[A-Z]:\\\\|file://|~/)"
)


@pytest.fixture(params=NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def path(request: pytest.FixtureRequest) -> Path:
    notebook: Path = request.param
    return notebook


def test_there_are_notebooks() -> None:
    assert "01_losses" in [path.stem for path in NOTEBOOKS]


@pytest.mark.slow
def test_a_notebook_runs_from_start_to_end_and_writes_nothing_beside_itself(
    programs: Path, path: Path, tmp_path: Path
) -> None:
    before = sorted(FOLDER.iterdir())
    for measured in FOLDER.glob("*.csv"):
        shutil.copy(measured, tmp_path)
    if path.stem == IN_JUPYTER:
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    else:
        execute_shorter(programs, path, tmp_path)
    assert sorted(FOLDER.iterdir()) == before


def execute_shorter(programs: Path, path: Path, folder: Path) -> None:
    """Runs the notebook with shorter trainings, in processes that have imported the package."""
    text = path.read_text(encoding="utf-8")
    for written, shorter in SHORTER.get(path.stem, {}).items():
        assert written in text
        text = text.replace(written, shorter)
    (folder / path.name).write_text(text, encoding="utf-8")
    execute = [programs / "python", "-m", "tests.notebooks.execution", path.name]
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parent), "MPLBACKEND": "agg", SMALL: "resnet18"}
    done = subprocess.run(execute, cwd=folder, env=environment, timeout=1800, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_notebook_is_committed_with_the_outputs_of_one_run_from_start_to_end(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell.outputs for cell in cells)
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


def test_a_notebook_names_no_file_of_the_machine_that_it_ran_on(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    texts = [cell.source for cell in notebook.cells]
    for output in (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs):
        texts.append(output.get("text", ""))
        texts += [data for kind, data in output.get("data", {}).items() if kind.startswith("text/")]
    assert not [text for text in texts if ABSOLUTE_PATH.search(text)]
