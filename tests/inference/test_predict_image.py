from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resize

from lightning_seg.inference import predict_files, rasters
from lightning_seg.inference.bands import BandedRaster
from lightning_seg.losses import CrossEntropyLoss
from tests.small_module import Network, build


@pytest.fixture
def module():
    torch.manual_seed(0)
    return build(mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.2]).eval()


@pytest.fixture
def pixels() -> Any:
    return np.random.default_rng(0).integers(0, 256, (11, 17, 3), dtype=np.uint8)


def tensor(pixels):
    return torch.from_numpy(pixels).movedim(-1, 0) / 255


def test_a_path_an_image_an_array_and_a_tensor_give_the_same_labels_at_their_size(module, pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = module(tensor(pixels)[None]).argmax(1)[0]
    forms = [tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(pixels), pixels, pixels / 255]
    forms += [tensor(pixels), torch.from_numpy(pixels).movedim(-1, 0), pixels.astype(np.uint16) * 257]
    for form in forms:
        labels = module.predict(form)
        assert labels.dtype == torch.int64
        assert torch.equal(labels, expected)
    assert torch.equal(module.predict(tensor(pixels)[None].repeat(2, 1, 1, 1)), expected[None].repeat(2, 1, 1))


def test_probabilities_come_on_request(module, pixels):
    labels, probabilities = module.predict(pixels, probabilities=True)
    torch.testing.assert_close(probabilities, module(tensor(pixels)[None]).softmax(1)[0].detach())
    assert torch.equal(labels, probabilities.argmax(0))


def test_gray_images_are_seen_as_in_training_and_images_upright(module, pixels):
    gray = pixels[..., 0]
    expected = module.predict(np.repeat(gray[..., None], 3, 2))
    for form in (gray, Image.fromarray(gray), torch.from_numpy(gray)[None]):
        assert torch.equal(module.predict(form), expected)
    turned = Image.fromarray(pixels)
    turned.getexif()[0x0112] = 6
    assert module.predict(turned).shape == (17, 11)


def test_the_network_sees_the_scale_and_the_tiles_of_its_training(module, pixels):
    seen = resize(tensor(pixels)[None], [6, 8], antialias=True).clamp(0, 1)
    module.scale = 0.5
    expected = F.interpolate(module(seen), (11, 17), mode="bilinear").argmax(1)[0]
    assert torch.equal(module.predict(pixels), expected)
    module.scale, module.tile, module.margin = 1.0, 8, 1
    assert torch.equal(module.predict(pixels), module(tensor(pixels)[None]).argmax(1)[0])


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("name", ["a.tif", "a.npy"])
def test_of_a_file_of_given_bands_no_more_is_read_than_a_tile(tmp_path, monkeypatch, name, scale):
    rasterio = pytest.importorskip("rasterio")
    bands = np.random.default_rng(0).integers(0, 4096, (5, 70, 90), dtype=np.uint16)
    options = {"dtype": "uint16", "height": 70, "width": 90, "transform": rasterio.Affine(2, 0, 5, 0, -2, 7)}
    with rasterio.open(tmp_path / "a.tif", "w", count=5, tiled=True, blockxsize=16, blockysize=16, **options) as file:
        file.write(bands)
    np.save(tmp_path / "a.npy", bands)
    module = build(nn.Conv2d(2, 3, 3, padding=1), mean=[0.4, 0.5], std=[0.2, 0.3], tile=32, margin=2).eval()
    module.reading, module.scale = {"channels": [4, 1], "value_range": [0, 4095]}, scale
    expected, shares = module.predict(torch.from_numpy(bands[[4, 1]] / 4095).float(), probabilities=True)
    read, seen = BandedRaster.__getitem__, []
    monkeypatch.setattr(BandedRaster, "__getitem__", lambda self, at: seen.append(read(self, at)) or seen[-1])
    labels, found = module.predict(tmp_path / name, probabilities=True)
    torch.testing.assert_close(found, shares, atol=1e-5, rtol=0)
    assert torch.equal(labels, expected)
    assert max(max(part.shape[2:]) for part in seen) <= 32 / scale + 4
    assert not labels.is_inference()
    monkeypatch.setattr(rasters, "find_spec", lambda name: None)  # without rasterio it is read as a whole
    assert torch.equal(module.predict(tmp_path / name), expected)


def test_an_array_of_channels_first_is_predicted_as_it_is_trained_on(module, pixels, tmp_path):
    np.save(tmp_path / "a.npy", np.moveaxis(pixels, -1, 0))
    assert torch.equal(module.predict(tmp_path / "a.npy"), module.predict(tensor(pixels)))
    palette = [(0, 0, 0), (9, 9, 9), (5, 5, 5)]
    predict_files(module, tmp_path / "a.npy", tmp_path / "out", palette=palette, overlay=True, progress=False)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), module.predict(pixels).numpy())


def test_multilabel_and_binary_labels(pixels):
    several = build(Network(), CrossEntropyLoss(task="multilabel"), task="multilabel", ignore_index=None).eval()
    assert torch.equal(several.predict(pixels), (several(tensor(pixels)[None])[0] > 0).long())
    arguments = {"num_classes": 1, "task": "binary", "ignore_index": None, "class_names": ["object"]}
    one = build(Network(classes=1), CrossEntropyLoss(task="binary"), **arguments).eval()
    assert torch.equal(one.predict(pixels), (one(tensor(pixels)[None])[0, 0] > 0).long())


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (7, TypeError, "but got a int"),
        (np.zeros((2, 3, 4, 5)), ValueError, r"\(H, W, channels\), but got \(2, 3, 4, 5\)"),
        (np.zeros((3, 8, 9)), ValueError, r"looks like \(channels, H, W\)"),
        (np.zeros((8, 9, 4)), ValueError, "4 channels, and the network was trained on 3"),
        (torch.zeros(8, 9), ValueError, r"but got \(8, 9\)"),
        (torch.zeros(3, 8, 9, dtype=torch.int64), ValueError, "but got torch.int64"),
        (torch.full((3, 8, 9), 200.0), ValueError, r"values up to 200, expected floats in \[0, 1\]"),
        (torch.full((3, 8, 9), torch.nan), FloatingPointError, "logits are NaN"),
        (Image.new("F", (4, 4)), ValueError, "mode 'F' has an unknown range"),
        ("nowhere.png", FileNotFoundError, r"nowhere.png does not exist"),
    ],
)
def test_what_is_not_an_image_is_refused_in_one_line(module, image, error, message):
    with pytest.raises(error, match=message):
        module.predict(image)


def test_a_module_in_training_mode_is_refused(module, pixels):
    with pytest.raises(ValueError, match=r"module\.eval\(\)"):
        module.train().predict(pixels)
