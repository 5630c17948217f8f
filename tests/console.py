"""The commands, called in this process as the console calls them; a plugin of pytest for all tests."""

import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.forkserver import launch_copies

SMALL = ["data.num_train=8", "data.num_val=2", "data.num_test=3", "data.image_size=32", "data.batch_size=4"]
SHORT = ["trainer.max_epochs=1", "trainer.accelerator=cpu"]
# What a run is resumed from and its scores, without pictures and details, where a test reads no more.
SCORES_ONLY = ["callbacks=[checkpoint,last,curves]"]

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Calls a command in the current folder; what it printed.

    Several processes of a training are copies of this one, and the default network is a small one.
    """
    import_module("tests.small_encoder").replace(
        monkeypatch, "resnet18"
    )  # imports for seconds, which not all tests need

    def call(command: str, *arguments: str) -> str:
        monkeypatch.setattr("sys.argv", [command, *arguments])
        monkeypatch.setattr("hydra._internal.hydra.Hydra.get_mode", import_module("tests.one_composition").get_mode)
        monkeypatch.setattr("lightning_seg.launch.processes.elastic_launch", launch_copies)
        capfd.readouterr()
        import_module(f"lightning_seg.commands.{command.removeprefix('lightning-seg-')}").main()
        return capfd.readouterr().out

    return call


@pytest.fixture(scope="session")
def programs() -> Iterator[Path]:
    """A folder with the commands as programs, where a test needs processes of their own: see `warm_commands`."""
    with import_module("tests.warm_commands").warm_commands() as folder:
        yield folder


@pytest.fixture
def fails(run: Run, capfd: pytest.CaptureFixture[str]) -> Run:
    """Calls a command that must end with status 1, and gives the one line that says why."""

    def call(command: str, *arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            run(command, *arguments)
        assert ended.value.code not in (0, None)
        text = ended.value.code if isinstance(ended.value.code, str) else capfd.readouterr().err
        lines = [line for line in text.splitlines() if line.startswith("lightning-seg-")]
        assert len(lines) == 1, text
        assert "Traceback" not in text, text
        return lines[0]

    return call


def write_folder(root: Path, splits: dict[str, int], size: tuple[int, int] = (40, 48)) -> None:
    """Images with bright rectangles of two classes, their masks, and a void border."""
    random = np.random.default_rng(0)
    for split, count in splits.items():
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            mask = np.zeros(size, np.uint8)
            mask[5:20, 5:20], mask[22:36, 24:44], mask[:2] = 1, 2, 255
            image = np.stack([mask == 1, mask == 2, mask == 0], -1) * 120 + random.integers(0, 100, (*size, 3))
            Image.fromarray(image.astype(np.uint8)).save(root / split / "images" / f"{index}.jpg")
            Image.fromarray(mask).save(root / split / "masks" / f"{index}.png")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with data in `my_images`."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "my_images", {"train": 6, "val": 2, "test": 3})
    return tmp_path


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finished") / "one"


@pytest.fixture
def one(run: Run, folder: Path, _finished: Path) -> Path:
    """A run that has finished, `runs/one` of a working folder as `folder` gives it.

    `lightning-seg-train run=one` with `SHORT` and `SMALL`, which the first test that asks for it has trained.
    """
    if not _finished.exists():
        run("lightning-seg-train", *SHORT, *SMALL, "run=one")
        shutil.copytree("runs/one", _finished)
    else:
        shutil.copytree(_finished, "runs/one")
    return folder / "runs" / "one"
