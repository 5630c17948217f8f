import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from lightning_seg import load_module
from lightning_seg.backbones import PadToStride
from lightning_seg.csv_files import read_csv
from lightning_seg.data import FolderDataModule
from lightning_seg.export import write_onnx, write_program
from lightning_seg.export.network import ExportedNetwork, scaled_length
from lightning_seg.inference import predict_files
from lightning_seg.losses import CrossEntropyLoss
from lightning_seg.module import SegmentationModule
from tests.small_module import trainer

pytestmark = pytest.mark.usefixtures("quick_exports")

PALETTE = [(0, 0, 0), (200, 10, 20), (0, 0, 250)]


def made(classes=3, network=None, **arguments):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 1))
    module = SegmentationModule(
        PadToStride(layers, 4) if network is None else network,
        CrossEntropyLoss(task=arguments.get("task", "multiclass")),
        **{"num_classes": classes, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.2], "ignore_index": None, **arguments},
    )
    module.palette = PALETTE[: max(classes, 2)]
    return module.eval()


@pytest.fixture(scope="module")
def module():
    return made(class_names=["sky", "road", "tree"], tile=16, margin=4)


@pytest.fixture(scope="module")
def exported(module, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    return path, write_onnx(module, path)


def image(*size):
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
def test_onnx_runtime_agrees_at_other_batches_and_at_sizes_that_the_export_has_not_seen(module, exported):
    path, agreement = exported
    assert agreement.difference < 1e-4
    assert (agreement.equal, agreement.refused, agreement.untried) == (1.0, [], [])
    assert {shape[0] for shape in agreement.sizes} == {1, 2, 3}
    assert any(side % 4 for shape in agreement.sizes for side in shape[1:])
    assert any(max(shape[1:]) < 4 for shape in agreement.sizes)
    assert "logits differ by" in str(agreement)
    session = onnxruntime.InferenceSession(path)
    assert [one.shape for one in session.get_inputs()] == [["batch", 3, "height", "width"]]
    given = session.run(None, {"image": image(13, 22)[None].numpy()})[0]
    np.testing.assert_allclose(given, module(image(13, 22)[None]).detach(), atol=1e-4)


@pytest.mark.slow
def test_the_file_says_classes_palette_scale_and_version(exported):
    said = onnxruntime.InferenceSession(exported[0]).get_modelmeta().custom_metadata_map
    said = {name.removeprefix("lightning_seg."): json.loads(value) for name, value in said.items()}
    assert said["class_names"] == ["sky", "road", "tree"]
    assert said["palette"] == [list(color) for color in PALETTE]
    assert (said["scale"], said["ignore_index"], said["task"], said["gives"]) == (1.0, None, "multiclass", "logits")
    assert said["version"].count(".") == 2


@pytest.mark.slow
def test_a_file_predicts_as_its_module_without_the_networks_library(module, exported, tmp_path, monkeypatch):
    for name in ("onnx", "onnxscript", "segmentation_models_pytorch", "timm"):
        monkeypatch.setitem(sys.modules, name, None)
    loaded = load_module(exported[0])
    labels, probabilities = loaded.predict(image(37, 21), probabilities=True)
    expected = module.predict(image(37, 21), probabilities=True)
    assert torch.equal(labels, expected.labels)
    torch.testing.assert_close(probabilities, expected.probabilities, atol=1e-4, rtol=0)
    Image.fromarray((255 * image(9, 30).movedim(0, -1)).byte().numpy()).save(tmp_path / "a.png")
    for one, folder in ((module, "one"), (loaded, "two")):
        predict_files(one, tmp_path / "a.png", tmp_path / folder, palette=one.palette, progress=False)
    masks = [np.asarray(Image.open(tmp_path / folder / "a.png")) for folder in ("one", "two")]
    assert np.array_equal(*masks)


def test_a_program_of_torch_export_agrees_and_refuses_what_it_would_compute_wrongly(module, tmp_path):
    agreement = write_program(module, tmp_path / "model.pt2")
    assert agreement.difference < 1e-4
    assert len(agreement.sizes) >= 3
    said = {"lightning_seg.class_names": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=said).module()
    assert json.loads(said["lightning_seg.class_names"]) == ["sky", "road", "tree"]
    torch.testing.assert_close(program(image(13, 22)[None]), module(image(13, 22)[None]))


class Aliased(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.activation = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True)

    def forward(self, image):
        features = self.layers(image)
        return self.activation(features) + features  # which the activation has written over


@pytest.mark.parametrize(
    ("network", "in_place"), [(nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(inplace=True)), False), (Aliased(), True)]
)
def test_only_what_logits_depend_on_is_computed_in_place(tmp_path, network, in_place):
    module = made(network=network)
    agreement = write_program(module, tmp_path / "model.pt2")
    assert agreement.difference < 1e-6
    assert ("aten.relu_.default" in str(torch.export.load(tmp_path / "model.pt2").graph)) is in_place
    assert next(part for part in module.modules() if isinstance(part, nn.ReLU)).inplace
    assert all(weights.requires_grad for weights in module.parameters())


class Asserting(nn.Conv2d):
    def forward(self, image):
        assert image.shape[2] % 64 == 0, "the height must be a multiple of 64"
        return super().forward(image)


def test_whatever_a_network_raises_is_one_line_and_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be exported.*the height must be a multiple of 64") as raised:
        write_program(made(network=Asserting(3, 3, 1)), tmp_path / "model.pt2")
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


class Different(nn.Conv2d):
    def forward(self, image):
        return super().forward(image) + (0.5 * image if torch.compiler.is_exporting() else 0 * image)


class Sized(nn.Conv2d):
    def forward(self, image):
        return super().forward(image) if image.shape[2] < 90 else super().forward(2 * image)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "message"),
    [(Different(3, 3, 1), "failed its check and was removed: .*logits differ by"), (Sized(3, 3, 1), "")],
)
@pytest.mark.parametrize(("write", "name"), [(write_onnx, "a.onnx"), (write_program, "a.pt2")])
def test_an_export_that_gives_something_else_fails_and_leaves_nothing(tmp_path, network, message, write, name):
    with pytest.raises(ValueError, match=message or "cannot be exported|failed its check and was removed"):
        write(made(network=network), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ({}, {"argmax": True}),
        ({"classes": 1, "task": "binary"}, {"argmax": True, "half": True}),
        ({"classes": 2, "task": "multilabel"}, {"half": True}),
    ],
    ids=str,
)
def test_labels_and_half_precision_are_there_on_request(tmp_path, arguments, options):
    module = made(network=nn.Conv2d(3, arguments.get("classes", 3), 3, padding=1), **arguments)
    agreement = write_onnx(module, tmp_path / "a.onnx", **options)
    assert agreement.equal > 0.99
    loaded = load_module(tmp_path / "a.onnx")
    assert (loaded.predict(image(20, 30)) == module.predict(image(20, 30))).float().mean() > 0.99
    if "argmax" in options:
        assert agreement.difference is None
        with pytest.raises(ValueError, match="argmax=false"):
            loaded.predict(image(20, 30), probabilities=True)


@pytest.mark.parametrize("scale", [0.5, 0.3, 0.25, 1.5, 2])
def test_a_scaled_length_is_that_of_prediction_in_whole_numbers(scale):
    for length in range(1, 300):
        assert scaled_length(length, scale) == max(1, round(length * scale))


@pytest.mark.slow
def test_a_scale_is_inside(tmp_path):
    module = made(network=nn.Conv2d(3, 3, 3, padding=1))
    module.scale = 0.5
    write_program(module, tmp_path / "a.pt2")
    logits = torch.export.load(tmp_path / "a.pt2").module()(image(20, 30)[None])
    assert torch.equal(logits.argmax(1)[0], module.predict(image(20, 30)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("class_names", "[1, 2, 3]", "class_names is not a list of names"),
        ("class_names", json.dumps(["a"] * 5000), "it has 5000 classes, expected 4096 at most"),
        ("class_names", "[" * 100_000, "recursion"),
        ("palette", "[[0, 0, 0]]", "has a palette of length 1 for 3 labels"),
        ("palette", "[[1000000000, 0, 0], [0, 0, 0], [0, 0, 0]]", "each from 0 to 255"),
        ("tile", "1e400", "tile=inf is not a non-negative integer"),
        ("tile_stride", "-3", "tile_stride=-3 is not a non-negative integer"),
        ("gives", '"x"', "gives='x' is neither logits nor labels"),
        ("scale", "NaN", "scale=nan is not from 1/64 to 4"),
    ],
)
def test_what_a_strangers_file_says_of_itself_is_checked(exported, tmp_path, name, text, message):
    model = onnx.load(exported[0])
    next(one for one in model.metadata_props if one.key == f"lightning_seg.{name}").value = text
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=f"was not written by lightning-seg-export: .*{message}") as found:
        load_module(tmp_path / "a.onnx")
    assert "\n" not in str(found.value)


@pytest.mark.slow
def test_a_network_that_cannot_be_run_is_one_line(exported, tmp_path):
    model = onnx.load(exported[0])
    output = model.graph.node[-1].output[0]
    model.graph.node[-1].output[0] = "numbers"
    model.graph.node.append(onnx.helper.make_node("Cast", ["numbers"], [output], to=onnx.TensorProto.STRING))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=r"a\.onnx cannot be run: .*object"):
        load_module(tmp_path / "a.onnx").predict(image(20, 30))


def with_a_loop(model):
    """Ten to the fifteen times the same."""
    output, helper, kinds = model.graph.node[-1].output[0], onnx.helper, onnx.TensorProto
    model.graph.node[-1].output[0] = "before"
    names = {"i": (kinds.INT64, []), "go": (kinds.BOOL, []), "x": (kinds.FLOAT, None)}
    inputs = [helper.make_tensor_value_info(name, *about) for name, about in names.items()]
    outputs = [helper.make_tensor_value_info(*about) for about in (("on", kinds.BOOL, []), ("y", kinds.FLOAT, None))]
    same = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])]
    body = helper.make_graph(same, "body", inputs, outputs)
    values = {"times": np.array(10**15), "true": np.array(True)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    model.graph.node.append(helper.make_node("Loop", ["times", "true", "before"], [output], body=body))


def with_a_function(model):
    """One that calls itself."""
    node = onnx.helper.make_node("again", ["x"], ["y"], domain="own")
    model.functions.append(onnx.helper.make_function("own", "again", ["x"], ["y"], [node], model.opset_import))


@pytest.mark.slow
@pytest.mark.parametrize("change", [with_a_loop, with_a_function])
def test_a_file_that_could_take_any_time_is_refused_before_it_is_run(exported, tmp_path, change):
    model = onnx.load(exported[0])
    change(model)
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=r"a\.onnx cannot be read as ONNX: it holds loops, branches or functions"):
        load_module(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no model", "cannot be read as ONNX"), (b"", "cannot be read as ONNX"), (None, "does not exist")],
)
def test_what_is_no_export_is_refused_in_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as found:
        load_module(tmp_path / "a.onnx")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(("write", "name"), [(write_onnx, "model.pt"), (write_program, "model.onnx")])
def test_the_name_says_what_a_file_is(module, tmp_path, write, name):
    with pytest.raises(ValueError, match="must have the suffix"):
        write(module, tmp_path / name)


@pytest.mark.slow
def test_pooling_to_several_windows_is_exported_for_any_size(tmp_path):
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.pools = nn.ModuleList(
                [nn.AdaptiveAvgPool2d(3), nn.AdaptiveAvgPool2d((2, None)), nn.AdaptiveAvgPool2d(1)]
            )

        def forward(self, image):
            pooled = [pool(image) for pool in self.pools]
            pooled += [F.adaptive_avg_pool2d(image, (2, 5)), F.interpolate(image, (4, 3), mode="area")]
            return image + sum(one.square().mean((2, 3), keepdim=True) for one in pooled)

    module = made(network=Pooled())
    network = ExportedNetwork(module)
    for size in ((1, 1), (2, 7), (6, 10), (13, 29)):
        image = torch.rand(2, 3, *size)
        torch.testing.assert_close(network(image), module(image))
    agreement = write_onnx(module, tmp_path / "model.onnx")
    assert agreement.difference < 1e-5
    assert len(agreement.sizes) == 4


@pytest.mark.slow
def test_a_file_is_scored_as_its_module_on_data_whose_classes_it_says(exported, run, folder):
    command = ("lightning-seg-evaluate", f"checkpoint={exported[0]}", "data=folder", "data.root=my_images")
    options = ("split=val", "data.ignore_index=255", "data.num_workers=0", "trainer.accelerator=cpu")
    assert "loss –," in run(*command, *options, "output=scores.csv")
    module = made(class_names=["sky", "road", "tree"], tile=16, margin=4)
    module.ignore_index, module.loss = 255, CrossEntropyLoss(ignore_index=255)
    module.val_metrics = module.build_metrics().clone("val/")
    splits = {"val_fraction": 0.2, "test_fraction": 0.2, "seed": 0, "batch_size": 1}
    data = FolderDataModule(folder / "my_images", 3, ignore_index=255, **splits)
    expected = trainer().validate(module, data, verbose=False)[0]
    mean = next(row for row in read_csv(folder / "scores.csv")[1] if row["class"] == "mean")
    assert float(mean["iou"]) == pytest.approx(expected["val/iou"], rel=1e-4)
