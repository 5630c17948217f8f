"""Checkpoints: what is read of them, and what is not. What they may build: test_trust.py."""

import os
import pickle
import zipfile
from copy import deepcopy

import pytest
import torch
from torch import nn

import lightning_seg.checkpoint
from lightning_seg.checkpoint import CONFIG_KEY, checked_palette, load_module, module_config, read_checkpoint
from lightning_seg.losses import CrossEntropyLoss
from lightning_seg.module import SegmentationModule
from lightning_seg.trust import build_trusted
from tests.audit import audited

MODULE = {
    "_target_": "lightning_seg.module.SegmentationModule",
    "backbone": {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 2, "kernel_size": 3, "padding": 1},
    "loss": {"_target_": "lightning_seg.losses.CrossEntropyLoss", "ignore_index": 255},
    "num_classes": 2,
    "ignore_index": 255,
    "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1},
    "scheduler": {"_target_": "lightning_seg.schedulers.constant", "_partial_": True},
}


def write(path, config=MODULE, state=None):
    state = (
        build_trusted(module_config({"module": MODULE}), "module", source="test").state_dict()
        if state is None
        else state
    )
    torch.save({"state_dict": state, CONFIG_KEY: {"config": {"module": config}, "version": "0"}}, path)
    return path


def test_a_module_comes_back_with_its_weights_ready_for_use(tmp_path):
    network = nn.Conv2d(3, 2, 3, padding=1)
    module = SegmentationModule(network, CrossEntropyLoss(ignore_index=255), num_classes=2, ignore_index=255)
    loaded = load_module(write(tmp_path / "best.ckpt", state=module.state_dict()))
    image = torch.rand(1, 3, 5, 7)
    assert not loaded.training
    assert (loaded.scale, loaded.palette, loaded.reading, loaded.volumes) == (1.0, None, None, None)
    assert torch.equal(loaded(image), module(image))


def test_a_module_with_labels_of_its_own_may_have_more_channels_than_colors():
    class TwoHeads(SegmentationModule):
        def predict_labels(self, logits):
            return logits[:, :-1].argmax(dim=1)

    module = TwoHeads(nn.Conv2d(3, 3, 1), CrossEntropyLoss(), num_classes=3)
    assert checked_palette([[0, 0, 0], [9, 9, 9]], module, "a.ckpt") == [(0, 0, 0), (9, 9, 9)]


def test_other_modules_need_a_color_for_each_label():
    module = SegmentationModule(nn.Conv2d(3, 2, 1), CrossEntropyLoss(), num_classes=2)
    assert checked_palette([[0, 0, 0], [9, 9, 9]], module, "a.ckpt") == [(0, 0, 0), (9, 9, 9)]
    assert checked_palette(None, module, "a.ckpt") is None
    with pytest.raises(ValueError, match=r"a\.ckpt has a palette of length 1 for 2 labels"):
        checked_palette([[0, 0, 0]], module, "a.ckpt")


def test_weights_that_follow_a_schedule_are_those_of_the_checkpoints_epoch(tmp_path):
    ramp = {"_target_": "lightning_seg.losses.LinearWeight", "start": 0, "end": 1, "first_epoch": 0, "last_epoch": 4}
    loss = {
        "_target_": "lightning_seg.losses.CrossEntropyDiceLoss",
        "ignore_index": 255,
        "dice_weight": ramp,
    }
    written = torch.load(write(tmp_path / "best.ckpt", {**MODULE, "loss": loss}))
    torch.save({**written, "epoch": 3}, tmp_path / "best.ckpt")
    assert load_module(tmp_path / "best.ckpt").loss.weights == {"cross_entropy": 1, "dice": 0.75}


def test_a_tilde_in_the_path_is_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "best.ckpt")
    assert isinstance(load_module("~/best.ckpt"), SegmentationModule)


def test_a_checkpoint_without_an_epoch_is_of_the_first(tmp_path):
    assert read_checkpoint(write(tmp_path / "best.ckpt"))["epoch"] == 0


def test_weights_are_read_to_the_device_asked_for(tmp_path):
    state = read_checkpoint(write(tmp_path / "best.ckpt"), map_location="meta")["state_dict"]
    assert {tensor.device.type for tensor in state.values()} == {"meta"}


def test_a_module_is_loaded_to_the_device_asked_for(tmp_path, monkeypatch):
    path, asked = write(tmp_path / "best.ckpt"), []

    def read_on_cpu(path, *, map_location):  # No weights can be copied from the device meta.
        asked.append(map_location)
        return read_checkpoint(path)

    monkeypatch.setattr(lightning_seg.checkpoint, "read_checkpoint", read_on_cpu)
    devices = [next(load_module(path, **to).parameters()).device.type for to in ({}, {"map_location": "meta"})]
    assert devices == asked == ["cpu", "meta"]


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.ckpt does not exist"):
        read_checkpoint(tmp_path / "none.ckpt")


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"epoch": 3}, {CONFIG_KEY: {"config": {}}}, [1, 2], 3])
def test_a_checkpoint_of_another_program_is_explained(tmp_path, content):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="holds no configuration, so it was not written by lightning-seg-train"):
        read_checkpoint(tmp_path / "other.ckpt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02"])
def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "broken.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken.ckpt cannot be read as a checkpoint"):
        read_checkpoint(tmp_path / "broken.ckpt")


class Malicious:
    """Writes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, save):
    save({"state_dict": Malicious(tmp_path / "ran"), CONFIG_KEY: {"config": {}}}, tmp_path / "bad.ckpt")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint without running code"):
        load_module(tmp_path / "bad.ckpt")
    assert not (tmp_path / "ran").exists()


def test_optimizer_and_scheduler_are_left_out_when_loading():
    assert set(module_config({"module": MODULE})) == set(MODULE) - {"optimizer", "scheduler"}


def test_a_configuration_of_something_else_is_not_a_module(tmp_path):
    config = {"_target_": "lightning_seg.backbones.PadToStride", "backbone": MODULE["backbone"], "stride": 8}
    with pytest.raises(ValueError, match=r"asks to build 'lightning_seg.backbones.PadToStride' as module"):
        load_module(write(tmp_path / "other.ckpt", config=config))


def changed(content, path, value):
    """The content with another value in one place, or without it."""
    content = deepcopy(content)
    node = content
    for key in path[:-1]:
        node = node[key]
    if value is GONE:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return content


GONE = ...
CONFIG = (CONFIG_KEY, "config")
WEIGHT = "backbone.weight"
MALFORMED = [
    ((CONFIG_KEY,), None, "lightning_seg.config is missing"),
    ((CONFIG_KEY,), [1], "lightning_seg.config is missing"),
    (CONFIG, GONE, "lightning_seg.config is missing"),
    (CONFIG, [1], "lightning_seg.config is a list"),
    (CONFIG, {}, "config.module is missing"),
    ((*CONFIG, "module"), "text", "config.module is 'text'"),
    ((*CONFIG, "module"), {"a": 1}, "config.module is a mapping without it"),
    ((*CONFIG, "module", "backbone"), 3, "config.module.backbone is 3"),
    ((*CONFIG, "module", "backbone"), GONE, "cannot be built: .*'backbone'"),
    ((*CONFIG, "module", "backbone"), [{"_target_": "torch.nn.Identity"}], "config.module.backbone is a list"),
    ((*CONFIG, "module", "backbone", "kernel_size"), "wide", r"module.backbone \(Conv2d\) cannot be built"),
    ((*CONFIG, "module", "backbone", "depth"), 3, r"module.backbone \(Conv2d\) cannot be built: .*depth"),
    ((*CONFIG, "module", "backbone", "in_channels"), [3], r"\(Conv2d\) cannot be built: in_channels=\[3\] must be an"),
    ((*CONFIG, "module", "background"), [1], r"module\.background=\[1\] must be an integer or null\."),
    ((*CONFIG, "module", "loss", "sync_dist"), "a", r"module\.loss\.sync_dist=a must be true or false\."),
    ((*CONFIG, "module", "loss"), {}, "config.module.loss is an empty mapping"),
    ((*CONFIG, "module", "num_classes"), "two", "config.module.num_classes is 'two'"),
    ((*CONFIG, "module", "num_classes"), 3.5, "config.module.num_classes is 3.5"),
    ((*CONFIG, "module", "class_names"), 5, r"config\.module\.class_names is 5, expected a list of names"),
    ((*CONFIG, "module", "mean"), {"a": "b"}, r"config\.module\.mean is a mapping without it"),
    ((*CONFIG, "module", "when"), torch.zeros(1), "holds a Tensor as config.module.when"),
    ((*CONFIG, "module", 3), 3, "a key of type int"),
    ((*CONFIG, "data"), 3, "config.data is 3"),
    ((*CONFIG, "module", "class_names"), [1, 2, 3], r"config\.module\.class_names is a list, expected a list of names"),
    ((*CONFIG, "module", "tile"), "a", r"config\.module\.tile is 'a', expected a non-negative integer"),
    ((*CONFIG, "module", "margin"), -1, r"config\.module\.margin is -1"),
    ((*CONFIG, "module", "mean"), [float("nan")] * 3, r"config\.module\.mean is a list, expected a list of numbers"),
    (
        (*CONFIG, "module", "test_time_augmentation"),
        {"scales": [1.0] * 99},
        "scales has 99 numbers, expected 32 at most",
    ),
    ((*CONFIG, "palette"), [[0, 0, 0]], "has a palette of length 1 for"),
    ((*CONFIG, "data"), {"_target_": "x", "scale": 60}, "config.data.scale is 60"),
    ((*CONFIG, "data"), {"_target_": "x", "scale": float("nan")}, "config.data.scale is nan"),
    ((*CONFIG, "data"), {"_target_": "x", "scale": "1"}, "config.data.scale is '1'"),
    ((*CONFIG, "data"), {"_target_": "x", "palette": [[0, 0]]}, "config.data.palette is a list"),
    ((*CONFIG, "data"), {"_target_": "x", "palette": [[0, 0, 300]]}, "config.data.palette is a list"),
    ((*CONFIG, "data"), {"_target_": "x", "num_workers": -3}, "config.data.num_workers is -3"),
    ((*CONFIG, "data"), {"_target_": "x", "num_workers": [3]}, "config.data.num_workers is a list"),
    ((*CONFIG, "data"), {"_target_": "x", "image_size": 10**9}, "config.data.image_size is 1000000000"),
    ((*CONFIG, "data"), {"_target_": "x", "num_test": 10**12}, "config.data.num_test is 1000000000000"),
    (("state_dict",), None, "state_dict is missing"),
    (("state_dict",), [1], "state_dict is a list"),
    (("state_dict",), {}, r"its weights do not fit the network .*: 2 missing \(backbone.bias, ...\)"),
    (("state_dict", 3), torch.zeros(1), "state_dict has the key 3"),
    (("state_dict", WEIGHT), "text", r"state_dict\['backbone.weight'\] is 'text'"),
    (("state_dict", WEIGHT), torch.zeros(1).expand(10**9), "is larger than what the file holds of it"),
    (("state_dict", WEIGHT), torch.zeros(2, 3, 3, 3).to_sparse(), "is not a dense tensor"),
    (("state_dict", WEIGHT), torch.zeros(2, 3, 3, 3, device="meta"), "is not a dense tensor"),
    (("state_dict", WEIGHT), torch.zeros(2, 3, 5, 5), r"1 of another shape \(backbone.weight: \(2, 3, 5, 5\), not"),
    (("state_dict", "backbone.more"), torch.zeros(1), r"1 unknown to the network \(backbone.more\)"),
    (("state_dict", WEIGHT), GONE, r"1 missing \(backbone.weight\); it was written by lightning-seg 0"),
    (("epoch",), "three", "epoch is 'three'"),
    (("epoch",), -1, "epoch is -1"),
    (("epoch",), True, "epoch is True"),
]


@pytest.mark.parametrize(
    "part",
    [
        {"num_workers": 0},
        {"num_workers": "???", "eval_batch_size": "???"},
        {"scale": 1 / 64},
        {"palette": [[0, 0, 255]]},
    ],
)
def test_data_of_a_checkpoint_may_have_the_least_values_and_those_that_were_left_out(tmp_path, part):
    content = torch.load(write(tmp_path / "best.ckpt"))
    content[CONFIG_KEY]["config"]["data"] = {"_target_": "x", **part}
    torch.save(content, tmp_path / "best.ckpt")
    assert read_checkpoint(tmp_path / "best.ckpt")["config"]["data"] == {"_target_": "x", **part}


@pytest.mark.parametrize(("path", "value", "words"), MALFORMED, ids=lambda part: str(part)[:60])
def test_the_part_of_a_malformed_checkpoint_that_is_wrong_is_named_in_one_line(tmp_path, path, value, words):
    content = changed(torch.load(write(tmp_path / "best.ckpt")), path, value)
    torch.save(content, tmp_path / "best.ckpt")
    with pytest.raises(ValueError, match=words) as wrong:
        load_module(tmp_path / "best.ckpt")
    assert str(wrong.value).startswith(str(tmp_path / "best.ckpt"))
    assert "\n" not in str(wrong.value)


def repacked(path, compression=zipfile.ZIP_STORED, more=()):
    """The archive of a checkpoint with other compression, or further entries."""
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in [*entries, *more]:
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: repacked(path, zipfile.ZIP_DEFLATED), "its entries are compressed"),
        (lambda path: repacked(path, more=[("best/data.pkl", b"\x80\x02N.")]), "its entries overlap"),
        (lambda path: repacked(path, more=[("best/constants.pkl", b"\x80\x02N.")]), "TorchScript"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "not an archive"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "not an archive"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_that_torch_would_not_write_is_refused(tmp_path, damage, words):
    damage(write(tmp_path / "best.ckpt"))
    with pytest.raises(ValueError, match=f"cannot be read as a checkpoint without running code from it: .*{words}"):
        read_checkpoint(tmp_path / "best.ckpt")


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.ckpt")
    (tmp_path / "folder.ckpt").mkdir()
    (tmp_path / "link.ckpt").symlink_to(tmp_path / "link.ckpt")
    (tmp_path / "device.ckpt").symlink_to("/dev/zero")
    for name in ("pipe", "folder", "link", "device"):
        with pytest.raises(ValueError, match=rf"{name}.ckpt"):
            read_checkpoint(tmp_path / f"{name}.ckpt")


def test_a_few_kilobytes_of_shared_lists_are_counted_as_what_they_stand_for(tmp_path):
    node = [0] * 10
    for _ in range(9):
        node = [node] * 10
    with pytest.raises(ValueError, match="holds more than any configuration of lightning_seg"):
        load_module(write(tmp_path / "best.ckpt", config=MODULE | {"note": node}))


def test_loading_opens_nothing_but_the_checkpoint(tmp_path):
    path = write(tmp_path / "best.ckpt")
    load_module(path)
    with audited(allowed=path) as happened:
        load_module(path)
    assert happened == []
