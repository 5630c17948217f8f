"""Checkpoints: what they may and may not build."""

import pickle
import sys

import pytest
import torch
from torch import nn

import lightning_seg.checkpoint
from lightning_seg.checkpoint import CONFIG_KEY, build_trusted, load_module, module_config, read_checkpoint
from lightning_seg.losses import CrossEntropyLoss
from lightning_seg.module import SegmentationModule

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
    state = build_trusted(module_config({"module": MODULE}), source="test").state_dict() if state is None else state
    torch.save({"state_dict": state, CONFIG_KEY: {"config": {"module": config}, "version": "0"}}, path)
    return path


def test_a_module_comes_back_with_its_weights_ready_for_use(tmp_path):
    network = nn.Conv2d(3, 2, 3, padding=1)
    module = SegmentationModule(network, CrossEntropyLoss(ignore_index=255), num_classes=2, ignore_index=255)
    loaded = load_module(write(tmp_path / "best.ckpt", state=module.state_dict()))
    image = torch.rand(1, 3, 5, 7)
    assert not loaded.training
    assert torch.equal(loaded(image), module(image))


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


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "torch.hub.load",
        "torch.load",
        "torch.utils.cpp_extension.load",
        "hydra.utils.instantiate",
        # Reached through a trusted module, defined elsewhere.
        "lightning_seg.checkpoint.import_module",
        "lightning_seg.checkpoint.pickle.loads",
        "lightning_seg.data.folder.Path.unlink",
        "torch.nn.modules.module.torch.hub.load",
        "torchvision.models._api.importlib.import_module",
        "torchvision.models.resnet.nn.Module.load_state_dict",
        # Not there at all, or no name.
        "torch.nn.Nothing",
        "lightning_seg",
        "",
        None,
        3,
    ],
)
@pytest.mark.parametrize("place", [lambda node: node, lambda node: {"a": [1, {"b": node}]}], ids=["top", "nested"])
def test_only_what_a_trusted_package_defines_is_built(target, place, monkeypatch):
    monkeypatch.setattr(lightning_seg.checkpoint, "instantiate", lambda *_: pytest.fail("it was built"))
    with pytest.raises(ValueError, match=r"best.ckpt asks to build .*, which no trusted package defines"):
        build_trusted(place({"_target_": target}), source="best.ckpt")


@pytest.mark.parametrize(
    "value", ["${oc.create:{_target_: os.system}}", "${oc.env:HOME}", "a ${x}"], ids=["create", "environment", "node"]
)
@pytest.mark.parametrize("key", ["_target_", "loss"])
def test_computed_values_are_refused(key, value):
    with pytest.raises(ValueError, match=f"best.ckpt holds {key}=.*a computed value"):
        build_trusted({"nested": [{key: value}]}, source="best.ckpt")


@pytest.fixture
def research(tmp_path, monkeypatch):
    """A package of somebody's own."""
    (tmp_path / "my_research.py").write_text("import os\nfrom torch import nn\n\nclass Net(nn.Identity):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_research"
    sys.modules.pop("my_research", None)


def test_an_unknown_package_is_named_in_the_message_and_not_imported(research):
    with pytest.raises(ValueError, match=r"'my_research.Net'.*trusted=\[my_research\]"):
        build_trusted({"_target_": "my_research.Net"}, source="best.ckpt")
    assert research not in sys.modules


def test_a_package_of_ones_own_can_be_trusted(research):
    assert type(build_trusted({"_target_": "my_research.Net"}, trusted=[research], source="a")).__name__ == "Net"


def test_trust_in_a_package_does_not_reach_what_it_imports(research):
    with pytest.raises(ValueError, match="no trusted package defines"):
        build_trusted({"_target_": "my_research.os.system"}, trusted=[research], source="a")


def test_a_package_whose_name_only_begins_like_a_trusted_one_is_not_trusted(research):
    with pytest.raises(ValueError, match="no trusted package defines"):
        build_trusted({"_target_": "my_research.Net"}, trusted=["my"], source="a")


def test_trust_in_a_module_does_not_reach_one_whose_name_only_begins_like_it(tmp_path, monkeypatch):
    package = tmp_path / "my_networks"
    package.mkdir()
    for name in ("__init__", "unet", "unet_extra"):
        (package / f"{name}.py").write_text("from torch import nn\n\nclass Net(nn.Identity):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("my_networks.unet", "my_networks.unet_extra", "my_networks"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    trusted = ["my_networks.unet"]
    assert build_trusted({"_target_": "my_networks.unet.Net"}, trusted=trusted, source="a")
    for target in ("my_networks.unet_extra.Net", "my_networks.Net"):
        with pytest.raises(ValueError, match="no trusted package defines"):
            build_trusted({"_target_": target}, trusted=trusted, source="a")


@pytest.mark.parametrize(
    ("name", "given", "loaded"),
    [
        ("encoder_weights", "imagenet", None),
        ("weights", "DEFAULT", None),
        ("weights_backbone", "IMAGENET1K_V1", None),
        ("pretrained", True, False),
    ],
)
def test_nothing_is_downloaded_when_loading(name, given, loaded):
    backbone = {"_target_": "x", name: given, "classes": 2}
    config = {"module": MODULE | {"backbone": backbone}}
    assert module_config(config)["backbone"] == {"_target_": "x", name: loaded, "classes": 2}
    assert backbone[name] == given
    wrapped = {"module": MODULE | {"backbone": {"_target_": "y", "networks": [backbone]}}}
    assert module_config(wrapped)["backbone"]["networks"] == [{"_target_": "x", name: loaded, "classes": 2}]


def test_optimizer_and_scheduler_are_left_out_when_loading():
    assert set(module_config({"module": MODULE})) == set(MODULE) - {"optimizer", "scheduler"}


def test_a_configuration_of_something_else_is_not_a_module(tmp_path):
    config = {"_target_": "lightning_seg.backbones.PadToStride", "backbone": MODULE["backbone"], "stride": 8}
    with pytest.raises(ValueError, match="describes a PadToStride, which is not a SegmentationModule"):
        load_module(write(tmp_path / "other.ckpt", config=config))
