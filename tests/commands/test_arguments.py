from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from lightning_seg.commands.arguments import as_typed, value_of
from lightning_seg.launch.overrides import unquoted
from tests.commands.test_evaluate_and_predict import TRAIN
from tests.console import Run


def read(argument: str) -> object:
    """What Hydra reads: a value, or the values of a sweep."""
    override = OverridesParser.create().parse_override(argument)
    if not override.is_sweep_override():
        return override.value()
    return [unquoted(value) for value in override.sweep_string_iterator()]


PATHS = [
    *(
        "runs/loss=ce,seed=0/best.ckpt",
        'my "photos" [1]',
        "a b",
        "~/x",
        "C:\\x",
        "C:\\",
        "(1)",
        "{x}",
        "#1 100%",
        "it's",
    ),
    *("straßés", "日本語", "a;b", "$HOME", "x:y", "1e3", "2024_01_15", "3.10", "true", "-x", " x ", "a'b\"c", "*?", ""),
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", ["input", "data.root", "run", "checkpoint", "+logger.save_dir"])
def test_hydra_reads_the_path_or_name_that_was_typed(key: str, path: str) -> None:
    (argument,) = as_typed([f"{key}={path}"])
    assert read(argument) == path
    assert value_of(key, [argument]) == (path or None)


@pytest.mark.parametrize(
    "argument", ["input='a b'", 'output="a=b"', "trainer=cpu", "output=null", "trusted=[a,b]", "-m"]
)
def test_all_else_is_left_as_it_is(argument: str) -> None:
    assert as_typed([argument]) == [argument]


def test_quotes_belong_to_the_name_of_a_file_that_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(*as_typed(["data.root='a b'"])) == "a b"
    (tmp_path / "'a b'").mkdir()
    assert read(*as_typed(["data.root='a b'"])) == "'a b'"


def test_a_list_of_paths_is_swept_and_one_path_with_commas_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(as_typed(["data.root=a b,c=d,'e,f'", "-m"])[1]) == ["a b", "c=d", "e,f"]
    assert read(as_typed(["-m", "data.root=choice(a,b)"])[1]) == ["a", "b"]
    assert read(*as_typed(["data.root=a,b"])) == "a,b"
    (tmp_path / "a,b").mkdir()
    assert read(as_typed(["data.root=a,b", "-m"])[1]) == "a,b"


def test_options_may_stand_between_the_choices() -> None:
    assert as_typed(["loss=ce", "-m", "seed=0,1", "--cfg", "job"]) == ["-m", "--cfg", "job", "loss=ce", "seed=0,1"]
    assert as_typed(["seed=1", "--config-dir=mine"]) == ["--config-dir=mine", "seed=1"]


@pytest.mark.parametrize(
    ("group", "choice"), [("logger", "none"), ("augment", "none"), ("scheduler", "constant"), ("callbacks", "none")]
)
def test_null_chooses_nothing_where_that_is_possible(group: str, choice: str) -> None:
    assert as_typed([f"{group}=null"]) == [f"{group}={choice}"]


@pytest.mark.slow
def test_the_checkpoint_of_a_run_named_by_its_choices_is_evaluated_and_predicts(run: Run, folder) -> None:
    run(*(argument for argument in TRAIN if not argument.startswith("run=")))
    (made,) = folder.glob("runs/*")
    assert "=" in made.name
    assert "," in made.name
    checkpoint = f"checkpoint=runs/{made.name}/checkpoints/best.ckpt"
    run("lightning-seg-evaluate", checkpoint, "output=scores.csv")
    assert (folder / "scores.csv").read_text() == (made / "test.csv").read_text()
    (folder / "my images").mkdir()
    (folder / "my_images/test/images/0.jpg").rename(folder / "my images/0.jpg")
    run("lightning-seg-predict", checkpoint, "input=my images", "output=masks, all")
    assert (folder / "masks, all/0.png").is_file()


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("data.images=im/{split}/{id}.jpg", "im/{split}/{id}.jpg"),
        ("data.group={patient}", "{patient}"),
        ("data.masks={id}/mask.png", "{id}/mask.png"),
        ("+data.masks.road=road/{id}.png", "road/{id}.png"),
        ("data.masks={road:road/{id}.png,car:car/{id}_*.png}", {"road": "road/{id}.png", "car": "car/{id}_*.png"}),
        ("data.masks='a/{id}.png'", "a/{id}.png"),
        ("data.values={7:0,1-6:void,else:1}", {7: 0, "1-6": "void", "else": 1}),
        ("data.splits.train=[a.txt,sub/b.txt]", ["a.txt", "sub/b.txt"]),
    ],
)
def test_patterns_and_values_are_read_as_they_were_typed(argument: str, value: object) -> None:
    assert read(*as_typed([argument])) == value
