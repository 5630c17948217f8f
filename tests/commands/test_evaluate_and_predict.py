import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_seg import SegmentationModule, load_module
from lightning_seg.checkpoint import CONFIG_KEY
from lightning_seg.commands import predict
from lightning_seg.commands.evaluate import data_config
from lightning_seg.commands.prediction_options import set_prediction_options
from lightning_seg.losses import CrossEntropyLoss
from tests.console import SCORES_ONLY, SHORT, Run, write_folder

TRAIN = (
    "lightning-seg-train",
    *SHORT,
    *SCORES_ONLY,
    "run=mine",
    "data=folder",
    "data.root=my_images",
    "data.num_classes=3",
    "data.ignore_index=255",
    "data.num_workers=0",
)
CHECKPOINT = "checkpoint=runs/mine/checkpoints/best.ckpt"


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run that all tests start from is trained, by the first of them."""
    return tmp_path_factory.mktemp("trained") / "runs"


@pytest.fixture
def trained(run: Run, folder: Path, run_once: Path) -> Path:
    if not run_once.exists():
        run(*TRAIN)
        shutil.copytree("runs", run_once)
    else:
        shutil.copytree(run_once, "runs")
    return folder


@pytest.mark.slow
def test_evaluation_repeats_the_training_runs_own_test_to_the_last_digit(run: Run, trained: Path) -> None:
    run("lightning-seg-evaluate", CHECKPOINT, "output=scores.csv")
    assert (trained / "scores.csv").read_text() == (trained / "runs/mine/test.csv").read_text()


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one_on_an_odd_number_of_images(run: Run, trained: Path) -> None:
    run("lightning-seg-evaluate", CHECKPOINT, "output=one.csv")
    run("lightning-seg-evaluate", CHECKPOINT, "output=two.csv", "trainer=ddp_sim")
    assert (trained / "one.csv").read_text() == (trained / "two.csv").read_text()


@pytest.mark.slow
def test_test_time_augmentation_is_a_switch_of_training_evaluation_and_prediction(
    run: Run, folder: Path, trained: Path
) -> None:
    views = "{scales:[0.75,1.0],flips:flip}"
    run(*TRAIN, "run=turned", f"module.test_time_augmentation={views}")
    turned = "checkpoint=runs/turned/checkpoints/best.ckpt"
    tests = {name: (folder / f"runs/{name}/test.csv").read_text() for name in ("mine", "turned")}
    assert tests["mine"] != tests["turned"]  # The training is the same, with the same validations.
    run("lightning-seg-evaluate", CHECKPOINT, f"test_time_augmentation={views}", "output=on.csv", "trainer=ddp_sim")
    run("lightning-seg-evaluate", turned, "test_time_augmentation=false", "output=off.csv")
    run("lightning-seg-evaluate", turned, "output=kept.csv")
    assert (folder / "on.csv").read_text() == (folder / "kept.csv").read_text() == tests["turned"]
    assert (folder / "off.csv").read_text() == tests["mine"]

    shot = "input=my_images/test/images"
    for output, arguments in (("asked", [CHECKPOINT, f"test_time_augmentation={views}"]), ("kept", [turned])):
        run("lightning-seg-predict", *arguments, shot, f"output={output}", "probabilities=true")
    module = load_module("runs/mine/checkpoints/best.ckpt")
    module.test_time_augmentation = {"scales": [0.75, 1.0], "flips": "flip"}
    image = torch.from_numpy(np.asarray(Image.open("my_images/test/images/0.jpg")).copy()).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = module.probabilities(module.predict_logits(image))[0].half().numpy()
    for output in ("asked", "kept"):
        np.testing.assert_allclose(np.load(f"{output}/0_probabilities.npy"), expected, atol=1e-3)


@pytest.mark.slow
def test_evaluation_says_what_is_wrong(fails: Run, run: Run, trained: Path) -> None:
    assert "nowhere.ckpt" in fails("lightning-seg-evaluate", "checkpoint=nowhere.ckpt")
    assert "split=train" in fails("lightning-seg-evaluate", CHECKPOINT, "split=train")
    (trained / "there.csv").write_text("mine")
    assert "there.csv exists" in fails("lightning-seg-evaluate", CHECKPOINT, "output=there.csv")
    assert (trained / "there.csv").read_text() == "mine"
    (trained / "text.ckpt").write_text("no checkpoint")
    assert "text.ckpt" in fails("lightning-seg-evaluate", "checkpoint=text.ckpt")


@pytest.mark.slow
def test_data_without_splits_are_scored_as_a_whole_with_the_classes_of_the_checkpoint_or_those_that_are_given(
    run: Run, fails: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "all", {".": 4})
    path = planted(tmp_path / "a.ckpt", module={"class_names": ["a", "b", "c", "d", "e", "f"]})
    other = ("lightning-seg-evaluate", path, "data=folder", "data.root=all", "data.num_workers=0")
    printed = run(*other)
    assert "has no splits: all its images are scored" in printed
    assert f"of 4 images and {4 * 38 * 48:,} pixels" in printed  # without two rows of void
    for name in "abcdef":
        assert f" {name} " in printed
    assert "of 1 image and 1,824 pixels" in run(*other, "split=test")

    for index in range(4):
        mask = np.asarray(Image.open(tmp_path / f"all/masks/{index}.png")).copy()
        mask[mask == 255] = 9
        Image.fromarray(mask).save(tmp_path / f"all/masks/{index}.png")
    assert "9" in fails(*other)
    names = "data.class_names=[u,v,w,x,y,z]"
    printed = run(*other, "data.ignore_index=9", names, "output=scores.csv")
    assert f"of 4 images and {4 * 38 * 48:,} pixels" in printed
    assert [line.split(",")[0] for line in Path("scores.csv").read_text().splitlines()] == ["class", *"uvwxyz", "mean"]
    assert "split=all is for folders of images, not for ShapesDataModule" in fails(*other[:2], "split=all")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("data.batch_size=two", "data.batch_size=two must be an integer"),
        ("data.num_test=0", "data.num_test=0, but it must be 1 or more"),
        ("data.num_workers=1.5", "data.num_workers=1.5 must be an integer"),
        ("data.image_sise=3", "data.image_sise is not an option"),
    ],
)
def test_the_data_of_an_evaluation_are_checked_like_those_of_a_training(
    fails: Run, tmp_path: Path, option: str, message: str
) -> None:
    assert message in fails("lightning-seg-evaluate", planted(tmp_path / "a.ckpt"), option)


def planted(path: Path, **parts: Any) -> str:
    """A checkpoint of a small network on embedded data, with other parts of its configuration; the argument for it."""
    module = {
        "_target_": "lightning_seg.SegmentationModule",
        "backbone": {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 6, "kernel_size": 1},
        "loss": {"_target_": "lightning_seg.losses.CrossEntropyLoss", "ignore_index": 255},
        **{"num_classes": 6, "ignore_index": 255},
    }
    data = {
        "_target_": "lightning_seg.data.ShapesDataModule",
        **{"num_train": 2, "num_val": 2, "num_test": 2, "image_size": 32, "seed": 0, "batch_size": 2},
        **{"ignore_index": 255, "num_workers": 0, "augment": None},
    }
    trainer = {"_target_": "lightning.Trainer", "precision": "32-true", "devices": 1, "num_nodes": 1}
    config = {"module": module, "data": data, "trainer": trainer}
    for name, part in parts.items():
        config[name] = {**config.get(name, {}), **part}
    state = {"backbone.weight": torch.ones(6, 3, 1, 1), "backbone.bias": torch.zeros(6)}
    torch.save({"state_dict": state, "epoch": 0, CONFIG_KEY: {"config": config, "version": "0"}}, path)
    return f"checkpoint={path}"


DEFAULTS = [{"override /hydra/job_logging": "disabled"}, {"/hydra/callbacks": "x"}, {"/trainer": "ddp_sim"}]


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts",
    [
        {"trainer": {"defaults": DEFAULTS}},
        {"trainer": {"plugins": {"_target_": "os.mkdir", "path": "made"}}},
        {"trainer": {"_target_": "os.mkdir", "path": "made"}},
        {"trainer": {"callbacks": [{"_target_": "lightning.pytorch.callbacks.LambdaCallback"}]}},
        {"trainer": {"devices": 3000, "num_nodes": 2, "strategy": "ddp", "accelerator": "nothing"}},
        {"trainer": {"default_root_dir": "made", "logger": True, "profiler": "advanced"}},
        {"hydra": {"callbacks": {"mine": {"_target_": "os.mkdir", "path": "made"}}}},
        {"data": {"num_workers": 3000}, "trusted": {"a": "os"}},
    ],
    ids=str,
)
def test_where_and_how_an_evaluation_runs_is_not_said_by_the_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = run("lightning-seg-evaluate", planted(tmp_path / "a.ckpt", **parts), "trainer.accelerator=cpu")
    assert "triangle" not in printed
    assert "test scores" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"data": {"defaults": DEFAULTS}}, "defaults"),
        ({"data": {"root": "${oc.env:HOME}"}}, "a computed value"),
        ({"data": {"_target_": "os.mkdir"}}, "asks to build 'os.mkdir' as data"),
        ({"data": {"_target_": "lightning_seg.data.FolderDataset"}}, "asks to build"),
        ({"data": {"augment": {"_target_": "os.mkdir", "path": "made"}, "scale": 60}}, "config.data.scale is 60"),
        ({"data": {"num_classes": 3, "class_names": ["a", "b", "c"]}}, "3 classes"),
        ({"module": {"loss": {"_target_": "os.mkdir", "path": "made"}}}, "asks to build 'os.mkdir' as module.loss"),
        ({"trainer": {"precision": "os.mkdir"}}, "trainer.precision='os.mkdir', which no trainer takes"),
        ({"trainer": {"limit_test_batches": [1]}}, "trainer.limit_test_batches="),
    ],
    ids=str,
)
def test_a_file_that_asks_for_more_than_data_ends_an_evaluation_in_one_line(
    fails: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: Any, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in fails("lightning-seg-evaluate", planted(tmp_path / "a.ckpt", **parts), "trainer.accelerator=cpu")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt"]


@pytest.mark.slow
def test_the_command_line_is_above_the_file_and_knows_its_options(run: Run, fails: Run, tmp_path: Path) -> None:
    checkpoint = planted(tmp_path / "a.ckpt")
    run("lightning-seg-evaluate", checkpoint, f"output={tmp_path}/one.csv", "trainer.accelerator=cpu")
    changed = ("trainer.accelerator=cpu", "data.seed=1", "data.num_test=3")
    run("lightning-seg-evaluate", checkpoint, f"output={tmp_path}/two.csv", *changed)
    assert (tmp_path / "one.csv").read_text() != (tmp_path / "two.csv").read_text()
    assert "data.sed is not an option of the checkpoint's data" in fails(
        "lightning-seg-evaluate", checkpoint, "data.sed=1"
    )
    assert "ShapesDataModule takes no more" in fails("lightning-seg-evaluate", checkpoint, "+data.more=1")


@pytest.mark.slow
def test_other_data_is_one_key_away(run: Run, trained: Path) -> None:
    write_folder(trained / "elsewhere", {"train": 1, "val": 1, "test": 5})
    run("lightning-seg-evaluate", CHECKPOINT, "data.root=elsewhere", "output=other.csv")
    assert (trained / "other.csv").read_text() != (trained / "runs/mine/test.csv").read_text()


@pytest.mark.slow
def test_prediction_writes_what_the_loaded_module_says_at_each_images_size(run: Run, trained: Path) -> None:
    photos = trained / "photos"
    photos.mkdir()
    random = np.random.default_rng(1)
    for name, size in (("small.png", (7, 5)), ("odd.png", (51, 83))):
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(photos / name)
    run("lightning-seg-predict", CHECKPOINT, "input=photos", "output=masks")
    module = load_module("runs/mine/checkpoints/best.ckpt")
    for name in ("small.png", "odd.png"):
        image = torch.from_numpy(np.asarray(Image.open(photos / name)).copy()).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            labels = module.predict_labels(module(image))[0].numpy()
        with Image.open(trained / "masks" / name) as mask:
            assert mask.mode == "P"
            np.testing.assert_array_equal(np.asarray(mask), labels)


@pytest.mark.slow
def test_a_split_of_the_training_data_is_predicted_with_their_areas(run: Run, fails: Run, trained: Path) -> None:
    run("lightning-seg-predict", CHECKPOINT, "split=test", "output=of_split", "areas=true", "contours=true")
    run("lightning-seg-predict", CHECKPOINT, "input=my_images/test/images/*.jpg", "output=of_pattern")
    assert sorted(path.name for path in (trained / "of_split").glob("*.png")) == ["0.png", "1.png", "2.png"]
    assert (trained / "of_split/1.png").read_bytes() == (trained / "of_pattern/1.png").read_bytes()
    assert len((trained / "of_split/areas.csv").read_text().splitlines()) == 4
    assert "3 kept" in run("lightning-seg-predict", CHECKPOINT, "split=test", "output=of_split", "resume=true")
    assert "give either input=FOLDER or split=test" in fails("lightning-seg-predict", CHECKPOINT, "output=none")


@pytest.mark.slow
def test_an_unreadable_image_is_reported_skipped_and_told_by_the_exit_status(
    run: Run, trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (trained / "my_images/test/images/broken.jpg").write_text("not an image")
    with pytest.raises(SystemExit) as ended:
        run("lightning-seg-predict", CHECKPOINT, "input=my_images/test/images", "output=masks")
    assert ended.value.code == 1
    assert "broken.jpg" in capfd.readouterr().err
    assert sorted(path.name for path in (trained / "masks").iterdir()) == [".made_by.json", "0.png", "1.png", "2.png"]


@pytest.mark.slow
def test_two_processes_write_and_say_what_one_does(
    run: Run, fails: Run, capfd: pytest.CaptureFixture[str], trained: Path
) -> None:
    images = trained / "my_images/test/images"
    (images / "1a.jpg").write_bytes(b"not an image")
    (images / "3.jpg").write_bytes(b"nor this")
    asked = [
        CHECKPOINT,
        f"input={images}",
        "device=cpu",
        *(f"{name}=true" for name in ("overlay", "contours", "areas")),
    ]
    said = []
    for output, devices in (("one", 1), ("two", 2)):
        arguments = [*asked, "probabilities=true", f"output={output}", f"devices={devices}"]
        with pytest.raises(SystemExit):
            run("lightning-seg-predict", *arguments)
        out, err = capfd.readouterr()
        lines = [line for line in err.splitlines() if line.startswith("skipped")]
        said.append((lines, out.splitlines()[-1].replace(output, "")))
    assert said[0] == said[1]
    assert [line.split(":")[0].split("/")[-1] for line in said[1][0]] == ["1a.jpg", "3.jpg"]
    written = {path.relative_to("one"): path.read_bytes() for path in Path("one").iterdir()}
    assert written == {path.relative_to("two"): path.read_bytes() for path in Path("two").iterdir()}
    assert len(written) == 3 * 4 + 2

    assert "exists already (10 of 16 files do)" in fails("lightning-seg-predict", *asked, "output=two", "devices=2")
    for name in ("1a.jpg", "3.jpg"):
        (images / name).unlink()
    Path("two/1.png").unlink()
    line = run("lightning-seg-predict", *asked, "output=two", "devices=2", "resume=true").splitlines()[-1]
    assert line == "1 image predicted into two, 2 kept, 0 skipped"
    assert {path.relative_to("two"): path.read_bytes() for path in Path("two").iterdir()} == written


@pytest.mark.slow
def test_existing_predictions_are_kept(run: Run, fails: Run, trained: Path) -> None:
    arguments = ("lightning-seg-predict", CHECKPOINT, "input=my_images/test/images", "output=masks")
    run(*arguments)
    assert "overwrite=true" in fails(*arguments)
    run(*arguments, "overwrite=true")


@pytest.mark.slow
def test_a_checkpoint_that_asks_to_build_something_else_is_refused_by_name(fails: Run, trained: Path) -> None:
    path = trained / "runs/mine/checkpoints/best.ckpt"
    content = torch.load(path, weights_only=True)
    content["lightning_seg"]["config"]["module"]["loss"] = {"_target_": "os.mkdir", "path": "made_by_the_file"}
    torch.save(content, trained / "bad.ckpt")
    for command in ("lightning-seg-evaluate", "lightning-seg-predict"):
        rest = ["input=my_images/test/images", "output=masks"] if command.endswith("predict") else []
        assert "os.mkdir" in fails(command, "checkpoint=bad.ckpt", *rest)
    assert not (trained / "made_by_the_file").exists()


def test_a_split_is_found_by_the_configuration_of_its_run_where_the_checkpoint_does_not_tell_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "data", {"train": 1, "val": 1, "test": 2})
    classes = {"num_classes": 3, "ignore_index": 255, "val_fraction": 0.3, "test_fraction": 0.3, "seed": 0}
    data = {"_target_": "lightning_seg.data.FolderDataModule", "root": "???", "batch_size": 1, **classes}
    (tmp_path / "config.yaml").write_text(f"data:\n  root: {tmp_path / 'data'}\n")
    monkeypatch.setattr(predict, "read_checkpoint", lambda path: {"config": {"data": data}})
    config = {"checkpoint": str(tmp_path / "checkpoints" / "best.ckpt"), "split": "test", "trusted": []}
    assert [path.name for path in predict._files_of_split(config)] == ["0.jpg", "1.jpg"]


def test_no_data_set_is_downloaded_because_a_checkpoint_names_it(tmp_path: Path) -> None:
    stored = {"_target_": "lightning_seg.data.HuggingFaceDataModule", "path": "stranger/set"}
    for target in (stored["_target_"], "lightning_seg.data.huggingface.HuggingFaceDataModule"):
        with pytest.raises(ValueError, match=r"names the data set stranger/set, .* takes data\.path=stranger/set"):
            data_config({**stored, "_target_": target}, {}, [], "a.ckpt")
    assert data_config(stored, {"path": "stranger/set"}, [], "a.ckpt") == stored
    here = {**stored, "path": str(tmp_path)}
    assert data_config(here, {}, [], "a.ckpt") == here


@pytest.mark.parametrize("threshold", [0.5, 0.3, "best"])
def test_a_threshold_is_refused_where_a_task_has_none(threshold: float | str) -> None:
    module = SegmentationModule(torch.nn.Conv2d(3, 2, 1), CrossEntropyLoss(), num_classes=2)
    options = dict.fromkeys(("tile", "margin", "tiling", "test_time_augmentation"))
    with pytest.raises(ValueError, match=rf"threshold={threshold} applies to task=binary only, and task=multiclass"):
        set_prediction_options(module, {**options, "threshold": threshold})
