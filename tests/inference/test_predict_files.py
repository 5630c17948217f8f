import errno
import os
from threading import Event

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from lightning_seg.data.images import load_image
from lightning_seg.data.volume_reading import VolumeReading
from lightning_seg.inference import image_jobs, overlay, predict_files, volume_jobs
from lightning_seg.inference.made_by import digests
from tests.file_limit import file_limit

PALETTE = [(0, 0, 0), (200, 10, 20), (0, 0, 250)]


class Brightest(nn.Module):
    """The label of a pixel is its brightest channel; one more pixel around it is seen."""

    task, num_classes, device = "multiclass", 3, torch.device("cpu")
    tile = margin = None

    def forward(self, image):
        return F.avg_pool2d(image, 3, 1, 1, count_include_pad=False)

    def predict_logits(self, image, size=None):
        return self(image) if size is None else F.interpolate(self(image), size, mode="bilinear")

    def predict_labels(self, logits):
        return logits.argmax(1)

    def probabilities(self, logits):
        return logits.softmax(1)


class Binary(Brightest):
    task, num_classes = "binary", 1

    def forward(self, image):
        return image[:, :1] - 0.5

    def predict_labels(self, logits):
        return (logits > 0).long().squeeze(1)

    def probabilities(self, logits):
        return logits.sigmoid()


class Multilabel(Brightest):
    task = "multilabel"

    def predict_labels(self, logits):
        return (logits > 0).long()

    def probabilities(self, logits):
        return logits.sigmoid()


@pytest.fixture
def module():
    return Brightest().eval()


def write_image(path, size=(13, 9), seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def predict(module, source, target, **options):
    options = {"palette": PALETTE, "tile": 8, "margin": 2, "progress": False} | options
    return predict_files(module, source, target, **options)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_gives_masks_at_each_images_size_in_the_same_sub_folders(module, tmp_path):
    write_image(tmp_path / "in" / "a.PNG", (13, 9))
    write_image(tmp_path / "in" / "deep" / "er" / "a.tif", (1, 30), seed=1)
    write_image(tmp_path / "in" / "deep" / "b.jpeg", (8, 8), seed=2)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    (tmp_path / "in" / "._a.png").write_text("no image either")
    result = predict(module, tmp_path / "in", tmp_path / "out")
    assert (result.written, result.failed) == (3, [])
    assert files(tmp_path / "out") == ["a.png", "deep/b.png", "deep/er/a.png"]
    for source, mask in [("a.PNG", "a.png"), ("deep/er/a.tif", "deep/er/a.png"), ("deep/b.jpeg", "deep/b.png")]:
        expected = module(load_image(tmp_path / "in" / source)[None]).argmax(1)[0]
        with Image.open(tmp_path / "out" / mask) as picture:
            assert picture.mode == "P"
            assert np.array_equal(np.asarray(picture), expected.numpy())


def test_one_file_gives_mask_overlay_and_probabilities(module, tmp_path):
    source = write_image(tmp_path / "photo.bmp")
    result = predict(module, source, tmp_path / "out", overlay=True, probabilities=True)
    assert result.written == 1
    assert files(tmp_path / "out") == ["photo.png", "photo_overlay.png", "photo_probabilities.npy"]
    image = load_image(source)
    labels = np.asarray(Image.open(tmp_path / "out" / "photo.png"))
    drawn = np.asarray(Image.open(tmp_path / "out" / "photo_overlay.png"))
    assert np.array_equal(drawn, overlay(image, labels, PALETTE))
    written = np.load(tmp_path / "out" / "photo_probabilities.npy")
    assert written.dtype == np.float16
    expected = module(image[None]).softmax(1)[0].numpy()
    np.testing.assert_allclose(written, expected, atol=1e-3)


def test_masks_have_the_orientation_in_which_the_image_is_displayed(module, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write_image(tmp_path / "in" / "a.jpg", (20, 10), exif=exif)
    predict(module, tmp_path / "in", tmp_path / "out")
    assert Image.open(tmp_path / "out" / "a.png").size == (10, 20)


@pytest.mark.parametrize("tile", [8, 64])
def test_scaled_prediction_brings_logits_back_to_the_images_size(module, tmp_path, tile):
    source = write_image(tmp_path / "a.png", (31, 22))
    predict(module, source, tmp_path / "out", scale=0.5, tile=tile)
    logits = module(load_image(source, 0.5)[None])
    expected = F.interpolate(logits, (22, 31), mode="bilinear").argmax(1)[0].numpy()
    assert np.mean(np.asarray(Image.open(tmp_path / "out" / "a.png")) == expected) > 0.995


def test_a_binary_module_gives_masks_of_0_and_1(tmp_path):
    source = write_image(tmp_path / "a.png")
    predict(Binary().eval(), source, tmp_path / "out", palette=PALETTE[:2], probabilities=True)
    expected = load_image(source)[0] > 0.5
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), expected.numpy())
    assert np.load(tmp_path / "out" / "a_probabilities.npy").shape == (1, 9, 13)


def test_a_multilabel_module_gives_probabilities_only(tmp_path):
    source = write_image(tmp_path / "a.png")
    with pytest.raises(ValueError, match="probabilities=true"):
        predict(Multilabel().eval(), source, tmp_path / "out")
    predict(Multilabel().eval(), source, tmp_path / "out", probabilities=True)
    assert files(tmp_path / "out") == ["a_probabilities.npy"]


def test_unreadable_files_are_reported_and_the_others_written(module, tmp_path, capsys):
    write_image(tmp_path / "in" / "a.png")
    whole = write_image(tmp_path / "in" / "cut.png", (60, 60)).read_bytes()
    (tmp_path / "in" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "empty.jpg").touch()
    (tmp_path / "in" / "text.jpg").write_text("not an image")
    result = predict(module, tmp_path / "in", tmp_path / "out", progress=True)
    assert result.written == 1
    assert [path.name for path, _ in result.failed] == ["cut.png", "empty.jpg", "text.jpg"]
    assert all(reason and "\n" not in reason for _, reason in result.failed)
    assert files(tmp_path / "out") == ["a.png"]
    assert "4/4 3 skipped" in capsys.readouterr().out


def test_images_of_one_stem_are_refused_before_anything_is_written(module, tmp_path):
    write_image(tmp_path / "in" / "0.png")
    write_image(tmp_path / "in" / "a.jpg")
    write_image(tmp_path / "in" / "a.png")
    with pytest.raises(ValueError, match=r"a\.jpg and .*a\.png would both be written"):
        predict(module, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_that_is_listed_twice_is_said_to_be(module, tmp_path):
    source = write_image(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg is given twice: name it once"):
        predict(module, [source, source], tmp_path / "out")


def test_an_image_named_like_an_overlay_is_refused_only_if_overlays_are_written(module, tmp_path):
    write_image(tmp_path / "in" / "a.png")
    write_image(tmp_path / "in" / "a_overlay.png")
    with pytest.raises(ValueError, match="would both be written"):
        predict(module, tmp_path / "in", tmp_path / "out", overlay=True)
    assert predict(module, tmp_path / "in", tmp_path / "out").written == 2


def test_existing_results_are_refused_before_anything_is_written_unless_told(module, tmp_path):
    write_image(tmp_path / "in" / "a.jpg")
    write_image(tmp_path / "in" / "b.jpg")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png").write_text("precious")
    with pytest.raises(FileExistsError, match=r"b\.png exists already .*overwrite=true"):
        predict(module, tmp_path / "in", tmp_path / "out")
    assert files(tmp_path / "out") == ["b.png"]
    assert predict(module, tmp_path / "in", tmp_path / "out", overwrite=True).written == 2
    assert Image.open(tmp_path / "out" / "b.png").mode == "P"


def test_results_inside_the_input_folder_are_not_predicted_again(module, tmp_path):
    write_image(tmp_path / "a.jpg")
    for _ in range(2):
        assert predict(module, tmp_path, tmp_path / "masks", overlay=True, overwrite=True).written == 1
    assert files(tmp_path) == ["a.jpg", "masks/a.png", "masks/a_overlay.png"]


@pytest.mark.parametrize("pattern", ["", "**/*.*"])
def test_results_of_an_earlier_prediction_are_not_taken_for_images(module, tmp_path, pattern, caplog):
    write_image(tmp_path / "in" / "a.jpg")
    predict(module, tmp_path / "in", tmp_path / "in" / "deep" / "masks", made_by={"checkpoint": "one"})
    assert predict(module, tmp_path / "in" / pattern, tmp_path / "out").written == 1
    assert "deep/masks holds what a prediction has written, and is left out" in caplog.text
    # Named by itself it is what was meant.
    assert predict(module, tmp_path / "in" / "deep" / "masks", tmp_path / "again").written == 1


def test_the_input_folder_cannot_be_the_output_folder(module, tmp_path):
    write_image(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="is the input folder"):
        predict(module, tmp_path, tmp_path / "x" / "..", overwrite=True)


def test_an_input_is_never_replaced(module, tmp_path):
    source = write_image(tmp_path / "a.png")
    before = source.read_bytes()
    with pytest.raises(FileExistsError, match="would replace an input"):
        predict(module, source, tmp_path, overwrite=True)
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"palette": PALETTE[:2]}, "2 colors for 3 mask values"),
        ({"scale": 0}, "scale=0 must be positive"),
        ({"tile": 4}, "tile=4 leaves no center between two margins of 2"),
        ({"batch_size": 0}, "batch_size=0: at least 1 tile"),
        ({"contours": True, "simplify": -1}, "simplify=-1 is a distance in pixels, 0 or more"),
    ],
)
def test_arguments_that_cannot_be_are_refused(module, tmp_path, options, message):
    source = write_image(tmp_path / "a.png")
    with pytest.raises(ValueError, match=message):
        predict(module, source, tmp_path / "out", **options)


def test_input_without_images_is_refused(module, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        predict(module, tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"holds no image; looked for jpg"):
        predict(module, tmp_path, tmp_path / "out")
    (tmp_path / "a.pdf").touch()
    with pytest.raises(ValueError, match="is not an image file"):
        predict(module, tmp_path / "a.pdf", tmp_path / "out")
    with pytest.raises(ValueError, match="is a file; name a folder"):
        predict(module, write_image(tmp_path / "a.png"), tmp_path / "a.pdf")


def test_a_module_in_training_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"module\.eval\(\)"):
        predict(Brightest().train(), write_image(tmp_path / "a.png"), tmp_path / "out")


def test_what_is_no_image_file_is_one_skipped_file_with_one_line(module, tmp_path):
    source = tmp_path / "in"
    write_image(source / "a.png")
    os.mkfifo(source / "pipe.png")
    (source / "loop.png").symlink_to("loop.png")
    (source / "gone.png").symlink_to("nowhere.png")
    (source / "device.png").symlink_to("/dev/zero")
    write_image(source / os.fsdecode(b"caf\xe9.png"))
    write_image(source / ("x" * 251 + ".png"))
    write_image(source / "large.png", (50, 50))
    result = predict(module, source, tmp_path / "out", overlay=True, max_pixels=2000)
    reasons = {path.name: reason for path, reason in result.failed}
    assert result.written == 2
    assert set(reasons) == {"pipe.png", "loop.png", "gone.png", "device.png", "large.png", "x" * 251 + ".png"}
    assert "max_pixels=2,000" in reasons["large.png"]
    assert "file name too long" in reasons["x" * 251 + ".png"]
    assert not [name for name in files(tmp_path / "out") if "partial" in name]


def test_links_are_followed_once_and_hidden_folders_are_not_taken(module, tmp_path):
    write_image(tmp_path / "elsewhere" / "b.png")
    write_image(tmp_path / "in" / ".ipynb_checkpoints" / "a.png")
    write_image(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    assert predict(module, tmp_path / "in", tmp_path / "out").written == 2
    assert files(tmp_path / "out") == ["a.png", "linked/b.png"]


def full(*_, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["os.posix_fallocate", "PIL.Image.Image.save", "os.fsync"])
def test_a_full_disk_ends_it_with_one_line_and_leaves_no_partial_file(module, tmp_path, monkeypatch, where):
    write_image(tmp_path / "in" / "a.png")
    monkeypatch.setattr(where, full)
    with pytest.raises(
        OSError, match=r"out cannot be written to: no space left on device\. Predicted before: 0 images"
    ):
        predict(module, tmp_path / "in", tmp_path / "out", probabilities=True)
    assert not [name for name in files(tmp_path / "out") if "partial" in name]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("where", ["PIL.Image.Image.save", "lightning_seg.inference.image_jobs.geojson", "os.fsync"])
def test_of_an_image_that_lacks_one_of_its_files_none_is_kept_nor_replaced(
    module, tmp_path, monkeypatch, where, overwrite
):
    options = {"overlay": True, "probabilities": True, "contours": True, "run_lengths": True}
    write_image(tmp_path / "in" / "a.png")
    if overwrite:
        predict(module, tmp_path / "in", tmp_path / "out", **options)
        write_image(tmp_path / "in" / "a.png", seed=1)
    before = {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")}
    monkeypatch.setattr(where, full)
    with pytest.raises(OSError, match="no space left on device"):
        predict(module, tmp_path / "in", tmp_path / "out", overwrite=overwrite, **options)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")} == before


@pytest.fixture
def of_volumes(module, tmp_path, monkeypatch):
    """A module of volumes, and a folder of two."""
    for place in ("a", "deep/b"):
        (tmp_path / "in" / place).parent.mkdir(parents=True, exist_ok=True)
        voxels = np.random.default_rng(0).integers(0, 256, (6, 7, 8), dtype=np.uint8)
        np.save(tmp_path / "in" / f"{place}.npy", voxels)
    module.volumes = VolumeReading(value_range=[0, 255])
    monkeypatch.setattr(module, "predict_logits", lambda image, size: torch.cat([image, 0.7 - image, 0 * image], 1))
    return module, tmp_path / "in"


def predict_volumes(module, source, target, **options):
    return predict(module, source, target, tile=None, margin=None, **options)


def test_a_full_disk_ends_the_prediction_of_volumes_and_leaves_none_of_the_files_of_the_last(
    of_volumes, tmp_path, monkeypatch
):
    module, source = of_volumes
    write, written = volume_jobs.write_nifti, []

    def writes(path, *given):
        written.append(path)
        write(path, *given) if len(written) < 4 else full()

    monkeypatch.setattr(volume_jobs, "write_nifti", writes)
    with pytest.raises(OSError, match=r"out .*: no space left on device\. Predicted before: 1 volume\."):
        predict_volumes(module, source, tmp_path / "out", probabilities=True)
    assert files(tmp_path / "out") == ["a.nii.gz", "a_probabilities.nii.gz"]


def test_volumes_that_are_kept_are_counted_from_their_masks_and_not_predicted_again(of_volumes, tmp_path, monkeypatch):
    module, source = of_volumes
    out, seen, forward = tmp_path / "out", [], module.predict_logits
    predict_volumes(module, source, out, areas=True)
    table = (out / "areas.csv").read_text()
    assert [sum(map(int, row.split(",")[1:])) for row in table.splitlines()[1:]] == [6 * 7 * 8] * 2
    (out / "deep" / "b.nii.gz").unlink()
    monkeypatch.setattr(module, "predict_logits", lambda *given: seen.append(given) or forward(*given))
    done = predict_volumes(module, source, out, areas=True, resume=True)
    assert (done.written, done.kept, done.noun, len(seen)) == (1, 1, "volume", 1)
    assert (out / "areas.csv").read_text() == table
    (out / "a.nii.gz").write_bytes(b"damaged")
    ((path, reason),) = predict_volumes(module, source, out, areas=True, resume=True).failed
    assert path == out / "a.nii.gz"
    assert "cannot be read" in reason
    assert [row.split(",")[0] for row in (out / "areas.csv").read_text().splitlines()] == ["volume", "deep/b"]


@pytest.mark.parametrize("given", ["in/**/*.npy", "in/list.txt", "in"])
def test_volumes_are_a_pattern_a_list_or_a_folder_that_may_hold_the_output(of_volumes, tmp_path, given):
    module, source = of_volumes
    (source / "list.txt").write_text("# two\na.npy\ndeep/b.npy\n")
    for resume in (False, True):
        predict_volumes(module, tmp_path / given, source / "out", resume=resume)
        assert files(source / "out") == ["a.nii.gz", "deep/b.nii.gz"]


def test_volumes_of_several_labels_a_voxel_give_probabilities_alone(of_volumes, tmp_path, monkeypatch):
    module, source = of_volumes
    monkeypatch.setattr(module, "task", "multilabel", raising=False)
    with pytest.raises(ValueError, match="ask for probabilities=true"):
        predict_volumes(module, source, tmp_path / "out")
    predict_volumes(module, source, tmp_path / "out", probabilities=True)
    assert files(tmp_path / "out") == ["a_probabilities.nii.gz", "deep/b_probabilities.nii.gz"]


def test_probabilities_larger_than_a_file_may_be_are_one_line_and_leave_nothing(module, tmp_path):
    write_image(tmp_path / "in" / "a.png")
    with file_limit(512):
        done = predict(module, tmp_path / "in", tmp_path / "out", probabilities=True)
    ((path, reason),) = done.failed
    assert path.name == "a.png"
    assert "large" in reason.lower()
    assert not files(tmp_path / "out")


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_an_image_that_does_not_fit_into_memory_is_skipped(module, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    source = write_image(tmp_path / "a.png")
    monkeypatch.setattr(module, "predict_logits", fail)
    ((path, reason),) = predict(module, source, tmp_path / "out").failed
    assert (path, reason) == (source, "it does not fit into memory; a smaller tile takes less of it.")


def test_a_defect_of_the_module_is_not_an_unreadable_image(module, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("a defect")

    monkeypatch.setattr(module, "predict_logits", fail)
    with pytest.raises(ValueError, match="a defect"):
        predict(module, write_image(tmp_path / "a.png"), tmp_path / "out")


def test_while_an_image_is_predicted_the_next_is_read_and_the_one_before_written(module, tmp_path, monkeypatch):
    for name in "ab":
        write_image(tmp_path / "in" / f"{name}.png")
    read_b, predicted_b, in_time = Event(), Event(), []
    open_one, forward, write_one = image_jobs.open_raster, module.predict_logits, image_jobs.mask_picture

    def reads(path, **options):
        if path.stem == "b":
            read_b.set()
        return open_one(path, **options)

    def predicts(*given):
        if not in_time:
            in_time.append(read_b.wait(30))
        elif len(in_time) == 1 and read_b.is_set() and calls:
            predicted_b.set()
        calls.append(1)
        return forward(*given)

    def writes(*given):
        writes_begun.append(1)
        if len(writes_begun) == 1:  # that of b may begin while this one waits
            in_time.append(predicted_b.wait(30))
        return write_one(*given)

    calls, writes_begun = [], []
    monkeypatch.setattr(image_jobs, "open_raster", reads)
    monkeypatch.setattr(image_jobs, "mask_picture", writes)
    monkeypatch.setattr(module, "predict_logits", predicts)
    assert predict(module, tmp_path / "in", tmp_path / "out", tile=64).written == 2
    assert in_time == [True, True]


def test_what_another_checkpoint_or_other_options_made_is_not_kept_with_resume(module, tmp_path, caplog):
    source, out = tmp_path / "in", tmp_path / "out"
    for name in "ab":
        write_image(source / f"{name}.png")
    first, other = {"checkpoint": ["1"], "tile": 64}, {"checkpoint": ["2"], "tile": 64}
    predict(module, source, out, made_by=first)
    (out / "b.png").unlink()
    for changed, message in (
        (other, r"resume=true would keep results in .*out that were made with other checkpoints: name another output"),
        ({**first, "tile": 32}, "that were made with tile=64, not 32: name another output folder, or set overwrite"),
    ):
        with pytest.raises(ValueError, match=message):
            predict(module, source, out, resume=True, made_by=changed)
        assert files(out) == [".made_by.json", "a.png"]
    done = predict(module, source, out, resume=True, made_by=first)
    assert (done.written, done.kept) == (1, 1)

    predict(module, source, out, overwrite=True, made_by=other)
    assert predict(module, source, out, resume=True, made_by=other).kept == 2
    predict(module, write_image(tmp_path / "c.png"), out, made_by=first)  # beside those of the other
    with pytest.raises(ValueError, match="other checkpoints"):
        predict(module, source, out, resume=True, made_by=other)
    (out / ".made_by.json").unlink()
    assert predict(module, source, out, resume=True, made_by=other).kept == 2
    assert "does not say what made the results in it that are kept" in caplog.text


def test_checkpoints_are_told_by_their_content_and_not_by_their_name(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
        hub = tmp_path / f"{name}_hub"
        hub.mkdir()
        (hub / "config.json").write_bytes(content)
        (hub / "model.safetensors").write_bytes(b"")
    for end in ("", "_hub"):
        (one,), (same,), (another,) = (digests(f"{tmp_path / name}{end}") for name in "abc")
        assert one == same != another
    assert digests(["hf://owner/name"]) == ["hf://owner/name"]


def test_an_output_folder_that_cannot_be_made_is_one_line_for_all_images(module, tmp_path):
    for name in "ab":
        write_image(tmp_path / "in" / f"{name}.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"output=.*file/out cannot be made: not a directory\."):
        predict(module, tmp_path / "in", tmp_path / "file" / "out")


def test_a_jpeg_that_is_cut_short_is_skipped_without_a_place_in_the_source_of_torchvision(module, tmp_path):
    path = write_image(tmp_path / "in" / "a.jpg", (200, 100))
    path.write_bytes(path.read_bytes()[:3000])
    ((_, reason),) = predict(module, tmp_path / "in", tmp_path / "out").failed
    assert reason == f"{path} cannot be read as an image: Image is incomplete or truncated."
