"""What a loss refuses, at construction and when called, and what it says then."""

import inspect
import math
import re

import pytest
import torch
from omegaconf import OmegaConf

from lightning_seg.losses import (
    CrossEntropyDiceLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    GeneralizedDiceLoss,
    HausdorffDistanceLoss,
    LovaszHingeLoss,
    LovaszSoftmaxLoss,
)

ALL = [CrossEntropyLoss, FocalLoss, DiceLoss, LovaszSoftmaxLoss, LovaszHingeLoss, CrossEntropyDiceLoss]
REGIONS = [DiceLoss, LovaszSoftmaxLoss, LovaszHingeLoss, CrossEntropyDiceLoss]
LOGITS = torch.zeros(2, 4, 6, 5)
TARGET = torch.zeros(2, 6, 5, dtype=torch.int64)


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "binaray"}, "task='binaray' is unknown; expected one of 'binary', 'multilabel', 'multiclass'."),
        ({"ignore_index": 2.0}, "ignore_index=2.0 must be an integer, or None to count every pixel."),
        ({"ignore_index": True}, "ignore_index=True must be an integer"),
        ({"class_weights": [1, -1], "task": "multilabel"}, "class_weights=[1.0, -1.0] must be finite, not negative"),
        ({"class_weights": [0, 0], "task": "multilabel"}, "class_weights=[0.0, 0.0] must be finite"),
        ({"class_weights": [float("nan")], "task": "multilabel"}, "class_weights=[nan] must be finite"),
        (
            {"class_weights": 2.0, "task": "multilabel"},
            "class_weights=2.0 is not a list with one number for each class",
        ),
        ({"class_weights": [2.0], "task": "binary"}, "class_weights balance classes against each other"),
    ],
)
def test_a_bad_common_option_is_refused_in_one_line(loss, options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        loss(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("loss", REGIONS)
@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("presnt", "classes='presnt' is neither 'all', 'present' nor a list"),
        (3, "classes=3 is neither"),
        ([], "classes=[] is neither"),
        ([-1], "classes=[-1] is neither"),
        ([1.0], "classes=[1.0] is neither"),
        ([1, 1], "classes=[1, 1] names a class twice."),
    ],
)
def test_bad_classes_are_refused(loss, classes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        loss(classes=classes)


@pytest.mark.parametrize("loss", [CrossEntropyLoss, FocalLoss])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "avg"}, "reduction='avg' is not one of mean, sum, none."),
        (
            {"reduction": "sum", "per_image": True},
            "per_image=True averages over images and does not work with reduction='sum'",
        ),
        ({"reduction": "none", "per_image": True}, "per_image=True averages over images"),
        ({"reduction": "none", "sync_dist": True}, "reduction='none' sums nothing"),
    ],
)
def test_options_that_exclude_each_other_are_refused(loss, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        loss(**options)


@pytest.mark.parametrize(
    ("loss", "option"),
    [
        (CrossEntropyLoss, {"classes": "present"}),
        (CrossEntropyLoss, {"average": "micro"}),
        (FocalLoss, {"classes": [1]}),
        (DiceLoss, {"reduction": "none"}),
        (LovaszSoftmaxLoss, {"average": "micro"}),
        (LovaszHingeLoss, {"reduction": "sum"}),
        (CrossEntropyDiceLoss, {"reduction": "none"}),
        (DiceLoss, {"smoth": 1.0}),
    ],
)
def test_an_option_without_a_meaning_for_the_loss_does_not_exist(loss, option):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{next(iter(option))}'"):
        loss(**option)


@pytest.mark.parametrize("label_smoothing", [-0.1, 1.0, None])
def test_label_smoothing_out_of_range_is_refused(label_smoothing):
    with pytest.raises(
        ValueError, match=r"label_smoothing=.* (is not a finite number of 0 or more|it must be less than 1)"
    ):
        CrossEntropyLoss(label_smoothing=label_smoothing)


def test_gamma_below_zero_is_refused():
    with pytest.raises(ValueError, match="gamma=-1 is not a finite number of 0 or more"):
        FocalLoss(gamma=-1)


@pytest.mark.parametrize("loss", [CrossEntropyLoss, FocalLoss, DiceLoss, LovaszSoftmaxLoss, CrossEntropyDiceLoss])
def test_the_number_of_class_weights_must_be_that_of_the_channels(loss):
    with pytest.raises(ValueError, match="class_weights has 3 numbers and the logits have 4 classes"):
        loss(class_weights=[1, 2, 3])(LOGITS, TARGET)


def test_the_number_of_alphas_must_be_that_of_the_channels():
    with pytest.raises(ValueError, match="alpha has 3 numbers and the logits have 4 classes"):
        FocalLoss(alpha=[1, 2, 3])(LOGITS, TARGET)


@pytest.mark.parametrize("loss", [DiceLoss, LovaszSoftmaxLoss])
def test_a_class_index_beyond_the_channels_is_refused(loss):
    with pytest.raises(ValueError, match=re.escape("classes=[0, 7] do not all exist: the logits have 4 classes.")):
        loss(classes=[0, 7])(LOGITS, TARGET)


@pytest.mark.parametrize("numbers", [(1.0, 2.0, 0.5, 1.0), torch.tensor([1.0, 2.0, 0.5, 1.0])])
def test_class_weights_may_be_any_sequence_from_yaml_or_a_tensor(numbers):
    expected = CrossEntropyLoss(class_weights=[1.0, 2.0, 0.5, 1.0])(LOGITS, TARGET)
    assert torch.equal(CrossEntropyLoss(class_weights=numbers)(LOGITS, TARGET), expected)
    from_yaml = OmegaConf.create({"class_weights": [1, 2, 0.5, 1], "classes": [0, 2]})
    assert torch.equal(CrossEntropyLoss(class_weights=from_yaml.class_weights)(LOGITS, TARGET), expected)
    expected = DiceLoss(class_weights=[1, 2, 0.5, 1], classes=[0, 2])(LOGITS, TARGET)
    assert torch.equal(DiceLoss(**from_yaml)(LOGITS, TARGET), expected)


def test_class_weights_move_with_the_module_and_stay_out_of_checkpoints():
    loss = CrossEntropyLoss(class_weights=[1, 2, 3, 4])
    assert loss.double().class_weights.dtype == torch.float64
    assert "class_weights" in dict(loss.named_buffers())
    torch.nn.Sequential(DiceLoss()).load_state_dict(torch.nn.Sequential(loss).state_dict())


@pytest.mark.parametrize("loss", [CrossEntropyLoss, FocalLoss, DiceLoss, LovaszSoftmaxLoss, CrossEntropyDiceLoss])
@pytest.mark.parametrize(
    ("logits", "target", "error", "message"),
    [
        (
            LOGITS.long(),
            TARGET,
            TypeError,
            "logits are torch.int64, not floating point; the call is loss(logits, target).",
        ),
        (LOGITS, TARGET.to(torch.complex64), TypeError, "target is torch.complex64; give bool or integer labels"),
        (
            LOGITS,
            TARGET[:, :5],
            ValueError,
            "target is torch.int64 of shape (2, 5, 5) and logits have shape (2, 4, 6, 5)",
        ),
        (LOGITS, TARGET[:1], ValueError, "expects integer class indices in shape (2, 6, 5)."),
        (LOGITS, TARGET[:, None], ValueError, "of shape (2, 1, 6, 5) and logits have shape (2, 4, 6, 5)"),
        (LOGITS[0, 0, 0], TARGET, ValueError, "logits of shape (5,) have no class channel; expected (N, C, *spatial)."),
        (LOGITS[:, :1], TARGET, ValueError, "multiclass logits have one channel, whose softmax is always 1"),
        (LOGITS.to("meta"), TARGET, ValueError, "logits are on meta and target on cpu; move them to one device."),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_one_line(loss, logits, target, error, message):
    with pytest.raises(error, match=re.escape(message)) as raised:
        loss()(logits, target)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("loss", ALL)
def test_binary_shapes_that_do_not_fit_are_refused(loss):
    shape, of_target = (2, 5, 6), (2, 6, 5)
    with pytest.raises(
        ValueError, match=re.escape(f"binary logits of shape {shape} do not fit a target of shape {of_target}")
    ):
        loss(task="binary")(torch.zeros(shape), torch.zeros(of_target, dtype=torch.int64))


@pytest.mark.parametrize(
    ("shape", "of_target"),
    [
        *(((2, 2, 6, 5), (2, 6, 5)), ((1, 6, 5), (2, 6, 5)), ((2, 6, 5), (2, 2, 6, 5)), ((2, 6, 5), (2, 30))),
        *(((4,), (3,)), ((4, 5), (4,)), ((4,), (4, 5)), ((4, 1), (5,)), ((4,), (5, 1)), ((4, 1), (4, 1, 1, 1))),
        *(((), (4,)), ((4,), ()), ((4, 1), ()), ((), ())),
    ],
)
def test_binary_pairs_of_shapes_that_do_not_fit_are_refused(shape, of_target):
    message = f"binary logits of shape {shape} do not fit a target of shape {of_target}; both are (N, *spatial) or"
    with pytest.raises(ValueError, match=re.escape(message)):
        CrossEntropyLoss(task="binary")(torch.zeros(shape), torch.zeros(of_target, dtype=torch.int64))


@pytest.mark.parametrize("shape", [(2, 6, 5), (4,), (2, 1, 5)])
def test_logits_and_target_of_the_binary_task_each_have_a_channel_or_not(shape):
    logits, target = torch.arange(math.prod(shape)).view(shape) - 1.5, torch.arange(math.prod(shape)).view(shape) % 3
    target = target.clamp(max=1)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, target.float())
    for z in (logits, logits.unsqueeze(1)):
        for t in (target, target.unsqueeze(1)):
            torch.testing.assert_close(CrossEntropyLoss(task="binary")(z, t), expected)


@pytest.mark.parametrize("loss", ALL)
def test_multilabel_targets_have_the_shape_of_the_logits(loss):
    with pytest.raises(ValueError, match=re.escape("expects 0 and 1, or probabilities, in shape (2, 4, 6, 5).")):
        loss(task="multilabel")(LOGITS, TARGET)


@pytest.mark.parametrize("loss", [CrossEntropyLoss, FocalLoss, DiceLoss, LovaszSoftmaxLoss, CrossEntropyDiceLoss])
@pytest.mark.parametrize("label", [255, -1, 4])
def test_a_label_out_of_range_names_the_value_the_classes_and_the_remedy(loss, label):
    target = TARGET.clone()
    target[1, 2, 3] = label
    message = (
        f"target holds label {label}, which is out of range: expected labels from 0 to 3, with ignore_index=11; "
        f"correct the labels, set num_classes, or set ignore_index={label} if it marks void pixels."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        loss(ignore_index=11)(LOGITS, target)
    assert loss(ignore_index=label)(LOGITS, target).isfinite()


@pytest.mark.parametrize("task", ["binary", "multilabel"])
@pytest.mark.parametrize("loss", ALL)
def test_a_label_that_is_neither_0_nor_1_is_refused(loss, task):
    logits = torch.zeros(2, 1, 6, 5)
    target = torch.full((2, 1, 6, 5), 255, dtype=torch.uint8)
    with pytest.raises(
        ValueError, match=r"label 255, which is out of range: expected labels from 0 to 1, .* set ignore_index=255"
    ):
        loss(task=task)(logits, target)


@pytest.mark.parametrize("loss", [CrossEntropyLoss, DiceLoss])
@pytest.mark.parametrize("value", [1.5, -0.25, float("nan")])
def test_a_soft_target_that_is_not_a_probability_is_refused(loss, value):
    soft = torch.full((2, 4, 6, 5), 0.25)
    soft[0, 1, 2, 3] = value
    with pytest.raises(ValueError, match=rf"probability {value} is out of range: expected probabilities from 0 to 1"):
        loss()(LOGITS, soft)


def test_minus_one_ignores_no_255_of_a_uint8_target():
    target = torch.full((2, 6, 5), 255, dtype=torch.uint8)
    with pytest.raises(ValueError, match="label 255, which is out of range"):
        CrossEntropyLoss(ignore_index=-1)(LOGITS, target)


def test_where_the_host_must_not_wait_the_device_asserts_with_the_same_hint(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with pytest.raises(RuntimeError, match="label out of range: expected 0 to 3, and ignore_index="):
        CrossEntropyLoss()(LOGITS, TARGET + 255)


@pytest.mark.parametrize(
    ("loss", "named"),
    [
        (DiceLoss, {"squared": False, "smooth": 1.0, "average": "macro", "classes": "all", "task": "multiclass"}),
        (GeneralizedDiceLoss, {"smooth": 1.0, "per_image": False}),
        (LovaszHingeLoss, {"classes": "all", "per_image": True, "task": "binary", "method": "histogram"}),
        (HausdorffDistanceLoss, {"alpha": 2.0, "spacing": None, "sync_dist": False}),
    ],
)
def test_help_shows_every_argument_by_name_and_default(loss, named):
    parameters = inspect.signature(loss).parameters
    assert {name: parameters[name].default for name in named} == named
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters.values())
