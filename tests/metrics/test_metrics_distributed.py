import torch

from lightning_seg.metrics import ImageDiceScore, ImageMeanIoU, segmentation_metrics
from tests.process_group import run_on_ranks

TASKS = [("multiclass", 4), ("binary", 1), ("multilabel", 3)]
# Which of seven images each of the two processes sees; image 6 is nothing but void.
SHARDS = [([0, 1, 2, 3, 6], [4, 5]), ([0, 1, 2, 3, 4, 5, 6], []), ([0, 1, 2, 3, 4, 5], [6]), ([3, 0], [6, 5, 4, 2, 1])]


def draw_images(task, num_classes):
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(7, num_classes, 11, 13, generator=generator)
    shape = (7, num_classes, 11, 13) if task == "multilabel" else (7, 11, 13)
    target = torch.randint(num_classes if task == "multiclass" else 2, shape, generator=generator)
    target[torch.rand(shape, generator=generator) < 0.2] = 255
    target[6] = 255
    return logits, target


def scores_of(task, num_classes, indices):
    """All scores, over two epochs so that a process must also recover from having synchronized."""
    metrics = segmentation_metrics(task, num_classes, 255, None).clone(prefix="val/")
    spec = {"task": task, "num_classes": num_classes, "ignore_index": 255}
    metrics.add_metrics({"image_iou": ImageMeanIoU(**spec), "image_dice": ImageDiceScore(**spec, average="none")})
    logits, target = draw_images(task, num_classes)
    results = []
    for _epoch in range(2):
        for start in range(0, len(indices), 2):
            chosen = indices[start : start + 2]
            metrics.update(logits[chosen], target[chosen])
        results.append(metrics.compute())
        metrics.reset()
    return results


def scores_of_rank(rank, world_size):
    return [scores_of(task, num_classes, shard[rank]) for task, num_classes in TASKS for shard in SHARDS]


def test_any_split_over_two_processes_gives_one_processs_scores_to_the_last_digit(tmp_path):
    ranks = run_on_ranks(scores_of_rank, 2, tmp_path)
    alone = [scores_of(task, num_classes, list(range(7))) for task, num_classes in TASKS for _shard in SHARDS]
    for results in ranks:
        for expected_epochs, epochs in zip(alone, results, strict=True):
            for expected, scores in zip(expected_epochs, epochs, strict=True):
                assert scores.keys() == expected.keys()
                assert all(torch.equal(scores[name], expected[name]) for name in expected)
                assert not any(score.isnan().any() for score in scores.values())
