import json
import mmap
import shutil
import tracemalloc

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from pycocotools import mask as coco
from rasterio.features import rasterize
from rasterio.transform import Affine

from lightning_seg.csv_files import read_csv
from lightning_seg.data.images import load_image, scaled_image
from lightning_seg.inference import image_jobs, masks, rasters
from lightning_seg.inference.outlines import areas, geojson, run_lengths
from lightning_seg.inference.raster_files import write_geo_mask
from lightning_seg.inference.rasters import Raster, open_raster
from lightning_seg.inference.scaled import ScaledRaster
from tests.file_limit import file_limit
from tests.inference.test_predict_files import PALETTE, Brightest, files, predict, write_image

PLACE = {"crs": rasterio.CRS.from_epsg(32632), "transform": Affine(2.0, 0, 500_000, 0, -2.0, 5_000_000)}
NAMES = ["red", "green", "blue"]


@pytest.fixture
def module():
    return Brightest().eval()


def write_geotiff(path, size=(40, 53), nodata=None, bands=3, dtype="uint8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    high = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(1, high, (bands, *size), dtype=dtype, endpoint=True)
    if nodata is not None:
        pixels[:, :5, :7] = nodata
    options = {"driver": "GTiff", "height": size[0], "width": size[1], "count": bands, "dtype": dtype, **PLACE}
    with rasterio.open(path, "w", nodata=nodata, **options) as file:
        file.write(pixels)
    return pixels


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_geotiffs_mask_and_overlay_lie_where_it_does(module, tmp_path, batch_size):
    pixels = write_geotiff(tmp_path / "in" / "a.tif", nodata=0)
    result = predict(module, tmp_path / "in", tmp_path / "out", overlay=True, batch_size=batch_size)
    assert (result.written, result.failed) == (1, [])
    assert files(tmp_path / "out") == ["a.tif", "a_overlay.tif"]
    expected = module(torch.from_numpy(pixels)[None] / 255).argmax(1)[0].numpy()
    expected[:5, :7] = 255
    for name, count in (("a.tif", 1), ("a_overlay.tif", 3)):
        with rasterio.open(tmp_path / "out" / name) as file:
            assert (file.crs, file.transform, file.count) == (PLACE["crs"], PLACE["transform"], count)
    with rasterio.open(tmp_path / "out" / "a.tif") as file:
        assert file.nodata == 255
        assert np.array_equal(file.read(1), expected)
        assert file.colormap(1)[1] == (*PALETTE[1], 255)
    with rasterio.open(tmp_path / "out" / "a_overlay.tif") as file:
        assert not file.read()[:, :5, :7].any()
        has_data = np.ones((40, 53), bool)
        has_data[:5, :7] = False
        assert np.array_equal(file.dataset_mask() > 0, has_data)


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (1, "uint16"), (3, "uint16")])
def test_windows_are_what_the_whole_holds(tmp_path, bands, dtype):
    pixels = write_geotiff(tmp_path / "a.tif", bands=bands, dtype=dtype)
    np.save(tmp_path / "a.npy", np.moveaxis(pixels, 0, -1))
    for name in ("a.tif", "a.npy"):
        with open_raster(tmp_path / name) as raster:
            assert raster.shape == (1, 3, 40, 53)
            expected = torch.from_numpy(pixels[:, 3:20, 11:]).float() / np.iinfo(dtype).max
            assert torch.equal(raster.seen[:, :, slice(3, 20), slice(11, None)][0], expected.expand(3, -1, -1))


@pytest.mark.parametrize("missing", [100, 6_000, 100_000])
def test_a_geotiff_that_is_cut_short_is_an_error_though_gdal_says_nothing(tmp_path, missing):
    size = (300, 700)
    labels = np.random.default_rng(0).integers(0, 200, size).astype(np.uint8)
    raster, colors = Raster(size, np.zeros((*size, 3), np.uint8), 255), [(0, 0, 0)] * 200
    write_geo_mask(tmp_path / "whole.tif", raster, labels, colors, None)
    whole = (tmp_path / "whole.tif").stat().st_size
    with file_limit(whole - missing), pytest.raises(OSError, match="File too large"):
        write_geo_mask(tmp_path / "cut.tif", raster, labels, colors, None)


def test_a_full_disk_is_found_before_libtiff_prints_lines_of_its_own(module, tmp_path, monkeypatch, capfd):
    write_geotiff(tmp_path / "in" / "a.tif")
    usage = shutil.disk_usage(tmp_path)
    for free, fits in ((40 * 53, True), (40 * 53 - 1, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        if fits:
            assert predict(module, tmp_path / "in", tmp_path / "whole").written == 1
            continue
        with pytest.raises(OSError, match=r"none cannot be written to: no space left on device\. Predicted before: 0"):
            predict(module, tmp_path / "in", tmp_path / "none")
        assert not files(tmp_path / "none")
    assert "tiff" not in capfd.readouterr().err.lower()


READINGS = [
    {"channels": "all", "value_range": None},
    {"channels": [4, 0], "value_range": [100, 40_000]},
    {"channels": [2], "value_range": [-100, 40_000]},
]


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("kind", ["npy", "tif", "whole tif", "png"])
def test_windows_of_given_bands_are_what_the_whole_holds(tmp_path, reading, kind, monkeypatch):
    path = tmp_path / f"a.{kind.split()[-1]}"
    pixels = write_geotiff(tmp_path / "a.tif", bands=5, dtype="uint16")
    if kind == "npy":
        np.save(path, pixels.transpose(1, 2, 0))
    elif kind == "png":
        if reading["channels"] != [2]:
            reading = {**reading, "channels": [2, 0]}
        Image.fromarray(pixels[:3].astype(np.uint8).transpose(1, 2, 0)).save(path)
    elif kind == "tif":  # of which nothing is read as a whole
        whole = load_image(path, **reading)[None]
        monkeypatch.setattr(rasters, "load_bands", None)
    if kind == "whole tif":
        monkeypatch.setattr(rasters, "has_plain_bands", lambda path, max_pixels: False)
    if kind != "tif":
        whole = load_image(path, **reading)[None]
    with open_raster(path, reading=reading) as raster:
        assert raster.seen.shape == whole.shape
        part = (slice(3, 20), slice(11, None))
        assert torch.equal(raster.seen[(..., *part)], whole[(..., *part)])
        torch.testing.assert_close(ScaledRaster(raster.seen, 0.5)[:, :, :, :], scaled_image(whole, 0.5))
        shown = whole[:, :3] if whole.shape[1] >= 3 else whole[:, :1].expand(-1, 3, -1, -1)
        assert torch.equal(raster[(..., *part)], ((255 * shown).round() / 255)[(..., *part)])
        assert (raster.georeference is not None) == kind.endswith("tif")


def test_a_geotiff_of_many_bands_is_predicted_by_windows_with_its_place_and_nodata(tmp_path, monkeypatch):
    pixels = write_geotiff(tmp_path / "in" / "a.tif", nodata=7, bands=5, dtype="int16")
    module = Brightest().eval()
    module.reading = {"channels": [4, 0, 2], "value_range": [0, 40_000]}
    monkeypatch.setattr(rasters, "load_bands", None)
    result = predict(module, tmp_path / "in", tmp_path / "out", overlay=True, tile=20, margin=2)
    assert (result.written, result.failed) == (1, [])
    image = (torch.from_numpy(pixels[[4, 0, 2]].astype(np.float32)) / 40_000).clamp(0, 1)[None]
    expected = module(image).argmax(1)[0].numpy()
    expected[:5, :7] = 255
    with rasterio.open(tmp_path / "out" / "a.tif") as file:
        assert (file.crs, file.transform, file.nodata) == (PLACE["crs"], PLACE["transform"], 255)
        assert np.array_equal(file.read(1), expected)


@pytest.mark.parametrize("scale", [0.5, 0.3, 0.77, 1.6])
def test_windows_at_another_scale_are_what_the_whole_holds_when_scaled(tmp_path, scale):
    write_geotiff(tmp_path / "a.tif", size=(67, 91))
    whole = load_image(tmp_path / "a.tif", scale)[None]
    with open_raster(tmp_path / "a.tif") as raster:
        scaled = ScaledRaster(raster, scale)
        assert scaled.shape == whole.shape
        torch.testing.assert_close(scaled[:, :, :, :], whole, atol=1e-5, rtol=0)
        rows, columns = slice(3, 17), slice(9, None)
        torch.testing.assert_close(scaled[:, :, rows, columns], whole[:, :, rows, columns], atol=1e-5, rtol=0)


def test_of_a_large_image_little_is_held(module, tmp_path):
    pixels = write_geotiff(tmp_path / "a.tif", size=(2400, 300))
    options = {"tile": 256, "margin": 8, "overlay": True, "probabilities": True, "scale": 0.5, "tiling": "smooth"}
    windows, held = [], []
    read, back = Raster._read, masks.give_back
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Raster, "_read", lambda self, *ends: windows.append(ends) or read(self, *ends))
        patch.setattr(
            image_jobs, "give_back", lambda array: back(array) or held.append(isinstance(array.base, mmap.mmap))
        )
        tracemalloc.start()
        predict(module, tmp_path / "a.tif", tmp_path / "out", **options)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert max(bottom - top for top, bottom, _, _ in windows) <= 516
    assert held
    assert all(held)
    assert peak < 12 * pixels[0].size  # what the image alone would take as floats
    assert np.load(tmp_path / "out" / "a_probabilities.npy").sum(0) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize(
    ("bands", "dtype", "message"), [(5, "uint8", "5 bands"), (3, "int16", "3 bands of int16"), (2, "uint8", "2 bands")]
)
def test_bands_that_are_no_image_are_skipped_with_the_reason(module, tmp_path, bands, dtype, message):
    write_geotiff(tmp_path / "in" / "a.tif", bands=bands, dtype=dtype)
    ((_, reason),) = predict(module, tmp_path / "in", tmp_path / "out").failed
    assert message in reason


def test_a_geotiff_that_breaks_off_is_skipped_with_the_reason(module, tmp_path):
    write_geotiff(tmp_path / "a.tif", size=(300, 400))
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:200_000])
    ((_, reason),) = predict(module, tmp_path / "a.tif", tmp_path / "out").failed
    assert "a.tif cannot be read: " in reason
    assert "previous exception" not in reason


def test_what_is_too_large_is_skipped_by_its_header(module, tmp_path):
    write_geotiff(tmp_path / "in" / "a.tif")
    np.save(tmp_path / "in" / "a.npy", np.zeros((50, 50), np.uint8))
    for name in ("a.tif", "a.npy"):
        ((_, reason),) = predict(module, tmp_path / "in" / name, tmp_path / "out", max_pixels=1000).failed
        assert "max_pixels=1,000" in reason


def test_contours_are_polygons_with_holes_in_the_coordinates_of_the_image():
    labels = np.zeros((20, 30), np.uint8)
    labels[4:16, 5:25] = 1
    labels[8:12, 10:20] = 2
    found = geojson(labels, NAMES, PLACE)
    assert found["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32632"
    assert sorted(one["properties"]["class"] for one in found["features"]) == ["blue", "green", "red"]
    for feature in found["features"]:
        rings = len(feature["geometry"]["coordinates"])
        assert rings == (1 if feature["properties"]["label"] == 2 else 2)
    shapes = [(one["geometry"], one["properties"]["label"]) for one in found["features"]]
    assert np.array_equal(rasterize(shapes, labels.shape, transform=PLACE["transform"], fill=9), labels)
    plain = geojson(labels, NAMES, None)
    shapes = [(one["geometry"], one["properties"]["label"]) for one in plain["features"]]
    assert np.array_equal(rasterize(shapes, labels.shape, fill=9), labels)
    assert "crs" not in plain


def test_simplified_contours_have_fewer_points_and_stay_near():
    rows, columns = np.mgrid[:80, :80]
    labels = (np.hypot(rows - 40, columns - 40) < 30).astype(np.uint8)
    whole, fewer = (geojson(labels, NAMES, None, simplify=simplify) for simplify in (0, 1.5))
    points = [
        sum(len(ring) for one in found["features"] for ring in one["geometry"]["coordinates"])
        for found in (whole, fewer)
    ]
    assert points[1] < points[0] / 3
    disc = next(one for one in fewer["features"] if one["properties"]["label"] == 1)
    again = rasterize([(disc["geometry"], 1)], labels.shape)
    assert (again != labels).mean() < 0.02


def test_run_lengths_are_those_of_coco_and_areas_its_areas():
    labels = np.random.default_rng(0).integers(0, 3, (11, 17)).astype(np.uint8)
    invalid = np.zeros(labels.shape, bool)
    invalid[:2] = True
    found = run_lengths(labels, NAMES, invalid)
    for one in found["annotations"]:
        whole = coco.frPyObjects(one["segmentation"], *labels.shape)
        assert np.array_equal(coco.decode(whole).astype(bool), (labels == one["category_id"]) & ~invalid)
        assert (coco.area(whole), coco.toBbox(whole).tolist()) == (one["area"], one["bbox"])
    assert areas(labels, 3, invalid) == [one["area"] for one in found["annotations"]]


def test_an_interrupted_prediction_goes_on_and_areas_are_of_all_images(module, tmp_path):
    for index in range(3):
        write_image(tmp_path / "in" / f"{index}.png", seed=index)
    write_geotiff(tmp_path / "in" / "d" / "g.tif", nodata=0)
    options = {"areas": True, "contours": True, "run_lengths": True, "class_names": NAMES}
    predict(module, tmp_path / "in", tmp_path / "whole", **options)
    predict(module, tmp_path / "in", tmp_path / "out", **options)
    (tmp_path / "out" / "1_rle.json").unlink()
    (tmp_path / "out" / "areas.csv").unlink()
    (tmp_path / "out" / "0.geojson").write_text("kept")
    result = predict(module, tmp_path / "in", tmp_path / "out", resume=True, **options)
    assert (result.written, result.kept) == (1, 3)
    assert (tmp_path / "out" / "0.geojson").read_text() == "kept"
    assert (tmp_path / "out" / "areas.csv").read_text() == (tmp_path / "whole" / "areas.csv").read_text()
    _, rows = read_csv(tmp_path / "out" / "areas.csv")
    assert [row["image"] for row in rows] == ["0.png", "1.png", "2.png", "d/g.tif"]
    assert [sum(int(row[name]) for name in NAMES) for row in rows] == [9 * 13] * 3 + [40 * 53 - 5 * 7]
    assert json.loads((tmp_path / "out" / "1_rle.json").read_text())["height"] == 9
    with pytest.raises(ValueError, match="choose one"):
        predict(module, tmp_path / "in", tmp_path / "out", resume=True, overwrite=True)


def test_patterns_lists_and_arrays_are_inputs(module, tmp_path):
    for name in ("a.png", "b.jpg", "deep/c.png"):
        write_image(tmp_path / "in" / name)
    np.save(tmp_path / "in" / "d.npy", np.zeros((5, 6, 3), np.uint8))
    predict(module, tmp_path / "in" / "**" / "*.png", tmp_path / "pattern")
    assert files(tmp_path / "pattern") == ["a.png", "deep/c.png"]
    (tmp_path / "list.txt").write_text("# some\nin/deep/c.png\n\nin/d.npy\n", encoding="utf-8-sig")
    predict(module, tmp_path / "list.txt", tmp_path / "listed")
    assert files(tmp_path / "listed") == ["d.png", "deep/c.png"]
    (tmp_path / "list.txt").write_text("in/notes.pdf\n")
    with pytest.raises(ValueError, match=r"lists .*notes\.pdf, which is not an image file"):
        predict(module, tmp_path / "list.txt", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="matches no image"):
        predict(module, tmp_path / "in" / "*.bmp", tmp_path / "none")


def test_half_precision_gives_nearly_the_same_labels(module, tmp_path):
    source = write_image(tmp_path / "a.png", (40, 30))
    for precision in ("32-true", "bf16-mixed"):
        predict(module, source, tmp_path / precision, precision=precision)
    one, other = (np.asarray(Image.open(tmp_path / name / "a.png")) for name in ("32-true", "bf16-mixed"))
    assert (one == other).mean() > 0.95
    with pytest.raises(ValueError, match="precision=8 is not one of"):
        predict(module, source, tmp_path / "none", precision="8")
