import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.report.contents import report_contents
from lightning_seg.report.runs import read_run
from tests.report.conftest import WriteRun


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


@pytest.mark.slow
def test_runs_of_other_seeds_are_one_row_best_first(write_run: WriteRun) -> None:
    scores = {("ce", 0): 0.5, ("ce", 1): 0.7, ("dice", 0): 0.8, ("dice", 1): 0.9}
    folders = [
        write_run(f"{loss}{seed}", f"loss={loss}", f"seed={seed}", iou=iou) for (loss, seed), iou in scores.items()
    ]
    contents = report_contents([read_run(folder) for folder in folders])
    best, other = contents["groups"]
    assert (best["label"], other["label"]) == ("loss=Dice", "loss=CrossEntropy")
    assert best["scores"]["iou"] == {"n": 2, "mean": 0.85, "deviation": 0.0707107, "low": 0.8, "high": 0.9}
    assert best["classes"] == [pytest.approx(0.95), pytest.approx(0.75)]
    assert other["confusion"]["matrix"] == [[180, 20], [60, 140]]
    # Cross-entropy is 0.3 and 0.2 worse: 0.25 ± 12.7062 · 0.05
    n, mean, low, high = contents["differences"][1][0]
    assert (n, mean) == (2, pytest.approx(-0.25))
    assert (low, high) == (pytest.approx(-0.25 - 0.635310, abs=1e-5), pytest.approx(-0.25 + 0.635310, abs=1e-5))


def test_a_seed_that_ran_twice_counts_once(write_run: WriteRun) -> None:
    runs = [read_run(write_run(str(iou), f"seed={seed}", iou=iou)) for seed, iou in ((0, 0.4), (0, 0.6), (1, 0.9))]
    (group,) = report_contents(runs)["groups"]
    assert group["label"] == "all runs"
    assert group["scores"]["iou"] == {"n": 2, "mean": 0.7, "deviation": 0.282843, "low": 0.5, "high": 0.9}


def test_unfinished_runs_stay_in_their_row_and_enter_no_mean(write_run: WriteRun) -> None:
    runs = [read_run(write_run(f"s{seed}", f"seed={seed}", iou=iou)) for seed, iou in ((0, 0.4), (1, None))]
    contents = report_contents(runs)
    (group,) = contents["groups"]
    assert (group["finished"], len(group["runs"]), group["scores"]["iou"]["mean"]) == (1, 2, 0.4)
    assert [run["status"] for run in contents["runs"]] == ["finished", "unfinished"]
    assert contents["runs"][1]["epochs"] == 3


def test_long_curves_keep_their_ends_and_no_curve_holds_what_json_cannot(write_run: WriteRun) -> None:
    values = tuple(0.001 * epoch for epoch in range(1000))
    folder = write_run("a", curve=(float("nan"), *values[1:]))
    contents = report_contents([read_run(folder)])
    curve = contents["runs"][0]["curves"]
    assert len(curve["epoch"]) == 200
    assert (curve["epoch"][0], curve["epoch"][-1]) == (0, 999)
    assert (curve["val/iou"][0], curve["val/iou"][-1]) == (None, 0.999)
    json.dumps(contents, allow_nan=False)


def test_each_image_is_kept_once_with_the_predictions_of_all_runs(write_run: WriteRun) -> None:
    runs = [read_run(write_run(name, f"seed={label}", labels=label)) for label, name in enumerate("ab")]
    samples = report_contents(runs)["samples"]
    assert [sample["name"] for sample in samples] == ["first", "second"]
    assert set(samples[0]["runs"]) == {0, 1}
    target = np.asarray(decoded(samples[0]["target"]).convert("RGB"))
    assert target[0, 0].tolist() == [150, 150, 150]  # void
    assert (target[3, 0].tolist(), target[3, 11].tolist()) == ([20, 40, 60], [200, 180, 160])
    labels, errors = (decoded(uri) for uri in samples[0]["runs"][1])
    assert set(labels.convert("RGB").get_flattened_data()) == {(200, 180, 160)}
    drawn = np.asarray(errors.convert("RGBA"))
    assert drawn[3, 0].tolist() == [230, 30, 40, 255]
    assert drawn[3, 11, 3] == 0
    assert drawn[0, 0].tolist() == [150, 150, 150, 255]
    assert decoded(samples[0]["image"]).size == (12, 8)


def test_images_of_one_name_that_differ_are_two(write_run: WriteRun) -> None:
    first, second = (read_run(write_run(name, f"seed={seed}")) for seed, name in enumerate("ab"))
    path = second.folder / "validation.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez_compressed(path, **{**arrays, "image_0": 255 - arrays["image_0"]})
    assert [sample["name"] for sample in report_contents([first, second])["samples"]] == ["first", "second", "first"]


def test_runs_are_named_by_where_their_folders_part(write_run: WriteRun, tmp_path: Path) -> None:
    runs = [read_run(write_run(name)) for name in ("x/one", "y/one")]
    assert [run["name"] for run in report_contents(runs)["runs"]] == ["x/one", "y/one"]
    assert [run["name"] for run in report_contents(runs[:1])["runs"]] == ["one"]


def test_no_runs_make_no_page() -> None:
    with pytest.raises(ValueError, match="got no runs"):
        report_contents([])
