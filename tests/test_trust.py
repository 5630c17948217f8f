"""What a file may build, and the attacks that it may not succeed with."""

import importlib
import inspect
import pkgutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from omegaconf import OmegaConf
from torch import nn
from torchvision.transforms import v2

from lightning_seg import trust
from lightning_seg.bounds import DEEPEST, LONGEST, MOST_VALUES, Bounded, check_values
from lightning_seg.checkpoint import module_config
from lightning_seg.data import ShapesDataModule
from lightning_seg.losses import LinearWeight
from lightning_seg.module import SegmentationModule
from lightning_seg.trust import build_trusted, own_packages
from lightning_seg.trusted import CLASSES, FUNCTIONS, Role, Source, is_of
from tests.audit import audited
from tests.compositions import of_choice

CONF = Path(__file__).parents[1] / "conf"
NETWORK = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 2, "kernel_size": 3, "padding": 1}
LOSS = {"_target_": "lightning_seg.losses.CrossEntropyLoss", "ignore_index": 255}
MODULE = {
    "_target_": "lightning_seg.module.SegmentationModule",
    "backbone": NETWORK,
    "loss": LOSS,
    "num_classes": 2,
    "ignore_index": 255,
}
UNET = {
    "_target_": "lightning_seg.backbones.segmentation_model",
    "architecture": "Unet",
    "encoder_name": "resnet18",
    "encoder_weights": None,
    "in_channels": 3,
    "classes": 2,
}
SHAPES = {
    "_target_": "lightning_seg.data.ShapesDataModule",
    **{"num_train": 2, "num_val": 2, "num_test": 2, "image_size": 32, "seed": 0, "batch_size": 2},
}


def build(backbone: Any = NETWORK, loss: Any = LOSS, trusted: tuple[str, ...] = (), **others: Any) -> Any:
    return build_trusted(
        {**MODULE, "backbone": backbone, "loss": loss, **others}, "module", trusted=trusted, source="best.ckpt"
    )


def training_with(group: str, choice: str, **values: Any) -> Any:
    """The resolved configuration of a training with this choice of a group, and other values."""
    config = deepcopy(of_choice(group, choice))
    config.merge_with(values)
    return OmegaConf.to_container(config, resolve=True)


# ---- what is allowed


def choices(group: str) -> list[str]:
    return sorted({path.stem for path in (CONF / group).glob("*.yaml")} - {"custom"})


@pytest.mark.slow
@pytest.mark.parametrize("backbone", choices("backbone"))
def test_every_backbone_of_the_configuration_is_built_and_opens_nothing(backbone: str) -> None:
    importlib.import_module("torch.distributed.elastic.multiprocessing")  # which opens libc as MONAI imports it
    config = training_with("backbone", backbone)
    with audited() as happened:
        module = build_trusted(module_config(config), "module", source="best.ckpt", tensors=1000, memory=2**27)
    assert isinstance(module, SegmentationModule)
    assert happened == []


BINARY = {"task": "binary", "data": {"num_classes": 1, "class_names": ["object"]}}


@pytest.mark.parametrize("loss", choices("loss"))
def test_every_loss_of_the_configuration_is_built(loss: str) -> None:
    changes: dict[str, Any] = {"lovasz_hinge": BINARY, "weighted_ce": {"loss": {"class_weights": [1] * 6}}}
    config = training_with("loss", loss, **changes.get(loss, {}))
    config["module"]["backbone"] = NETWORK
    module = build_trusted(module_config(config), "module", source="best.ckpt")
    assert type(module.loss).__name__ == config["loss"]["_target_"].split(".")[-1]


@pytest.mark.parametrize("augment", choices("augment"))
def test_the_data_and_augmentation_of_the_configuration_are_built(augment: str) -> None:
    config = training_with("augment", augment)
    assert isinstance(build_trusted(config["data"], "data", source="best.ckpt"), ShapesDataModule)


@pytest.mark.parametrize(
    "node",
    [
        {**NETWORK, "_target_": "torch.nn.modules.conv.Conv2d"},
        {"_target_": "lightning_seg.backbones.PadToStride", "backbone": NETWORK, "stride": 2},
        {"_target_": "segmentation_models_pytorch.FPN", "encoder_name": "resnet18", "classes": 2},
        {"_target_": "torchvision.models.segmentation.lraspp_mobilenet_v3_large", "num_classes": 2},
        {**UNET, "encoder_name": "tu-resnet18.a1_in1k", "encoder_weights": "imagenet"},
        {
            "_target_": "monai.networks.nets.UNet",
            **{"spatial_dims": 2, "in_channels": 3, "out_channels": 2, "channels": [4, 8], "strides": [2]},
            "act": ["LeakyReLU", {"negative_slope": 0.1}],
        },
        {
            "_target_": "transformers.SegformerForSemanticSegmentation",
            "config": {
                "_target_": "transformers.SegformerConfig",
                **{"num_labels": 2, "hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16},
            },
        },
    ],
    ids=lambda node: node["_target_"],
)
def test_networks_of_listed_packages_are_built_without_a_download(node: dict[str, Any]) -> None:
    pytest.importorskip(node["_target_"].split(".")[0])
    with audited() as happened:
        assert isinstance(build(node).backbone, nn.Module)
    assert happened == []


def test_a_loss_of_another_listed_package_is_built() -> None:
    dice = {"_target_": "monai.losses.DiceLoss", "softmax": True}
    assert isinstance(build(loss=dice, ignore_index=None).loss, nn.Module)
    entropy = {"_target_": "torch.nn.CrossEntropyLoss", "ignore_index": 255}
    assert isinstance(build(loss=entropy).loss, nn.CrossEntropyLoss)


def test_containers_are_plain_and_values_arrive_as_they_were() -> None:
    ramp = {"_target_": "lightning_seg.losses.LinearWeight", "start": 0, "end": 1, "first_epoch": 0, "last_epoch": 4}
    terms = {"ce": LOSS, "dice": {"_target_": "lightning_seg.losses.DiceLoss", "ignore_index": 255}}
    loss = build(
        loss={"_target_": "lightning_seg.losses.CompoundLoss", "terms": terms, "weights": {"ce": 1.0, "dice": ramp}}
    ).loss
    loss.set_epoch(1)
    assert loss.weights == {"ce": 1.0, "dice": 0.25}


# ---- attacks by name

TARGETS = [
    # Functions and classes of trusted packages that are no network, loss or data module.
    "lightning.pytorch.trainer.call._call_lightning_datamodule_hook",
    "lightning.pytorch.trainer.call._call_and_handle_interrupt",
    "lightning.pytorch.trainer.Trainer",
    "lightning.Trainer",
    "lightning.pytorch.strategies.FSDPStrategy",
    "lightning.pytorch.callbacks.LambdaCallback",
    "torch.distributed.fsdp.wrap.size_based_auto_wrap_policy",
    "lightning_seg.checkpoint.load_module",
    "lightning_seg.trust.build_trusted",
    "lightning_seg.files.atomic_write",
    "lightning_seg.runs.folder.discard_empty_run",
    "lightning_seg.data.load_image",
    "lightning_seg.data.FolderDataset",
    "lightning_seg.data.folder.Path",
    "lightning_seg.losses.engine.triton_kernels.triton",
    "torch.nn.functional.relu",
    "torch.nn.init.ones_",
    "torch.nn.parallel.DataParallel",
    "torch.nn.modules.transformer._get_clones",
    "torch.nn.TransformerEncoder",
    "torch.nn.modules.transformer.TransformerDecoder",
    "torchvision.models.get_model",
    "torchvision.models.resnet18",
    "torchvision.models._api._get_enum_from_fn",
    "torchvision.models._utils.handle_legacy_interface",
    "torchvision.models.detection.fasterrcnn_resnet50_fpn",
    "segmentation_models_pytorch.from_pretrained",
    "segmentation_models_pytorch.create_model",
    "segmentation_models_pytorch.encoders.get_encoder",
    "segmentation_models_pytorch.decoders.unet.model.get_encoder",
    "monai.losses.PerceptualLoss",
    "monai.losses.perceptual.MedicalNetPerceptualSimilarity",
    "monai.networks.nets.EfficientNetBN",
    "monai.networks.nets.Transchex",
    "monai.bundle.load",
    "transformers.pipeline",
    "transformers.AutoModel",
    "transformers.BertModel",
    "transformers.SegformerForSemanticSegmentation.from_pretrained",
    # Ways to anything at all.
    "os.system",
    "posix.system",
    "builtins.eval",
    "builtins.getattr",
    "functools.partial",
    "types.FunctionType",
    "operator.attrgetter",
    "subprocess.Popen",
    "pickle.loads",
    "importlib.import_module",
    "torch.hub.load",
    "torch.load",
    "torch.ops.load_library",
    "torch.utils.cpp_extension.load",
    "torch.utils.model_zoo.load_url",
    "hydra.utils.instantiate",
    "hydra.utils.get_method",
    "hydra._internal.utils._locate",
    "omegaconf.OmegaConf.load",
    # Reached through a listed module, defined elsewhere.
    "lightning_seg.trust.import_module",
    "lightning_seg.data.folder.Path.unlink",
    "torch.nn.modules.module.torch.hub.load",
    "torchvision.models._api.importlib.import_module",
    "torchvision.models.resnet.nn.Module.load_state_dict",
    "torch.nn.Module.load_state_dict",
    "torch.nn.Conv2d.__init__",
    "torch.nn.modules.conv.Conv2d.forward",
    # Not there at all, or no name.
    "torch.nn.Nothing",
    "torch.nn.",
    ".torch.nn.Conv2d",
    "torch..nn.Conv2d",
    "torch.nn.Conv2d ",
    "TORCH.NN.CONV2D",
    "torch.nn",
    "lightning_seg",
    "Conv2d",
    "",
    None,
    3,
    ["torch.nn.Conv2d"],
    {"_target_": "torch.nn.Conv2d"},
]
PLACES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "the module": lambda node: {**MODULE, **node},
    "the backbone": lambda node: {**MODULE, "backbone": node},
    "the loss": lambda node: {**MODULE, "loss": node},
    "another argument": lambda node: {**MODULE, "class_names": node},
    "within a network": lambda node: {
        **MODULE,
        "backbone": {"_target_": "lightning_seg.backbones.PadToStride", "backbone": [{"a": node}], "stride": 2},
    },
    "within a loss": lambda node: {
        **MODULE,
        "loss": {"_target_": "lightning_seg.losses.CompoundLoss", "terms": {"a": node}, "weights": {"a": 1.0}},
    },
    "a weight of a loss": lambda node: {
        **MODULE,
        "loss": {"_target_": "lightning_seg.losses.CompoundLoss", "terms": {"a": LOSS}, "weights": {"a": node}},
    },
}


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_what_is_no_network_or_loss_of_the_list_is_refused_in_every_place(target: Any) -> None:
    for place, put in PLACES.items():
        with audited() as happened, pytest.raises(ValueError, match=r"best.ckpt (asks to build|holds)") as refused:
            build_trusted(put({"_target_": target}), "module", source="best.ckpt")
        assert happened == [], place
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("role", "node"),
    [
        ("network", LOSS),
        ("network", SHAPES),
        ("network", MODULE),
        ("network", {"_target_": "torchvision.transforms.v2.Lambda"}),
        ("loss", NETWORK),
        ("loss", UNET),
        ("loss", SHAPES),
        ("data", MODULE),
        ("data", NETWORK),
        ("data", {"_target_": "lightning.Trainer"}),
        ("data", {**SHAPES, "augment": NETWORK}),
        ("data", {**SHAPES, "augment": {"_target_": "lightning_seg.data.load_image", "path": "x"}}),
        ("module", NETWORK),
        ("module", {**MODULE, "loss": NETWORK}),
        ("module", {**MODULE, "backbone": LOSS}),
        ("module", {**MODULE, "callbacks": [{"_target_": "lightning_seg.callbacks.StoredConfig", "config": {}}]}),
    ],
    ids=str,
)
def test_what_is_trusted_in_one_role_is_refused_in_another(role: Role, node: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="which no trusted package defines for this place"):
        build_trusted(node, role, source="best.ckpt")


@pytest.mark.parametrize("target", [target for target in TARGETS if isinstance(target, str)])
def test_the_way_out_is_never_proposed_for_the_standard_library_torch_or_hydra(target: str) -> None:
    with pytest.raises(ValueError, match="asks to build") as refused:
        build({"_target_": target})
    proposed = "trusted=[" in str(refused.value)
    assert proposed == (
        target.split(".")[0] in ("monai", "transformers", "segmentation_models_pytorch", "TORCH", "Conv2d")
    )


# ---- attacks by argument

RESERVED = {"_args_": ["x"], "_recursive_": False, "_convert_": "all", "_partial_": True, "__class__": "x", "_x": 1}


@pytest.mark.parametrize("key", RESERVED)
def test_what_no_configuration_of_ours_has_is_refused(key: str) -> None:
    for node in ({"backbone": {**UNET, key: RESERVED[key]}}, {"loss": {**LOSS, key: RESERVED[key]}}):
        with pytest.raises(ValueError, match=rf"best.ckpt holds .*{key}"):
            build(**node)
    with pytest.raises(ValueError, match=rf"best.ckpt holds .*{key}"):
        build_trusted({**SHAPES, key: RESERVED[key]}, "data", source="best.ckpt")


FETCHING = [
    {**UNET, "encoder_weights": "imagenet"},
    {**UNET, "encoder_name": "tu-resnet18", "encoder_weights": "imagenet"},
    {**UNET, "encoder_name": "tu-resnet18", "checkpoint_path": "planted"},
    {**UNET, "encoder_name": "tu-resnet18", "pretrained_cfg": {"url": "http://127.0.0.1:9/x", "file": "planted"}},
    {**UNET, "encoder_name": "tu-resnet18", "pretrained_cfg_overlay": {"file": "planted"}},
    {**UNET, "encoder_name": "tu-resnet18", "cache_dir": "planted"},
    {"_target_": "segmentation_models_pytorch.Unet", "encoder_name": "resnet18", "classes": 2},
    {"_target_": "segmentation_models_pytorch.Unet", "encoder_name": "resnet18", "encoder_weights": "imagenet"},
    {"_target_": "torchvision.models.segmentation.fcn_resnet50", "num_classes": 2},
    {"_target_": "torchvision.models.segmentation.fcn_resnet50", "weights": "DEFAULT"},
    {"_target_": "torchvision.models.segmentation.fcn_resnet50", "pretrained": True, "pretrained_backbone": True},
    {"_target_": "monai.networks.nets.FlexibleUNet", "in_channels": 3, "out_channels": 2, "backbone": "resnet18"}
    | {"pretrained": True, "spatial_dims": 2},
]


@pytest.mark.parametrize("node", FETCHING, ids=lambda node: ",".join(map(str, node.values())))
def test_weights_are_neither_downloaded_nor_opened(
    node: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "planted").write_bytes(b"")
    with audited() as happened:
        build(node)
    assert happened == []


NAMED = [
    {**UNET, "encoder_name": "tu-hf-hub:stranger/x"},
    {**UNET, "encoder_name": "tu-hf_hub:stranger/x"},
    {**UNET, "encoder_name": "tu-local-dir:/tmp/x"},
    {**UNET, "encoder_name": "tu-../x"},
    {**UNET, "encoder_name": "hf-hub:stranger/x"},
    {**UNET, "encoder_name": "/etc/passwd"},
    {**UNET, "encoder_name": "tu-resnet18", "norm_layer": "os.system"},
    {**UNET, "decoder_use_norm": {"type": "a/b"}},
    {**UNET, "aux_params": {"classes": 2, "pretrained_url": "http://x"}},
    {**UNET, "encoder_name": "nothing"},
    {**UNET, "architecture": "__class__"},
    {**UNET, "decoder_channels": [2**17] * 5},
    {**NETWORK, "out_channels": 2**62},
]


@pytest.mark.parametrize("node", NAMED, ids=str)
def test_addresses_paths_and_sizes_in_a_network_are_refused_in_one_line(node: dict[str, Any]) -> None:
    with audited() as happened, pytest.raises(ValueError, match=r"^best.ckpt") as refused:
        build(node)
    assert happened == []
    assert "\n" not in str(refused.value)


BIG = {
    "a layer of gigabytes": {"_target_": "torch.nn.Linear", "in_features": 65_000, "out_features": 65_000},
    "a table of gigabytes": {"_target_": "torch.nn.Embedding", "num_embeddings": 65_000, "embedding_dim": 65_000},
    "a wide kernel": {**NETWORK, "in_channels": 60_000, "out_channels": 60_000},
    "a deep network": {**UNET, "encoder_name": "tu-resnet18", "layers": [60_000] * 4},
    "a wide decoder": {**UNET, "decoder_channels": [60_000] * 5},
    "a transformer of a wide window": {
        "_target_": "torchvision.models.swin_transformer.ShiftedWindowAttention",
        **{"dim": 4, "window_size": [300, 300], "shift_size": [0, 0], "num_heads": 1},
    },
}


@pytest.mark.parametrize("node", BIG.values(), ids=BIG)
def test_a_network_far_larger_than_the_weights_in_the_file_is_not_made(node: dict[str, Any]) -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match="far more memory or layers than the file's weights need"):
        build_trusted({**MODULE, "backbone": node}, "module", source="best.ckpt", tensors=4, memory=4096)
    assert time.monotonic() - began < 30


def test_what_is_made_may_have_as_many_tensors_and_bytes_as_its_bound_and_no_more() -> None:
    with Bounded(tensors=2, memory=None):
        for _ in range(5_100):
            torch.empty(())
        with pytest.raises(MemoryError, match="far more memory or layers"):
            torch.empty(())
    with Bounded(tensors=None, memory=10):
        torch.empty(2**28 + 39, dtype=torch.uint8)
        torch.empty(1, dtype=torch.uint8)
        with pytest.raises(MemoryError, match="far more memory or layers"):
            torch.empty(1, dtype=torch.uint8)


def test_values_of_a_configuration_may_be_as_large_as_their_bound_and_no_larger() -> None:
    for least in ([0] * MOST_VALUES, deep(DEEPEST), "a" * LONGEST, 2**63 - 1, -(2**63) + 1):
        check_values(least, "best.ckpt")
    for more in ([0] * (MOST_VALUES + 1), deep(DEEPEST + 1), "a" * (LONGEST + 1), 2**63, -(2**63)):
        with pytest.raises(ValueError, match=r"^best.ckpt holds"):
            check_values(more, "best.ckpt")
    with pytest.raises(ValueError, match=r"^best.ckpt has a key"):
        check_values({"a" * (LONGEST + 1): 1}, "best.ckpt")
    check_values({"a" * LONGEST: 1}, "best.ckpt")
    build({**NETWORK, "dilation": 1, "stride": trust._LARGEST})
    with pytest.raises(ValueError, match="expected at most 65536"):
        build({**NETWORK, "stride": trust._LARGEST + 1})


def test_very_many_classes_are_refused_before_there_is_a_table_of_them() -> None:
    with pytest.raises(ValueError, match="far more memory"):
        build_trusted(
            {**MODULE, "num_classes": 60_000, "ignore_index": None, "loss": {**LOSS, "ignore_index": None}},
            "module",
            source="best.ckpt",
            tensors=4,
            memory=4096,
        )


@pytest.mark.parametrize(
    "value", ["${oc.create:{_target_: os.system}}", "${oc.env:HOME}", "a ${x}"], ids=["create", "environment", "node"]
)
@pytest.mark.parametrize("key", ["_target_", "loss", "class_names"])
def test_computed_values_are_refused(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"best.ckpt holds .*{key}=.*a computed value"):
        build_trusted({**MODULE, "nested": [{key: value}]}, "module", source="best.ckpt")


def shared(levels: int) -> list[Any]:
    """A list of 10 ** levels values in a few bytes."""
    node: list[Any] = [0] * 10
    for _ in range(levels - 1):
        node = [node] * 10
    return node


def circular() -> dict[str, Any]:
    node: dict[str, Any] = {}
    node["again"] = [node]
    return node


def deep(levels: int) -> dict[str, Any]:
    node: dict[str, Any] = {}
    for _ in range(levels):
        node = {"a": node}
    return node


@pytest.mark.parametrize(
    "value",
    [shared(10), circular(), deep(10_000), [0] * 1_000_000, "a" * 1_000_000, 10**400, b"x", {1: 2}, {3.0}, object()],
    ids=[
        "shared lists",
        "a circle",
        "depth",
        "length",
        "a long text",
        "a long number",
        "bytes",
        "keys",
        "set",
        "object",
    ],
)
def test_a_configuration_is_plain_data_of_a_bounded_size(value: Any) -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"^best.ckpt (holds|has)"):
        check_values({"module": {"backbone": value}}, "best.ckpt")
    assert time.monotonic() - began < 5


# ---- the way out


@pytest.fixture
def research(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of somebody's own."""
    package = tmp_path / "my_research"
    package.mkdir()
    (package / "__init__.py").write_text("import os\nfrom os import system\nfrom my_research.nets import Net, small\n")
    (package / "nets.py").write_text(
        "from torch import nn\n"
        "from lightning_seg import SegmentationModule\n"
        "from lightning_seg.data import ShapesDataModule\n"
        "class Net(nn.Identity):\n"
        "    def __init__(self, options=None, parts=(), weights=None, pretrained=None):\n"
        "        super().__init__()\n"
        "        self.options, self.parts, self.weights, self.pretrained = options, parts, weights, pretrained\n"
        "def small(width):\n"
        "    return nn.Conv2d(3, width, 1)\n"
        "def number():\n"
        "    return 3\n"
        "class Module(SegmentationModule):\n"
        "    def __init__(self, *arguments, head, **options):\n"
        "        super().__init__(*arguments, **options)\n"
        "        self.head = head\n"
        "class Data(ShapesDataModule):\n"
        "    pass\n"
    )
    (package / "other.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_research"
    for name in [name for name in sys.modules if name.split(".")[0] == "my_research"]:
        sys.modules.pop(name)


@pytest.mark.parametrize(
    "target",
    [
        *("torch.nn.modules._own.Net", "torch.nn.modules.a b.Net", "torch.nn.modules..Net"),
        *("torch.nn.functional.relu", "http.server.HTTPServer", "lightning_seg.backbonesx.Net"),
    ],
)
def test_a_name_that_is_not_listed_is_refused_before_anything_is_imported(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "_import", lambda target: pytest.fail(f"imported {target}"))
    with pytest.raises(ValueError, match="no trusted package defines"):
        build_trusted({"_target_": target}, "network", source="a.ckpt")


def test_the_packages_that_a_run_is_built_from_are_found_at_any_depth() -> None:
    parts = {"a": [{"_target_": "mine.Net"}, [{"b": {"_target_": "yours.Loss"}}]], "c": {"_target_": "os.system"}}
    assert own_packages(parts) == ["mine", "yours"]


def test_an_unknown_package_is_named_in_the_message_and_not_imported(research: str) -> None:
    with pytest.raises(ValueError, match=r"'my_research.Net'.*trusted=\[my_research\]"):
        build({"_target_": "my_research.Net"})
    assert research not in sys.modules


def test_a_research_module_with_subclasses_of_ours_is_built(research: str) -> None:
    head = {"_target_": "my_research.Net", "options": {"width": 3}, "parts": [NETWORK, LOSS]}
    module = build(
        {"_target_": "my_research.small", "width": 2},
        _target_="my_research.nets.Module",
        head=head,
        trusted=(research,),
    )
    assert isinstance(module, SegmentationModule)
    assert module.head.options == {"width": 3}  # as it is given when it trains
    assert type(module.head.options) is dict
    assert isinstance(module.head.parts[0], nn.Conv2d)
    data = build_trusted({**SHAPES, "_target_": "my_research.nets.Data"}, "data", trusted=[research], source="a")
    assert isinstance(data, ShapesDataModule)


def test_parts_of_ones_own_take_arguments_by_position_and_no_weights(research: str) -> None:
    node = {"_target_": "my_research.Net", "_args_": [{"a": 1}], "weights": "DEFAULT", "pretrained": True}
    network = build(node, trusted=(research,)).backbone
    assert (network.options, network.weights, network.pretrained) == ({"a": 1}, None, False)


@pytest.mark.parametrize(
    ("target", "trusted"),
    [
        ("my_research.os.system", "my_research"),  # what it imports
        ("my_research.system", "my_research"),
        ("my_research.Net", "my"),  # a name that only begins like it
        ("my_research.nets.Net", "my_research.net"),
        ("my_research.other.Net", "my_research.nets"),  # which would be imported
        ("my_research.Net.forward", "my_research"),
        ("my_research.Net", ""),
        ("my_research._nets.Net", "my_research"),
        ("os.system", "my_research"),
    ],
)
def test_trust_reaches_no_further_than_its_name(research: str, target: str, trusted: str) -> None:
    with pytest.raises(ValueError, match="no trusted package defines"):
        build({"_target_": target}, trusted=(trusted,))


@pytest.mark.parametrize(
    ("place", "node"), [("backbone", "my_research.nets.number"), ("loss", "my_research.nets.number")], ids=str
)
def test_also_what_is_trusted_must_be_of_its_roles_kind(research: str, place: str, node: str) -> None:
    with pytest.raises(ValueError, match=f"describes a int as module.{place}, which is not a Module"):
        build(**{place: {"_target_": node}}, trusted=(research,))
    for role, kind in (("module", "SegmentationModule"), ("data", "LightningDataModule")):
        with pytest.raises(ValueError, match=f"which is not a {kind}"):
            build_trusted({"_target_": "my_research.Net"}, role, trusted=[research], source="a")  # type: ignore[arg-type]


def test_a_class_can_be_trusted_by_its_full_name(research: str) -> None:
    assert build({"_target_": "my_research.nets.Net"}, trusted=("my_research.nets.Net",))
    with pytest.raises(ValueError, match="no trusted package defines"):
        build({"_target_": "my_research.nets.small", "width": 2}, trusted=("my_research.nets.Net",))


def test_networks_of_other_packages_are_trusted_by_name() -> None:
    node = {"_target_": "monai.networks.nets.HighResNet", "spatial_dims": 2, "in_channels": 3, "out_channels": 2}
    with pytest.raises(ValueError, match=r"trusted=\[monai\]"):
        build(node)
    assert build(node, trusted=("monai",))


# ---- all that is trusted


def modules_below(package: str) -> Iterator[ModuleType]:
    root = importlib.import_module(package)
    yield root
    for found in pkgutil.walk_packages(getattr(root, "__path__", []), f"{package}."):
        try:
            yield importlib.import_module(found.name)
        except ImportError:  # needs what is not installed here; it cannot be built either
            continue


def reachable(source: Source) -> dict[str, type]:
    """Every class that the names of a source can reach."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = importlib.import_module(source.written)
        modules = [written] if source.names else [written, *modules_below(source.defined)]
    names = source.names or {name for module in modules for name in dir(module)}
    candidates = [getattr(module, name, None) for module in modules for name in names if hasattr(module, name)]
    return {f"{found.__module__}.{found.__qualname__}": found for found in candidates if is_of(found, source)}


# Words of constructors that open, download or run.
HARMFUL = ("load_url", "hub.load", "urlopen", "download", "open(", "from_pretrained", "import_module", "__import__")
HARMFUL += ("exec(", "pickle", "subprocess", "os.system", "torch.load", "deepcopy", "_get_clones", "locate(")


@pytest.mark.parametrize(
    ("role", "source"),
    [(role, source) for role in CLASSES for source in CLASSES[role]],
    ids=lambda part: str(part)[:60],
)
def test_all_that_is_trusted_is_a_network_a_loss_a_schedule_or_data(role: Role, source: Source) -> None:
    root = source.written.split(".")[0]
    pytest.importorskip(root)
    kinds = {"module": SegmentationModule, "schedule": LinearWeight, "data": LightningDataModule}
    kind = kinds.get(role, v2.Transform if role == "transform" else nn.Module)
    found = reachable(source)
    assert found
    for name, made in found.items():
        is_configuration = root == "transformers" and name.endswith("Config")
        assert issubclass(made, kind) or is_configuration, name
        constructors = [
            vars(base)["__init__"]
            for base in made.__mro__
            if inspect.isfunction(vars(base).get("__init__")) and base.__module__.startswith(root)
        ]
        # transformers generates those of its configurations, which have no source.
        text = "" if is_configuration else "".join(map(inspect.getsource, constructors))
        text = text.replace("from_pretrained(PRETRAINED_MODEL_NAME)", "")  # in a message
        assert [word for word in HARMFUL if word in text] == [], name


def test_all_functions_that_are_trusted_are_those_that_were_read() -> None:
    assert sum(map(len, FUNCTIONS.values())) == 20
    for names in FUNCTIONS.values():
        for name in names:
            module, _, function = name.rpartition(".")
            assert inspect.isfunction(getattr(importlib.import_module(module), function))


def test_a_network_is_built_with_the_random_numbers_that_others_need_left_alone_or_not_at_all() -> None:
    torch.manual_seed(0)
    expected = nn.Conv2d(3, 2, 3, padding=1).weight
    torch.manual_seed(0)
    assert torch.equal(build().backbone.weight, expected)
