import json
from pathlib import Path

import numpy as np
import pytest

from lightning_seg.runs.contents import read_result
from tests.console import SHORT, SMALL, Run

TRAIN = ("lightning-seg-train", *SHORT, *SMALL)


def page_data(path: Path) -> dict[str, object]:
    page = path.read_text()
    start = page.index('id="data">') + len('id="data">')
    data: dict[str, object] = json.loads(page[start : page.index("</script>", start)])
    return data


@pytest.mark.slow
def test_runs_that_were_trained_make_a_page(run: Run, folder: Path) -> None:
    read = "callbacks=[confusion,curves,resource_usage,validation]"  # and what a run always writes
    run(*TRAIN, "run=a", "loss=dice", read)
    run(*TRAIN, "run=b", "loss=ce", read)
    printed = run("lightning-seg-report", "runs")
    assert printed.startswith("report.html: 2 runs, 2 of them finished")
    data = page_data(folder / "report.html")
    assert [parameter["key"] for parameter in data["parameters"]] == ["loss"]  # type: ignore[attr-defined]
    scores = {group["label"]: group["scores"]["iou"]["mean"] for group in data["groups"]}  # type: ignore[attr-defined]
    for name, label in {"a": "loss=Dice", "b": "loss=CrossEntropy"}.items():
        result = read_result(folder / "runs" / name)
        assert result is not None
        assert scores[label] == pytest.approx(result["test"]["test/iou"], rel=1e-5)
    assert len(data["samples"]) == 2  # type: ignore[arg-type]
    assert all(set(sample["runs"]) == {"0", "1"} for sample in data["samples"])  # type: ignore[attr-defined]
    assert all(entry["usage"]["seconds_per_step"] > 0 for entry in data["runs"])  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_files_of_two_processes_are_those_of_one_test_of_all_images(run: Run, folder: Path) -> None:
    read = "callbacks=[confusion,resource_usage,validation]"  # beside Lightning's bar, that of rank zero alone
    run(*TRAIN, "run=two", "trainer=ddp_sim", "data.batch_size=2", read)
    made = folder / "runs" / "two"
    matrix = np.array(json.loads((made / "confusion.json").read_text())["matrix"])
    right = np.diag(matrix)
    iou = right / (matrix.sum(0) + matrix.sum(1) - right)
    result = read_result(made)
    assert result is not None
    expected = [result["test"][f"test/iou/{name}"] for name in result["class_names"]]
    assert iou == pytest.approx(np.array(expected), rel=1e-6, nan_ok=True)
    usage = json.loads((made / "resource_usage.json").read_text())
    assert usage["processes"] == 2
    assert usage["peak_memory_bytes"] > 0
    with np.load(made / "validation.npz") as samples:
        assert json.loads(str(samples["about"]))["names"] == ["val_00000", "val_00001"]


def test_a_page_is_replaced_only_when_asked(run: Run, fails: Run, folder: Path, one: Path) -> None:
    run("lightning-seg-report", "runs/one", "--output", "pages/one.html")
    page = folder / "pages" / "one.html"
    page.write_text("mine")
    line = fails("lightning-seg-report", "runs/one", "--output", "pages/one.html")
    assert (
        line == "lightning-seg-report: pages/one.html exists: --overwrite replaces it, --output ANOTHER writes another."
    )
    assert page.read_text() == "mine"
    run("lightning-seg-report", "runs", "--output", "pages/one.html", "--overwrite")
    assert page.read_text() != "mine"


def test_wrong_folders_are_one_line(fails: Run, folder: Path) -> None:
    assert "nowhere does not exist" in fails("lightning-seg-report", "nowhere")
    assert "my_images holds no run" in fails("lightning-seg-report", "my_images")
    assert "my_images is a folder" in fails("lightning-seg-report", "my_images", "--output", "my_images")
    assert "the following arguments are required: FOLDER" in fails("lightning-seg-report")
    (folder / "file").write_text("")
    assert "file is a file" in fails("lightning-seg-report", "file")
    assert not (folder / "report.html").exists()
