import pytest
import torch

from lightning_seg.metrics import DiceScore, ImageMeanIoU, MeanIoU, PixelAccuracy, iou, iou_binary

LOGITS = torch.zeros(2, 3, 4, 5)
TARGET = torch.zeros(2, 4, 5, dtype=torch.long)


@pytest.mark.parametrize(
    ("task", "num_classes", "logits", "target"),
    [
        ("multiclass", 3, LOGITS, TARGET[:, :3]),
        ("multiclass", 3, LOGITS, TARGET[:1]),
        ("multiclass", 4, LOGITS, TARGET),
        ("multiclass", 3, LOGITS.long(), TARGET),
        ("multiclass", 3, LOGITS[:, 0], TARGET),
        ("multiclass", 3, LOGITS, TARGET[:, None]),
        ("multiclass", 3, TARGET[:1], TARGET),
        ("multiclass", 3, LOGITS[0, :, 0, 0], TARGET[0, 0, 0]),
        ("multiclass", 3, TARGET[0, 0, 0], TARGET[0, 0, 0]),
        ("multilabel", 3, LOGITS, TARGET),
        ("multilabel", 3, LOGITS[:, 0, 0, 0], TARGET[:, 0, 0]),
        ("multilabel", 2, LOGITS, LOGITS.long()),
        ("multilabel", 3, LOGITS, LOGITS.long()[:, :1]),
        ("binary", 1, LOGITS, TARGET),
        ("binary", 1, LOGITS[:, 0], TARGET[:, None]),
        ("binary", 1, TARGET[:, None], TARGET),
    ],
)
def test_shapes_that_do_not_fit_are_named_with_what_was_expected(task, num_classes, logits, target):
    metric = MeanIoU(task=task, num_classes=num_classes)
    with pytest.raises(ValueError, match="expected logits") as raised:
        metric.update(logits, target)
    assert str(tuple(logits.shape)) in str(raised.value)
    assert str(tuple(target.shape)) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("value", "ignore_index"), [(3, None), (255, None), (-1, None), (255, 11), (3, 255)])
def test_a_label_that_is_not_a_class_is_named_with_the_remedy(value, ignore_index):
    target = TARGET.clone()
    target[1, 2, 3] = value
    metric = MeanIoU(num_classes=3, ignore_index=ignore_index)
    with pytest.raises(ValueError, match=rf"target holds label {value}, .*labels from 0 to 2, .*ignore_index={value}"):
        metric.update(LOGITS, target)
    assert metric.confusion_matrix.sum() == 0


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_a_logit_of_exactly_0_is_not_a_class(task):
    logits, target = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1, 0], [0, 0]]]])
    assert PixelAccuracy(task=task, num_classes=1)(logits, target) == 0.75


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_a_label_other_than_zero_and_one_is_refused(task):
    target = torch.full((2, 1, 4, 5), 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match="label 2, which is out of range: expected labels from 0 to 1"):
        MeanIoU(task=task, num_classes=1).update(LOGITS[:, :1], target)


def test_a_predicted_label_that_is_not_a_class_is_refused_only_where_it_counts():
    prediction, target = torch.tensor([[0, 7]]), torch.tensor([[0, 255]])
    assert MeanIoU(num_classes=3, ignore_index=255)(prediction, target) == 1
    with pytest.raises(ValueError, match="prediction holds label 7"):
        MeanIoU(num_classes=3, ignore_index=255)(prediction, torch.tensor([[0, 1]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_a_target_that_is_not_of_integers_is_refused(dtype):
    with pytest.raises(ValueError, match=f"target is {dtype}, but scores count hard labels"):
        MeanIoU(num_classes=3).update(LOGITS, TARGET.to(dtype))


@pytest.mark.parametrize("metric", [MeanIoU, DiceScore, PixelAccuracy, ImageMeanIoU])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "panoptic", "num_classes": 3}, "task='panoptic' is unknown"),
        ({"task": "binary", "num_classes": 2}, "num_classes=2 does not fit task='binary'"),
        ({"num_classes": 1}, "num_classes=1 does not fit task='multiclass'"),
        ({"num_classes": 0}, "num_classes=0 must be an integer"),
        ({"num_classes": None}, "num_classes=None must be an integer"),
        ({"task": "binary", "num_classes": True}, "num_classes=True must be an integer"),
        ({"num_classes": 3, "ignore_index": "255"}, "ignore_index='255' must be an integer"),
        ({"num_classes": 3, "ignore_index": True}, "ignore_index=True must be an integer"),
        ({"num_classes": 3, "average": "weighted"}, "average='weighted' is unknown"),
        ({"num_classes": 3, "smooth": 1.0}, "`smooth`"),
    ],
)
def test_bad_arguments_are_refused_at_construction(metric, arguments, message):
    with pytest.raises(ValueError, match=message):
        metric(**arguments)


def test_an_average_over_images_refuses_micro():
    with pytest.raises(ValueError, match="average='micro' is unknown; give one of 'macro', 'none'"):
        ImageMeanIoU(num_classes=3, average="micro")


def test_the_functions_check_as_the_metrics_do():
    with pytest.raises(ValueError, match="target holds label 9"):
        iou(TARGET, TARGET + 9, num_classes=3)
    with pytest.raises(ValueError, match="expected logits"):
        iou_binary(TARGET[:, :2], TARGET)
    with pytest.raises(ValueError, match="num_classes=1 does not fit task='multiclass'"):
        iou(TARGET, TARGET, num_classes=1)
    with pytest.raises(ValueError, match="holds no image"):
        iou_binary(TARGET[:0], TARGET[:0])


def test_multilabel_scores_take_one_vector_for_each_image():
    logits, target = torch.tensor([[1.0, -1.0, 1.0], [1.0, 1.0, -1.0]]), torch.tensor([[1, 0, 0], [1, 1, 1]])
    metrics = [MeanIoU(task="multilabel", num_classes=3, average="none") for _ in range(2)]
    metrics[0].update(logits, target)
    metrics[1].update(logits[..., None], target[..., None])
    assert metrics[0].compute().tolist() == metrics[1].compute().tolist() == [1.0, 1.0, 0.0]
