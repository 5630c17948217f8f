import json

import pytest
import torch
from PIL import Image
from torch import nn

from lightning_seg import SegmentationModule
from lightning_seg.callbacks import EvaluationDetails
from lightning_seg.csv_files import read_csv
from lightning_seg.losses import CrossEntropyLoss
from tests.callbacks.test_evaluation_files import NAMES, run_test
from tests.small_module import CLASSES, Network, build, images, trainer


def rows(path):
    columns, found = read_csv(path)
    return columns, found


def test_what_is_written_of_each_image_is_its_score_and_all_together_are_the_tests(tmp_path):
    torch.manual_seed(0)
    data, module = images(5), build(background=0)
    details = EvaluationDetails(tmp_path, boundaries=True, draws=50)
    loader = torch.utils.data.DataLoader(data, batch_size=2)
    scores = trainer(callbacks=[details]).test(module, loader, verbose=False)[0]

    _, found = rows(tmp_path / "images.csv")
    assert {row["image"] for row in found} == {"0", "1", "2", "3", "4"}
    worst = [float(row["iou"]) for row in found]
    assert worst == sorted(worst)
    for row in found:
        alone = torch.utils.data.DataLoader([data[int(row["image"])]])
        expected = trainer().test(build_like(module), alone, verbose=False)[0]
        for name in ("iou", "dice", "accuracy", "iou_without_background"):
            assert float(row[name]) == pytest.approx(expected[f"test/{name}"], abs=1e-6)

    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["images"] == 5
    for name in ("iou", "dice", "accuracy", "iou_without_background", "iou/road"):
        one = summary["intervals"][name]
        assert one["value"] == pytest.approx(scores[f"test/{name}"], abs=1e-6)
        assert one["low"] <= one["value"] <= one["high"]
    assert 0 < summary["expected_calibration_error"] < 1
    assert 0 < summary["boundary_iou"] < 1
    columns, confusion = rows(tmp_path / "confusion.csv")
    assert columns == ["target", *CLASSES]
    counted = sum(int(row[name]) for row in confusion for name in CLASSES)
    assert counted == sum(int((one["mask"] != 255).sum()) for one in data)
    assert [row["class"] for row in rows(tmp_path / "boundaries.csv")[1]] == [*CLASSES, "mean"]
    for name in ("confusion.png", "calibration.png"):
        assert Image.open(tmp_path / name).width > 100


def build_like(module):
    other = build(background=0)
    other.load_state_dict(module.state_dict())
    return other


@pytest.mark.parametrize(("task", "num_classes"), [("multiclass", 6), ("binary", 1)])
def test_it_works_with_our_data_in_each_task(tmp_path, task, num_classes):
    names = NAMES if num_classes > 1 else ["object"]
    scores, _, _ = run_test(tmp_path, EvaluationDetails(tmp_path, draws=20), task=task, num_classes=num_classes)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["intervals"]["iou"]["value"] == pytest.approx(scores["test/iou"], abs=1e-6, nan_ok=True)
    assert set(summary["intervals"]) >= {f"iou/{name}" for name in names}
    assert (tmp_path / "precision_recall.csv").exists() == (task == "binary")


def binary_data(count=6):
    torch.manual_seed(1)
    masks = (torch.rand(count, 8, 8) > 0.7).long()
    return [{"image": (0.3 * mask + 0.3 * torch.rand(8, 8)).expand(3, -1, -1), "mask": mask} for mask in masks]


class Dim(nn.Module):
    """Objects are brighter, but no probability is above a half."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, image):
        return 4 * image[:, :1] - 4 + self.weight


def test_the_best_threshold_is_found_on_validation_images_and_kept(tmp_path):
    loader = torch.utils.data.DataLoader(binary_data(), batch_size=4)
    loss = CrossEntropyLoss(task="binary")
    arguments = {"num_classes": 1, "task": "binary", "optimizer": lambda groups: torch.optim.SGD(groups, lr=0.0)}
    module = SegmentationModule(Dim(), loss, threshold="best", **arguments)
    fitter = trainer(max_epochs=1)
    fitter.fit(module, loader, loader)
    assert float(fitter.callback_metrics["val/iou"]) == 0  # at a half
    threshold = module.found_threshold
    assert 0.05 < threshold < 0.2
    fitter.save_checkpoint(tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["threshold"] == threshold

    scores = trainer(callbacks=[EvaluationDetails(tmp_path, draws=5)]).test(module, loader, verbose=False)[0]
    assert scores["test/iou"] > 0.9
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["best_threshold"] == threshold
    assert summary["intervals"]["iou"]["value"] == pytest.approx(scores["test/iou"])
    image = binary_data()[0]["image"]
    expected = torch.sigmoid(Dim()(image[None]))[0, 0] > threshold
    assert torch.equal(module.eval().predict(image), expected.long())
    given = SegmentationModule(Dim(), loss, threshold=threshold, **arguments).eval()
    assert torch.equal(given.predict(image), expected.long())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 0.4}, "applies to task=binary only"),
        ({"background": 3}, "background=3 is not one of the 3 classes"),
    ],
)
def test_what_has_no_meaning_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(Network(), **arguments)


def test_a_training_is_not_looked_at_image_by_image(tmp_path, monkeypatch):
    monkeypatch.setattr(EvaluationDetails, "add_part", None)
    loader = torch.utils.data.DataLoader(images(2))
    trainer(callbacks=[EvaluationDetails(tmp_path / "none")]).fit(build(), loader, loader)
    assert not (tmp_path / "none").exists()
