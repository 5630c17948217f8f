import shutil
from collections import namedtuple
from typing import Any

import pytest
import torch

from lightning_seg.data import ShapesDataModule
from lightning_seg.data.shared_memory import check_shared_memory

Usage = namedtuple("Usage", "total used free")
SAMPLES = [{"image": torch.zeros(3, 64, 64), "mask": torch.zeros(64, 64).long(), "unlabeled": [torch.zeros(2**18)]}]
MEGABYTES = (3 * 64 * 64 * 4 + 64 * 64 * 8 + 4 * 2**18) / 2**20


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Any:
    def have(megabytes: float) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, int(megabytes * 2**20)))

    return have


def test_batches_that_do_not_fit_are_refused(free: Any) -> None:
    needed = 8 * 5 * MEGABYTES
    free(needed + 0.1)
    check_shared_memory(SAMPLES, 8, 2)
    free(needed - 0.1)
    with pytest.raises(
        ValueError, match=rf"data.num_workers=2 needs {needed:.0f} MiB of shared memory .*--shm-size=8g"
    ):
        check_shared_memory(SAMPLES, 8, 2)
    free(needed + 0.1)
    with pytest.raises(ValueError, match="shared memory"):
        check_shared_memory(SAMPLES, 8, 2, training_processes=2)


def test_without_processes_and_with_plenty_no_sample_is_loaded(free: Any) -> None:
    class Unread(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            raise AssertionError

    free(1)
    check_shared_memory(Unread(SAMPLES), 8, 0)
    free(4096)
    check_shared_memory(Unread(SAMPLES), 8, 2)


def test_a_training_asks_before_its_first_step_and_draws_no_random_numbers(free: Any) -> None:
    data = ShapesDataModule(
        num_train=4, num_val=1, num_test=1, image_size=64, seed=0, batch_size=4, ignore_index=255, num_workers=2
    )
    data.setup("fit")
    state = torch.get_rng_state()
    free(64)
    data.train_dataloader()
    assert torch.equal(torch.get_rng_state(), state)
    free(1)
    with pytest.raises(ValueError, match="shared memory"):
        data.train_dataloader()
    free(0.1)
    with pytest.raises(ValueError, match="shared memory"):
        data.val_dataloader()
