from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_seg.commands import predict as command
from lightning_seg.commands.predict import find_devices
from lightning_seg.inference import PredictedFiles
from lightning_seg.inference.shares import Share
from tests.inference.test_predict_files import Brightest, predict, write_image

OUTPUTS = {"overlay": True, "probabilities": True, "contours": True, "areas": True}


@dataclass(frozen=True)
class OfThreads(Share):
    """The shares of threads, which meet as processes do."""

    barrier: Barrier = field(default_factory=lambda: Barrier(1))
    table: dict[int, Any] = field(default_factory=dict)

    def planned(self, plan):
        return self.gathered(plan() if self.rank == 0 else None)[0]

    def gathered(self, value):
        self.table[self.rank] = value
        self.barrier.wait(60)
        values = [self.table[rank] for rank in range(self.processes)]
        self.barrier.wait(60)
        return values


def in_shares(processes: int, source: Path, target: Path, **options: Any) -> list[Any]:
    barrier, table = Barrier(processes), {}

    def one(rank: int) -> Any:
        share = OfThreads(rank, processes, barrier, table)
        return predict(Brightest().eval(), source, target, share=share, **OUTPUTS, **options)

    with ThreadPoolExecutor(processes) as threads:
        return list(threads.map(one, range(processes)))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("processes", [1, 2, 3, 9])
def test_each_job_is_that_of_one_process(processes: int) -> None:
    shares = [Share(rank, processes).of(range(7)) for rank in range(processes)]
    assert sorted(job for jobs in shares for job in jobs) == list(range(7))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_any_number_of_shares_gives_the_files_and_the_result_of_one(processes: int, tmp_path: Path) -> None:
    source = tmp_path / "in"
    for index in range(5):
        write_image(source / f"sub{index % 2}" / f"{index}.png", (13, 9 + index), seed=index)
    for name in ("sub0/1.jpg", "sub0/3.jpg", "sub1/9.jpg"):
        (source / name).write_bytes(b"no image")
    whole = predict(Brightest().eval(), source, tmp_path / "one", **OUTPUTS)
    assert (whole.written, len(whole.failed)) == (5, 3)
    results = in_shares(processes, source, tmp_path / "several")
    assert results == [whole] * processes
    assert contents(tmp_path / "several") == contents(tmp_path / "one")

    (tmp_path / "several" / "sub1" / "1.png").unlink()
    again = in_shares(processes, source, tmp_path / "several", resume=True)
    assert [(one.written, one.kept, len(one.failed)) for one in again] == [(1, 4, 3)] * processes
    assert contents(tmp_path / "several") == contents(tmp_path / "one")


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        ("auto", 1, ["cuda"]),
        ("auto", "auto", ["cuda:0", "cuda:1", "cuda:2"]),
        ("gpu", 2, ["cuda:0", "cuda:1"]),
        ("cuda:1", 1, ["cuda:1"]),
        ("cuda:1", "auto", ["cuda:1"]),
        ("cpu", "auto", ["cpu"]),
        ("cpu", 4, ["cpu"] * 4),
        ("auto", 4, "devices=4, but device=auto has 3 on this machine: give devices=3 or auto."),
        ("cuda:1", 2, "devices=2, but device=cuda:1 has 1 on this machine: give devices=1 or auto."),
    ],
)
def test_the_devices_of_the_processes(
    name: str, number: Any, expected: list[str] | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    if isinstance(expected, str):
        with pytest.raises(ValueError, match="on this machine: give devices=") as raised:
            find_devices(name, number)
        assert str(raised.value) == expected
    else:
        assert [str(device) for device in find_devices(name, number)] == expected


@pytest.mark.parametrize("rank", [0, 2])
def test_the_process_of_a_rank_loads_to_its_device_and_makes_it_the_current_one(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    current, loaded, shares = [], [], []
    options = {"tile": None, "margin": None, "tiling": "crop", "test_time_augmentation": False}
    module = SimpleNamespace(palette=None, num_classes=3, scale=1.0, decision_threshold=0.5, **options)

    def load(*_: Any, map_location: torch.device, **__: Any) -> SimpleNamespace:
        loaded.append(map_location)
        return module

    monkeypatch.setattr(command, "join", lambda processes: Share(rank, processes))
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(command, "load_modules", load)
    monkeypatch.setattr(command, "set_prediction_options", lambda *_: None)
    monkeypatch.setattr(command, "predict_files", lambda *_, share, **__: shares.append(share) or PredictedFiles())
    devices = [torch.device("cuda", index) for index in range(3)]
    config = dict.fromkeys((*command._PASSED, "trusted", "checkpoint", "one_in_memory", "input", "output"))
    command._predict({**config, "checkpoint": "a.ckpt", "devices": devices})
    assert current == loaded == [devices[rank]]
    assert shares == [Share(rank, 3)]
