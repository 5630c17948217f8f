"""The page in a browser, without a network."""

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_seg.report import Job, write_report
from lightning_seg.report.page import report_page
from lightning_seg.report.runs import read_run
from tests.report.conftest import WriteRun, writing_runs

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCORES = {("ce", 0): 0.5, ("ce", 1): 0.52, ("dice", 0): 0.8, ("dice", 1): 0.9, ("dice", 2): None, ("lovasz", 0): 0.6}
JOB = Job(
    "a job </script><script>document.title = 'run'</script>",
    {"loss": "dice", "seed": "0"},
    "failed",
    "<b>no</b> memory",
)


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install --no-install-recommends chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM)
        yield chromium
        chromium.close()


class Opened:
    """The page, and what it asked for or complained about."""

    def __init__(self, browser: "sync_api.Browser", scheme: str, width: int) -> None:
        self.context = browser.new_context(offline=True, color_scheme=scheme, viewport={"width": width, "height": 900})
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def load(self, path: Path) -> "Opened":
        """Another file, or the same as it is at first: a fourth of the time of a new page."""
        self.page.goto("about:blank")
        self.complaints.clear()
        self.requests.clear()
        self.page.goto(path.as_uri())
        return self

    def rows(self, section: str, column: int) -> list[str]:
        """The text of a column of the section's first table, from top to bottom; the first is 1."""
        cells = self.page.locator(f"#{section} table").first.locator(f"tbody tr > :nth-child({column})")
        return [text.strip() for text in cells.all_inner_texts()]

    def sort(self, section: str, header: str) -> None:
        self.page.locator(f"#{section} thead button", has_text=header).first.click()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_run = writing_runs(folder)
    for (loss, seed), iou in SCORES.items():
        labels = 1 if loss == "dice" else 0
        seconds = {"ce": 0.2, "dice": 0.1, "lovasz": 0.3}[loss]
        write_run(f"{loss}{seed}", f"loss={loss}", f"seed={seed}", iou=iou, labels=labels, seconds=seconds)
    runs = [read_run(folder) for folder in sorted((folder / "runs").iterdir())]
    write_report(folder / "report.html", runs, [JOB, Job("broken", {}, "damaged", "config.yaml is cut short")])
    return folder / "report.html"


@pytest.fixture(scope="module")
def light(browser: "sync_api.Browser") -> Iterator[Opened]:
    page = Opened(browser, "light", 1400)
    yield page
    page.context.close()


@pytest.fixture
def opened(report: Path, light: Opened) -> Iterator[Opened]:
    yield light.load(report)
    assert light.complaints == []


@pytest.fixture(scope="module")
def shown(report: Path, browser: "sync_api.Browser") -> Iterator[Opened]:
    """The page as it is opened, of which nothing is changed."""
    page = Opened(browser, "light", 1400).load(report)
    yield page
    assert page.complaints == []
    page.context.close()


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 400)])
def test_the_page_is_drawn_from_its_file_alone(
    report: Path, browser: "sync_api.Browser", scheme: str, width: int
) -> None:
    opened = Opened(browser, scheme, width).load(report)
    assert opened.page.title() == "6 runs compared"
    for section in ("leaderboard", "curves", "classes", "usage", "confusion", "details", "images", "runs"):
        part = opened.page.locator(f"#{section}")
        part.scroll_into_view_if_needed()
        picture = np.asarray(Image.open(io.BytesIO(part.screenshot())).convert("RGB")).reshape(-1, 3)
        assert len(np.unique(picture @ np.array([1 << 16, 1 << 8, 1]))) > 20, section
        assert (picture.mean() > 128) == (scheme == "light"), section
    loaded = opened.page.evaluate(
        "Promise.all([...document.images].map(async (image) => { await image.decode(); return image.naturalWidth; }))"
    )
    assert set(loaded) == {12}
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.complaints == []
    assert {re.split(r"[:,;]", url)[0] for url in opened.requests} <= {"file", "data"}
    assert [url for url in opened.requests if url.startswith("file")] == [report.as_uri()]
    opened.context.close()


@pytest.mark.slow
def test_headers_sort_by_click_and_by_key(opened: Opened) -> None:
    assert opened.rows("leaderboard", 3) == ["Dice", "LovaszSoftmax", "CrossEntropy"]
    opened.sort("leaderboard", "Time per step")
    assert opened.rows("leaderboard", 3) == ["LovaszSoftmax", "CrossEntropy", "Dice"]
    opened.sort("leaderboard", "Time per step")
    assert opened.rows("leaderboard", 3) == ["Dice", "CrossEntropy", "LovaszSoftmax"]
    header = opened.page.locator("#leaderboard th", has_text="loss")
    header.locator("button").focus()
    opened.page.keyboard.press("Enter")
    assert opened.rows("leaderboard", 3) == ["CrossEntropy", "Dice", "LovaszSoftmax"]
    assert header.get_attribute("aria-sort") == "ascending"
    opened.page.keyboard.press("Enter")
    assert opened.rows("leaderboard", 3) == ["LovaszSoftmax", "Dice", "CrossEntropy"]


@pytest.mark.slow
def test_runs_without_a_score_are_sorted_last_in_both_directions(opened: Opened) -> None:
    for _ in range(2):
        opened.sort("runs", "IoU")
        assert opened.rows("runs", 1)[-1] == "dice2"


@pytest.mark.slow
def test_a_filter_hides_a_value_everywhere_and_shows_it_again(opened: Opened) -> None:
    page = opened.page
    curves, columns = page.locator("#curves path.curve"), page.locator("#images thead th[data-run]")
    points, choices = page.locator("#usage g.point"), page.locator("#confusion select").first.locator("option")

    def counted() -> list[int]:
        rows = [len(opened.rows(section, 1)) for section in ("leaderboard", "classes", "runs")]
        return [*rows, *(part.count() for part in (curves, columns, points, choices))]

    assert counted() == [3, 3, 6, 3, 3, 3, 3]
    page.get_by_role("checkbox", name="Dice", exact=True).uncheck()
    assert counted() == [2, 2, 3, 2, 2, 2, 2]
    assert opened.rows("leaderboard", 3) == ["LovaszSoftmax", "CrossEntropy"]
    assert page.locator("#filters output").inner_text() == "2 of 3 configurations shown"
    page.get_by_role("checkbox", name="CrossEntropy", exact=True).uncheck()
    page.get_by_role("checkbox", name="LovaszSoftmax", exact=True).uncheck()
    assert counted() == [0, 0, 0, 0, 0, 0, 0]
    page.get_by_role("button", name="Show all").click()
    assert counted() == [3, 3, 6, 3, 3, 3, 3]


@pytest.mark.slow
def test_differences_are_to_the_reference_that_is_chosen(opened: Opened) -> None:
    # Cross-entropy is 30 and 38 points below Dice: 34 ± 12.7062 · 4
    assert opened.rows("leaderboard", 5) == [
        "reference",
        "−20.00 [no interval], n=1",
        "−34.00 [−84.82 to +16.82], n=2",
    ]
    opened.page.get_by_label("Reference", exact=True).select_option(label="3 loss=CrossEntropy")
    assert opened.rows("leaderboard", 5) == [
        "+34.00 [−16.82 to +84.82], n=2",
        "+10.00 [no interval], n=1",
        "reference",
    ]


@pytest.mark.slow
def test_scores_are_means_with_their_spread_in_percent(shown: Opened) -> None:
    assert shown.rows("leaderboard", 2) == ["85.00 ± 7.07", "60.00", "51.00 ± 1.41"]
    assert shown.rows("leaderboard", 4) == ["2 of 3", "1 of 1", "2 of 2"]
    assert shown.rows("classes", 3) == ["95.0", "70.0", "61.0"]


@pytest.mark.slow
def test_runs_that_did_not_finish_are_named_with_their_reason(shown: Opened) -> None:
    summary = shown.page.locator("#summary").inner_text()
    assert summary == "3 configurations; 5 finished, 1 unfinished; 1 damaged run left out; 1 job left no run."
    assert shown.rows("runs", 2).count("… unfinished") == 1
    lost = shown.page.locator("#runs table").nth(1).locator("tbody tr").first.inner_text()
    assert lost.split("\t") == [JOB.name, "✗ failed", JOB.error, "loss=dice, seed=0"]


@pytest.mark.slow
def test_names_are_text_whatever_they_hold(shown: Opened) -> None:
    assert shown.page.locator("b").count() == 0
    assert shown.page.title() == "6 runs compared"
    assert "tree & <b>bush</b>" in shown.page.locator("#classes thead").inner_text()


@pytest.mark.slow
def test_curves_images_and_matrices_have_choices(opened: Opened) -> None:
    page = opened.page
    page.get_by_label("each seed by itself").check()
    assert page.locator("#curves path.curve").count() == 6
    page.locator("#curves").get_by_label("Show").select_option("train/loss")
    assert page.locator("#curves svg[role=img]").get_attribute("aria-label") == "train/loss by epoch"
    page.locator("#images").get_by_label("Seed").select_option("all")
    assert page.locator("#images thead th[data-run]").count() == 5
    page.locator("#images").get_by_label("Show").select_option("errors")
    assert page.locator("#images img.over").count() == 2 * 5
    assert page.locator("#confusion tbody tr").first.inner_text().split("\t") == ["ground", "90.0", "10.0"]
    page.get_by_label("Share").select_option("prediction")
    assert page.locator("#confusion tbody tr").first.inner_text().split("\t") == ["ground", "75.0", "12.5"]
    page.get_by_label("difference to the reference of the leaderboard").check()
    assert opened.rows("classes", 3) == ["±0.00", "−25.00", "−34.00"]
    page.get_by_label("Color by").select_option("loss")
    assert page.locator("#curves .legend li").all_inner_texts() == [
        "loss=Dice",
        "loss=LovaszSoftmax",
        "loss=CrossEntropy",
    ]


@pytest.mark.slow
def test_pointing_at_a_curve_names_it(shown: Opened) -> None:
    chart = shown.page.locator("#curves svg[role=img]")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    shown.page.mouse.move(box["x"] + 60, box["y"] + box["height"] - 50)
    assert "epoch 0: 10.0 %" in shown.page.locator("#tip").inner_text()


@pytest.mark.slow
def test_many_values_of_a_number_are_filtered_by_a_range(write_run: WriteRun, tmp_path: Path, light: Opened) -> None:
    rates = [0.1 * (index + 1) for index in range(9)]
    runs = [read_run(write_run(f"r{index}", f"optimizer.lr={rate:.1f}")) for index, rate in enumerate(rates)]
    write_report(tmp_path / "many.html", runs)
    opened = light.load(tmp_path / "many.html")
    opened.page.get_by_label("lr from").fill("0.35")
    opened.page.get_by_label("lr to").fill("0.6")
    opened.page.get_by_label("lr to").press("Enter")
    assert sorted(opened.rows("leaderboard", 3)) == ["0.4", "0.5", "0.6"]
    assert opened.complaints == []


@pytest.mark.slow
def test_a_single_unfinished_run_makes_a_page(write_run: WriteRun, tmp_path: Path, light: Opened) -> None:
    write_report(tmp_path / "one.html", [read_run(write_run("one", iou=None, curve=()))])
    opened = light.load(tmp_path / "one.html")
    assert opened.rows("runs", 2) == ["… unfinished"]
    assert opened.rows("leaderboard", 2) == ["–"]
    assert opened.complaints == []


def test_nothing_is_overwritten_unasked(write_run: WriteRun, tmp_path: Path) -> None:
    runs = [read_run(write_run("one"))]
    path = tmp_path / "new" / "report.html"
    write_report(path, runs)
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        write_report(path, runs)
    assert path.read_text() == "mine"
    write_report(path, runs, overwrite=True)
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_the_page_holds_no_address_to_load_from(write_run: WriteRun) -> None:
    page = report_page([read_run(write_run("one"))])
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'<]*", page))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page
