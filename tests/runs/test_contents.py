import json
import math
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lightning_seg.runs import contents
from lightning_seg.runs.contents import read_result, write_result
from lightning_seg.runs.folder import run_id
from tests.report.conftest import composed

CONF = Path(__file__).parents[2] / "conf"


def test_a_result_is_valid_json_and_what_was_undefined_is_nan_again(tmp_path: Path) -> None:
    write_result(tmp_path, {"best": -math.inf, "monitor": "val/iou", "test": {"test/iou": math.nan, "test/loss": 0.5}})

    def refuse(name: str) -> float:
        raise AssertionError(name)

    text = (tmp_path / "result.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse)["best"] is None
    result = read_result(tmp_path)
    assert result is not None
    assert math.isnan(result["best"])
    assert math.isnan(result["test"]["test/iou"])
    assert result["test"]["test/loss"] == 0.5


def test_a_run_without_a_result_has_not_finished(tmp_path: Path) -> None:
    assert read_result(tmp_path) is None


@pytest.mark.parametrize(
    ("callback", "name"),
    [
        ("curves", contents.CURVES),
        ("confusion", contents.CONFUSION),
        ("resource_usage", contents.RESOURCES),
        ("pictures", contents.PICTURES),
        ("validation", contents.SAMPLES),
        ("last", str(contents.LAST)),
    ],
)
def test_callbacks_write_the_files_that_a_run_is_known_by(callback: str, name: str) -> None:
    config = composed("folder=/f")
    assert config["callbacks"][callback]["path"] == f"/f/{name}"


def test_the_best_checkpoint_is_the_one_that_a_run_is_known_by() -> None:
    config = OmegaConf.create(composed("folder=/f"))
    checkpoint = config.callbacks.checkpoint
    assert f"{checkpoint.dirpath}/{checkpoint.filename}.ckpt" == f"/f/{contents.BEST}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"best": 0.5', "result.json cannot be read as JSON"),
        ("[1]", "result.json is not the result of a run"),
        ('{"best": 0.5}', "result.json is not the result of a run"),
    ],
)
def test_a_damaged_result_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_result(tmp_path)


def test_a_configuration_that_would_grow_as_it_is_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a: &a [x]\nrun_id: *a\n")
    with pytest.raises(ValueError, match="refers to another part"):
        run_id(tmp_path)
