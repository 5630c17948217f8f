"""The one check of what the classes of a task are, and of labels."""

import pytest
import torch

from lightning_seg.task import check_classes, check_labels, check_same_task, may_look


@pytest.mark.parametrize(
    ("task", "num_classes", "ignore_index", "names", "message"),
    [
        (
            "semantic",
            3,
            None,
            "abc",
            "task='semantic' is unknown; expected one of 'binary', 'multilabel', 'multi",
        ),
        ("binary", 2, None, "ab", "num_classes=2 does not fit task='binary'"),
        ("multiclass", 1, None, "a", "num_classes=1 does not fit task='multiclass'"),
        ("multiclass", 2.0, None, "ab", r"num_classes=2\.0 must be an integer"),
        ("multiclass", 2, "255", "ab", "ignore_index='255' must be an integer"),
        ("multiclass", 3, None, "ab", "2 class_names were given for num_classes=3"),
        ("multiclass", 3, 2, "abc", 'ignore_index=2 is also class 2 "c"'),
        ("multilabel", 3, 1, "abc", "ignore_index=1 is also class 1;"),
        ("binary", 1, 0, "a", "ignore_index=0 is also class 0;"),
    ],
)
def test_classes_that_cannot_be_are_refused(task, num_classes, ignore_index, names, message):
    with pytest.raises(ValueError, match=message):
        check_classes(task, num_classes, ignore_index, list(names))


@pytest.mark.parametrize(
    ("task", "num_classes", "ignore_index"),
    [("multiclass", 3, None), ("multiclass", 3, 3), ("multiclass", 3, -1), ("multilabel", 3, 2), ("binary", 1, 255)],
)
def test_classes_that_can_be_are_not(task, num_classes, ignore_index):
    check_classes(task, num_classes, ignore_index, [str(index) for index in range(num_classes)])


def test_a_loss_of_another_task_or_void_is_refused_and_one_that_has_neither_is_not():
    class Loss:
        task, ignore_index = "binary", 255

    check_same_task(Loss(), "binary", 255)
    check_same_task(object(), "multiclass", None)
    for arguments, name in ((("multilabel", 255), "task"), (("binary", None), "ignore_index")):
        with pytest.raises(ValueError, match=f"the loss was built with {name}="):
            check_same_task(Loss(), *arguments)


def test_values_may_be_looked_at_unless_a_compiler_traces():
    looked = []

    def look(tensor):
        looked.append(may_look(tensor))
        return tensor + 1

    torch.compiler.reset()
    look(torch.zeros(2))
    torch.compile(look, backend="eager")(torch.zeros(2))
    assert looked == [True, False]


def test_labels_are_checked_within_a_compiled_function_without_a_break():
    torch.compiler.reset()

    def checked(labels):
        check_labels(labels, 3, 255, valid=labels != 255)
        return labels + 1

    compiled = torch.compile(checked, backend="eager", fullgraph=True)
    assert compiled(torch.tensor([0, 2, 255])).tolist() == [1, 3, 256]
    with pytest.raises(RuntimeError, match="target holds a label out of range: expected 0 to 2, and ignore_index=255"):
        compiled(torch.tensor([0, 3, 255]))
    with pytest.raises(ValueError, match="target holds label 3, which is out of range"):
        checked(torch.tensor([0, 3, 255]))
