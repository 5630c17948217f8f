import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from lightning_seg.data.evaluation_order import UnpaddedImages


def ranks_loader(rank, shuffle=False, count=5, batch_size=2):
    rows = torch.zeros(count, 1)
    return DataLoader(rows, batch_size, sampler=DistributedSampler(rows, 2, rank, shuffle=shuffle))


@pytest.mark.parametrize(
    ("rank", "counts"),
    # Of five images, rank 0 has 0, 2, 4 and rank 1 has 1, 3 and image 0 once more.
    [(0, [2, 1]), (1, [2, 0])],
)
@pytest.mark.parametrize("in_list", [False, True])
def test_images_repeated_on_a_rank_are_not_counted(rank, counts, in_list):
    images, loader = UnpaddedImages(), ranks_loader(rank)
    loaders = [loader, loader] if in_list else loader
    for index in range(2 if in_list else 1):
        assert [images.count(len(batch), loaders, index) for batch in loader] == counts


def test_a_batch_that_is_only_partly_repeated_counts_in_part():
    assert UnpaddedImages().count(3, ranks_loader(1, batch_size=3)) == 2


def test_all_images_count_where_nothing_is_repeated():
    images = UnpaddedImages()
    for loader in (DataLoader(torch.zeros(3, 1), batch_size=2), ranks_loader(1, count=4), [object()], None):
        images.reset()
        assert images.count(2, loader) == 2


def test_a_shuffled_sampler_says_nothing_of_which_images_are_repeated():
    images, loader = UnpaddedImages(), ranks_loader(1, shuffle=True)
    assert [images.count(len(batch), loader) for batch in loader] == [2, 1]


def test_all_batches_before_count_for_which_images_are_repeated():
    # Of nine images, rank 1 has 1, 3, 5, 7 and image 0 once more.
    images, loader = UnpaddedImages(), ranks_loader(1, count=9)
    assert [images.count(len(batch), loader) for batch in loader] == [2, 2, 0]
