import random
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from lightning_seg.data import SegmentationDataModule, ShapesDataModule
from lightning_seg.data.training_order import SeededSamples, TrainingOrder


class Random(Dataset[Any]):
    """Samples that hold their index and a random number of each generator."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return range(7)[index], torch.rand(()).item(), random.random(), float(np.random.random())


class Noise(SegmentationDataModule):
    """Images of noise drawn by the data set itself, named by their index."""

    class Images(Dataset[Any]):
        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> Any:
            return {"image": torch.rand(3, 2, 2), "mask": torch.zeros(2, 2, dtype=torch.long), "name": str(index)}

    def __init__(self, **options: Any) -> None:
        super().__init__(num_classes=2, batch_size=2, **options)
        self.train_set = self.Images()


def epochs(data: SegmentationDataModule, count: int = 2) -> list[list[tuple[str, float]]]:
    loader = data.train_dataloader()
    return [
        [
            (name, float(image.sum()))
            for batch in loader
            for name, image in zip(batch["name"], batch["image"], strict=True)
        ]
        for _ in range(count)
    ]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(5)


def test_the_number_of_workers_changes_nothing() -> None:
    alone, one, three = (epochs(Noise(num_workers=workers)) for workers in (0, 1, 3))
    assert alone == one == three
    assert len({value for epoch in alone for _, value in epoch}) == 20  # no image has the same noise in two epochs


def test_what_was_drawn_before_changes_nothing_and_the_seed_does() -> None:
    first = epochs(Noise())
    torch.rand(3)
    assert epochs(Noise()) == first
    torch.manual_seed(6)
    other = epochs(Noise())
    assert [name for name, _ in other[0]] != [name for name, _ in first[0]]
    # Not the next epoch of the seed before, either.
    assert [name for name, _ in other[0]] != [name for name, _ in first[1]]


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_draws_nothing_from_the_random_numbers_of_the_training(workers: int) -> None:
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    epochs(Noise(num_workers=workers))
    shapes = ShapesDataModule(num_train=2, num_val=2, num_test=2, image_size=32, seed=0, batch_size=2)
    shapes.setup()
    list(shapes.val_dataloader())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]


def test_every_generator_is_seeded_by_epoch_and_index() -> None:
    samples = SeededSamples(Random(), seed=3)
    drawn = [samples[epoch, index] for epoch in range(2) for index in range(7)]
    for generator in (1, 2, 3):
        assert len({sample[generator] for sample in drawn}) == 14
    assert samples[1, 4] == drawn[7 + 4]
    assert samples[4] == samples[0, 4]
    assert SeededSamples(Random(), seed=4)[1, 4] != drawn[7 + 4]


def test_a_sample_that_fails_leaves_the_random_numbers_alone() -> None:
    state = torch.get_rng_state()
    with pytest.raises(IndexError):
        SeededSamples(Random(), seed=3)[0, 1000]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("images", "processes"), [(7, 1), (7, 2), (8, 2), (7, 3), (2, 3)])
def test_processes_share_each_epoch_evenly_and_leave_no_image_out(images: int, processes: int) -> None:
    orders = [TrainingOrder(range(images), num_replicas=processes, rank=rank, seed=1) for rank in range(processes)]  # type: ignore[arg-type]
    for epoch in range(2):
        shares = [list(order) for order in orders]
        assert {len(share) for share in shares} == {-(-images // processes)}
        assert {len(order) for order in orders} == {-(-images // processes)}
        assert {key for share in shares for key in share} == {(epoch, index) for index in range(images)}


def test_images_of_two_processes_have_different_changes() -> None:
    images = SeededSamples(Noise.Images(), seed=1)
    orders = [TrainingOrder(images, num_replicas=2, rank=rank, seed=1) for rank in range(2)]
    assert len({float(images[key]["image"].sum()) for order in orders for key in order}) == 10


@pytest.mark.parametrize("workers", [0, 2])
def test_an_iteration_resumes_where_it_is_told_to_when_it_is_read(workers: int) -> None:
    data = Noise(num_workers=workers)
    whole = epochs(data, 3)
    loader = data.train_dataloader()
    iterator = iter(loader)
    loader.sampler.set_epoch(2)  # type: ignore[attr-defined]
    loader.sampler.skip = lambda: 6  # type: ignore[attr-defined]
    assert [name for batch in iterator for name in batch["name"]] == [name for name, _ in whole[2][6:]]
    assert len(loader) == 5


def test_trainers_seed_decides_and_two_trainings_are_alike(tmp_path: Any) -> None:
    class Names(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.seen: list[Any] = []

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.seen += [(self.current_epoch, *batch["name"], float(batch["image"].sum()))]
            return self.weight.sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    seen = []
    for draws in (0, 5):
        torch.manual_seed(5)
        torch.rand(draws)
        module = Names()
        trainer = lightning.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(module, Noise())
        seen.append(module.seen)
    assert seen[0] == seen[1]
    names = [[name for step in seen[0] if step[0] == epoch for name in step[1:3]] for epoch in range(2)]
    torch.manual_seed(5)
    assert names == [[name for name, _ in epoch] for epoch in epochs(Noise())]
