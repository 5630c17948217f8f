import pytest
import torch

from lightning_seg.data import ShapesDataModule
from lightning_seg.inference import prediction_picture

DATA = {"num_train": 1, "num_val": 1, "num_test": 1, "image_size": 32, "seed": 0, "num_classes": 6, "batch_size": 1}


def test_a_data_module_takes_unlabelled_images_by_their_former_name() -> None:
    with pytest.warns(FutureWarning, match="unlabelled_per_image is now unlabeled_per_image"):
        data = ShapesDataModule(**DATA, unlabelled_per_image=2)  # type: ignore[arg-type]
    assert data.unlabeled_per_image == 2
    images = [{"image": torch.zeros(3, 32, 32)}]
    with pytest.warns(FutureWarning, match="unlabelled_set is now unlabeled_set"):
        data.unlabelled_set = images  # type: ignore[assignment]
    assert data.unlabeled_set is images


def test_a_picture_takes_its_targets_by_their_former_name() -> None:
    arguments = {"images": [torch.rand(3, 8, 8)], "predictions": [torch.ones(8, 8).long()]}
    colors = {"palette": [(0, 0, 0), (255, 0, 0)], "class_names": ["a", "b"]}
    targets = [torch.zeros(8, 8).long()]
    with pytest.warns(FutureWarning, match="truths is now targets"):
        former = prediction_picture(**arguments, **colors, truths=targets)  # type: ignore[call-arg, arg-type]
    assert former.tobytes() == prediction_picture(**arguments, **colors, targets=targets).tobytes()  # type: ignore[arg-type]
