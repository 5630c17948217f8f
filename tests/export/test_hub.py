import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_seg import load_module
from lightning_seg.checkpoint import CONFIG_KEY
from lightning_seg.csv_files import write_csv
from lightning_seg.export import push_to_hub, write_hub_folder
from lightning_seg.export.hub import model_card
from lightning_seg.files import write_json
from tests.commands.test_evaluate_and_predict import planted
from tests.console import Run


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    planted(path, module={"class_names": ["sky", "a|b", "c", "d", "e", "f"]}, data={"scale": 0.5, "root": "/home/me/x"})
    return path


def test_a_folder_loads_as_its_checkpoint_and_says_nothing_of_the_machine(checkpoint: Path, tmp_path: Path) -> None:
    write_hub_folder(checkpoint, tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert "/home" not in (tmp_path / "model" / "config.json").read_text()
    one, other = load_module(checkpoint), load_module(tmp_path / "model")
    image = torch.rand(3, 9, 14)
    assert torch.equal(one.predict(image), other.predict(image))
    assert (other.scale, other.class_names) == (0.5, one.class_names)
    with pytest.raises(FileExistsError, match="model exists"):
        write_hub_folder(checkpoint, tmp_path / "model")


def test_half_precision_halves_the_weights(checkpoint: Path, tmp_path: Path) -> None:
    write_hub_folder(checkpoint, tmp_path / "model", half=True)
    assert torch.equal(load_module(tmp_path / "model").backbone.weight, load_module(checkpoint).backbone.weight.half())


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("test.csv", ""),
        ("test.csv", "class,iou\n" + "a,0.5\n" * 70_000),
        ("evaluation/summary.json", "[1]"),
        ("evaluation/summary.json", "{}"),
        ("evaluation/summary.json", '{"intervals": {"iou": {"low": "a", "high": "b"}}}'),
        ("evaluation/summary.json", '{"images": "<b>", "intervals": {"iou": {"low": 0.1, "high": 0.2}}}'),
        ("evaluation/summary.json", '{"images": 1, "intervals": {"iou": 3}}'),
    ],
)
def test_files_of_a_run_that_are_not_what_runs_write_are_named(
    checkpoint: Path, tmp_path: Path, file: str, content: str
) -> None:
    run = tmp_path / "run"
    (run / "evaluation").mkdir()
    (run / "config.yaml").write_text("seed: 0\n")
    (run / "test.csv").write_text("class,iou\nmean,0.5\n")
    (run / file).write_text(content)
    with pytest.raises(ValueError, match=rf"{file} is not (what a run writes|the table of a test)"):
        write_hub_folder(checkpoint, tmp_path / "model")
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_the_card_is_written_from_the_run(checkpoint: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_hub_folder(checkpoint, tmp_path / "early", name="me/early")
    assert "Not known" in (tmp_path / "early" / "README.md").read_text()
    (run / "config.yaml").write_text("seed: 0\n")
    write_csv(
        run / "test.csv",
        [("class", "iou", "images", "pixels"), ("7", 0.5, None, None), ("mean", 0.4321, 30, 600)],
    )
    (run / "evaluation").mkdir()
    write_json(run / "evaluation" / "summary.json", {"images": 7, "intervals": {"iou": {"low": 0.40111, "high": 0.45}}})
    write_hub_folder(checkpoint, tmp_path / "model", name="me/model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: lightning_seg\n")
    for words in (
        r"sky, a\|b, c",
        "CrossEntropyLoss",
        "ShapesDataModule, the folder `x`",
        "(multiclass) of 6 classes, trained",
        "| 7 | 50.00 |",
        "| mean | 43.21 |",
        "## Scores on the test split",
        "Of 30 images and 600 pixels.",
        "over 7 images, in %: iou 40.11 to 45.00",
        'load_module("hf://me/model").predict("photo.jpg")',
    ):
        assert words in card


def test_a_card_names_the_folder_of_the_run_and_says_where_no_test_split_was_scored(tmp_path: Path) -> None:
    module = {"num_classes": 1, "backbone": {"_target_": "a.Net"}, "loss": {"_target_": "a.Loss"}}
    data = {"_target_": "lightning_seg.data.FolderDataModule", "root": "???"}
    kept = {"module": module, "scale": 1.0}
    (tmp_path / "config.yaml").write_text("data:\n  root: /home/me/street_scenes\n")
    for splits, words in ((["train", "val"], "validation images, by which the epoch"), (["val", "test"], "test split")):
        write_json(tmp_path / "data.json", {split: {"images": 3} for split in splits})
        card = model_card({"data": data}, kept, tmp_path, "me/model")
        assert "FolderDataModule, the folder `street\\_scenes`" in card
        assert f"## Scores on the {words}" in card
    card = model_card({"data": data}, kept, None, "me/model")
    assert "**Data**: FolderDataModule\n" in card
    assert "of 1 class, trained" in card
    assert "void pixels: none\n" in card


def test_an_address_is_downloaded_under_the_rules_of_a_checkpoint(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_hub_folder(checkpoint, tmp_path / "model")
    asked: list[Any] = []

    def snapshot(name: str, **options: Any) -> str:
        asked.append((name, options))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert load_module("hf://me/model@v1").num_classes == 6
    assert asked == [("me/model", {"revision": "v1", "allow_patterns": ["config.json", "model.safetensors"]})]
    with pytest.raises(ValueError, match="hf://owner/name"):
        load_module("hf://../etc")

    content = json.loads((folder / "config.json").read_text())
    content[CONFIG_KEY]["config"]["module"]["loss"] = {"_target_": "os.mkdir", "path": "made"}
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"asks to build 'os\.mkdir' as module\.loss"):
        load_module("hf://me/model")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{", "cannot be read as JSON"),
        ("config.json", b"[]", "holds no configuration"),
        ("model.safetensors", b"no weights", "cannot be read as safetensors"),
    ],
)
def test_a_damaged_folder_is_one_line(
    checkpoint: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    folder = write_hub_folder(checkpoint, tmp_path / "model")
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_module(folder)


def test_what_cannot_be_fetched_or_uploaded_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("401 Client Error\nmore of it")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", fail)
    with pytest.raises(OSError, match=r"hf://me/model cannot be fetched: 401 Client Error$"):
        load_module("hf://me/model")
    with pytest.raises(OSError, match=r"cannot be uploaded to me/model: 401 Client Error$"):
        push_to_hub(tmp_path, "me/model")


def test_the_command_writes_each_format_and_says_what_it_compared(
    run: Run, fails: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = planted(tmp_path / "a.ckpt")
    uploaded: list[Any] = []
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda self, *given, **named: uploaded.append(given))
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", lambda self, **named: uploaded.append(named["repo_id"]))
    printed = run("lightning-seg-export", checkpoint, "format=hub", "output=model", "push=me/model")
    assert uploaded == [("me/model",), "me/model"]
    assert "hf://me/model" in printed
    printed = run("lightning-seg-export", checkpoint, "format=torch_export", "output=model.pt2")
    assert "100.000 % of labels are equal, at 1×64×128" in printed
    assert "overwrite=true" in fails("lightning-seg-export", checkpoint, "format=torch_export", "output=model.pt2")
    assert "format=onn" in fails("lightning-seg-export", checkpoint, "format=onn", "output=model.onnx")
    assert "does not apply to format=hub" in fails(
        "lightning-seg-export", checkpoint, "format=hub", "output=b", "argmax=true"
    )
    assert "must have the suffix .onnx" in fails("lightning-seg-export", checkpoint, "output=model")


@pytest.mark.slow
def test_prediction_takes_a_file_and_a_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    checkpoint = planted(tmp_path / "a.ckpt")
    Image.new("RGB", (21, 13), (200, 30, 90)).save("photo.png")
    run("lightning-seg-export", checkpoint, "output=model.onnx")
    run("lightning-seg-export", checkpoint, "format=hub", "output=model")
    for name in ("a.ckpt", "model.onnx", "model"):
        run("lightning-seg-predict", f"checkpoint={name}", "input=photo.png", f"output=of_{name}")
    masks = [(tmp_path / f"of_{name}" / "photo.png").read_bytes() for name in ("a.ckpt", "model.onnx", "model")]
    assert masks[0] == masks[1] == masks[2]
