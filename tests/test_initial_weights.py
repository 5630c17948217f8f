"""Weights to begin with: what fits is loaded, and everything else is said."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.models import adapt_input_conv
from torch import Tensor, nn

from lightning_seg.backbones import PadToStride
from lightning_seg.initial_weights import load_weights, print_loaded, read_weights
from lightning_seg.module import SegmentationModule
from tests.console import SHORT, SMALL, Run
from tests.small_module import Network, build

State = dict[str, Tensor]


def network(classes: int = 3) -> nn.Module:
    """An encoder with a norm, and a head."""
    part = Network(classes=classes)  # type: ignore[no-untyped-call]
    part.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return part


def module(classes: int = 3, wrapped: bool = True) -> SegmentationModule:
    inner = network(classes)
    names = [str(index) for index in range(classes)]
    made: SegmentationModule = build(
        PadToStride(inner, 2) if wrapped else inner, num_classes=classes, class_names=names
    )
    return made


def begun(state: State, prefix: str = "") -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    ("names", "loaded"),
    [
        (lambda source: source.state_dict(), 9),
        (lambda source: source.backbone.state_dict(), 9),
        (lambda source: source.backbone.backbone.state_dict(), 9),
        (lambda source: begun(source.backbone.backbone.state_dict(), "model.net."), 9),
        (lambda source: begun(source.backbone.backbone.state_dict(), "_orig_mod."), 9),
        (lambda source: source.backbone.backbone.encoder.state_dict(), 7),
        (lambda source: begun(source.backbone.backbone.encoder.state_dict(), "module.encoder."), 7),
        (lambda source: begun(source.backbone.backbone.encoder.state_dict(), "student.body."), 7),
    ],
)
def test_names_may_be_those_of_the_module_the_network_or_its_encoder_and_begin_in_any_way(
    names: Callable[[Any], State], loaded: int
) -> None:
    source, target = module(), module()
    result = load_weights(target, names(source), source="file")
    assert (len(result.loaded), len(result.missing), result.unexpected) == (loaded, 9 - loaded, [])
    for name in result.loaded:
        assert torch.equal(target.state_dict()[name], source.state_dict()[name]), name


def test_a_head_for_other_classes_stays_as_it_was_made_and_is_said_with_both_shapes(capsys: Any) -> None:
    source, target = module(classes=5), module()
    before = target.backbone.backbone.head.weight.clone()  # type: ignore[union-attr]
    result = load_weights(target, {**source.state_dict(), "ema.decay": torch.ones(1)}, source="file")
    assert result.other_shape == {
        "backbone.backbone.head.weight": ((5, 4, 1, 1), (3, 4, 1, 1)),
        "backbone.backbone.head.bias": ((5,), (3,)),
    }
    assert (len(result.loaded), result.missing, result.unexpected) == (7, [], ["ema.decay"])
    assert torch.equal(target.backbone.backbone.head.weight, before)  # type: ignore[union-attr, arg-type]
    assert result.parameters == (112 + 8, 112 + 8 + 15)
    print_loaded(result, "best.ckpt")
    table = capsys.readouterr().out
    assert "init_from=best.ckpt: 120 of 135 parameters loaded" in table
    for words in ("other shape", "unexpected", "ema.decay", "(5, 4, 1, 1)", "(3, 4, 1, 1)"):
        assert words in table


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_first_layer_for_other_channels_is_adapted_as_timm_does(channels: int, capsys: Any) -> None:
    source, target = module(), module()
    target.backbone.backbone.encoder[0] = nn.Conv2d(channels, 4, 3)
    result = load_weights(target, source.state_dict(), source="file")
    assert (len(result.loaded), result.other_shape) == (9, {})
    first, adapted = (one.backbone.backbone.encoder[0] for one in (source, target))
    expected = adapt_input_conv(channels, first.weight) if channels != 2 else first.weight[:, :2] * 1.5
    torch.testing.assert_close(adapted.weight, expected)
    print_loaded(result, "file")
    printed = capsys.readouterr().out
    assert "adapted" in printed
    assert f"in the file, {channels}" in printed


def test_the_weights_of_the_loss_are_not_those_of_another_training() -> None:
    target, loss = module(), nn.Linear(2, 2)
    target.loss = loss
    before = loss.weight.clone()
    load_weights(target, {**module().state_dict(), "loss.weight": torch.ones(2, 2)}, source="file")
    assert torch.equal(loss.weight, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {"other.weight": torch.ones(2)}, "none of its 1 tensors fits .* the file has other"),
        (lambda state: {name: value[None] for name, value in state.items()}, "none of its 9 tensors fits"),
        (lambda state: {name: value * torch.nan for name, value in state.items()}, "holds numbers that are not finite"),
    ],
)
def test_weights_of_which_nothing_is_of_use_are_refused(change: Callable[[State], State], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_weights(module(), change(module().state_dict()), source="file")


@pytest.mark.parametrize(
    "write",
    [
        torch.save,
        save_file,
        lambda state, path: torch.save({"state_dict": state, "epoch": 3}, path),
        lambda state, path: torch.save({"model": state, "optimizer": {"state": {}}}, path),
        lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    ],
    ids=["state dict", "safetensors", "checkpoint", "nested", "of an old torch"],
)
def test_the_forms_in_which_weights_are_kept_are_read(write: Callable[[State, Path], None], tmp_path: Path) -> None:
    state = network().state_dict()
    write(state, tmp_path / "weights")
    read = read_weights(tmp_path / "weights")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


def compressed(path: Path) -> None:
    torch.save({"a": torch.zeros(2**20)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def endless(path: Path) -> None:
    content: dict[str, object] = {}
    content["model"] = content
    torch.save(content, path)


def objects(path: Path) -> None:
    torch.save(nn.Linear(2, 2), path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, r"init_from=\S+ does not exist; a run keeps its own in RUN/checkpoints/best.ckpt"),
        (lambda path: path.mkdir(), r"is not a file; a run's checkpoint is RUN/checkpoints/best.ckpt"),
        (lambda path: path.write_text("text"), "is neither a checkpoint, nor a state dict of torch.save, nor safeten"),
        (lambda path: path.write_bytes(b""), "is neither a checkpoint"),
        (compressed, r"its entries are compressed, as torch\.save never does"),
        (endless, "holds the keys model, not a mapping from names to tensors"),
        (objects, r"holds objects, such as a whole network, .* save its state_dict\(\)"),
        (lambda path: torch.save({"a": 1, "b": 2}, path), "holds the keys a, b, not a mapping from names to tensors"),
        (lambda path: torch.save([torch.ones(1)], path), "holds no mapping"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(
    write: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "weights")
    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        read_weights(tmp_path / "weights")
    assert "\n" not in str(raised.value)


STEP = [
    *SMALL,
    *SHORT,
    "trainer.limit_train_batches=1",
    "callbacks=[checkpoint,last]",
    "test=false",
    "optimizer.lr=0",
    "loss=ce",
]


def test_a_training_begins_with_the_weights_of_another_and_a_file_is_checked_before_any_work(
    run: Run, fails: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run("lightning-seg-train", *STEP, "run=first")
    said = run(
        "lightning-seg-train", *STEP, "run=second", "seed=1", "init_from=runs/first/checkpoints/best.ckpt",
        "task=binary", "data.num_classes=1", "data.class_names=[object]",
    )  # fmt: skip
    assert "init_from=runs/first/checkpoints/best.ckpt" in said
    assert said.count("other shape") == 2
    first, second = (read_weights(tmp_path / f"runs/{name}/checkpoints/best.ckpt") for name in ("first", "second"))
    same = [name for name in first if torch.equal(first[name], second[name])]
    weights = [name for name in first if "running" not in name and "num_batches" not in name]
    assert set(weights) - set(same) == {f"backbone.backbone.segmentation_head.0.{name}" for name in ("weight", "bias")}

    assert "init_from=none.ckpt does not exist" in fails(
        "lightning-seg-train", *STEP, "run=third", "init_from=none.ckpt"
    )
    assert not (tmp_path / "runs/third").exists()
