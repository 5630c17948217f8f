"""Trainings with FSDP, of two processes on the CPU."""

import os
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from lightning_seg.checkpoint import load_module
from lightning_seg.commands.train import check_tested
from lightning_seg.runs.plain import check_plain
from tests.console import SHORT, SMALL, Run
from tests.launch.fsdp import CpuFSDP

OPTIONS = [
    *(*SHORT, *SMALL, "trainer=fsdp", "trainer.devices=2", "data.num_workers=0", "data.num_train=4"),
    *("trainer.accelerator=cpu", "trainer.strategy._target_=tests.launch.fsdp.CpuFSDP"),
    *("trainer.strategy.auto_wrap_policy.min_num_params=1000", "run=a"),
    "trainer.sync_batchnorm=false",  # torch has it on GPUs only
]


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


CONVOLUTION = [
    *("backbone=custom", "backbone._target_=torch.nn.Conv2d", "+backbone.in_channels=3", "+backbone.out_channels=6"),
    *("+backbone.kernel_size=1", "trainer.strategy.state_dict_type=sharded"),
]


@pytest.mark.slow
def test_a_training_in_shards_writes_a_whole_checkpoint_and_tests_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "val/iou was" in run("lightning-seg-train", *OPTIONS, "backbone.decoder_channels=[16,8,8,8,8]")
    assert len(load_module("runs/a/checkpoints/best.ckpt").state_dict())


@pytest.mark.slow
def test_a_checkpoint_in_parts_is_resumed_from_and_nothing_else(
    run: Run, fails: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run("lightning-seg-train", *OPTIONS, *CONVOLUTION)
    resume = [*OPTIONS, *CONVOLUTION, "trainer.max_epochs=2", "resume=auto"]
    assert "val/iou was" in run("lightning-seg-train", *resume)
    with pytest.raises(ValueError, match=r"best\.ckpt lies in parts, .*trainer\.strategy\.state_dict_type=full"):
        load_module("runs/a/checkpoints/best.ckpt")
    last = Path("runs/a/checkpoints/last.ckpt")
    check_plain(last)
    torch.save({"epoch": 1, "more": Harmful(tmp_path / "made")}, last / "meta.pt")
    line = fails("lightning-seg-train", *resume, "trainer.max_epochs=3")
    assert "meta.pt cannot be read as a checkpoint without running code from it" in line
    assert not (tmp_path / "made").exists()


def test_what_fsdp_could_not_test_is_refused_before_it_is_trained() -> None:
    writes_none = lightning.Trainer(
        accelerator="cpu", strategy=CpuFSDP(), enable_checkpointing=False, logger=False, callbacks=[]
    )
    with pytest.raises(ValueError, match="FSDP tests a checkpoint, and no callback writes one"):
        check_tested(writes_none, {"test": True})
    check_tested(writes_none, {"test": False})
