from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from lightning_seg.launch.resolved import with_environment
from lightning_seg.report.runs import read_run
from lightning_seg.runs.folder import changes, kept_config, open_run, run_name
from lightning_seg.runs.kept import as_kept
from lightning_seg.sweeps.jobs import resolved_task
from tests.console import SHORT, SMALL, Run

SECRET = "f1sh-and-ch1ps"


def composed(**more: Any) -> DictConfig:
    return OmegaConf.create(
        {
            "runs": "runs",
            "run": None,
            "resume": "auto",
            "folder": None,
            "seed": 3,
            "trainer": {"max_epochs": 1},
            "data": {"root": "${oc.env:FISH}/images"},
            "loss": {"gamma": "${oc.decode:${oc.env:GAMMA}}"},
            "module": {"loss": "${loss}"},
            "callbacks": {"curves": {"path": "${folder}/curves.csv"}},
            **more,
        }
    )


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FISH", SECRET)
    monkeypatch.setenv("GAMMA", "1.5")


def test_a_run_keeps_names_of_variables_and_not_their_values() -> None:
    config = with_environment(composed(logger={"api_key": SECRET, "name": "x"}))
    assert config["data"]["root"] == f"{SECRET}/images"
    assert config["loss"]["gamma"] == 1.5
    kept = as_kept(config)
    assert SECRET not in str(kept)
    assert kept["data"]["root"] == "${oc.env:FISH}/images"
    assert kept["loss"]["gamma"] == "${oc.decode:${oc.env:GAMMA}}"
    assert kept["logger"] == {"api_key": "???", "name": "x"}
    assert set(kept["environment"]) == {"loss.gamma", "module.loss.gamma"}
    assert all(len(mark) == 4 for mark in kept["environment"].values())
    assert "environment" not in as_kept(with_environment(composed(loss={}, module={})))


def test_no_part_of_a_path_tells_a_variable_that_it_comes_from() -> None:
    config = composed(runs="${oc.env:FISH}/runs")
    folder, _ = open_run(with_environment(config), [])
    assert folder == Path(SECRET, "runs/default").absolute()
    config.folder = str(folder)
    kept = as_kept(with_environment(config))
    assert kept["folder"] == "${oc.env:FISH}/runs/default"
    assert kept["callbacks"]["curves"]["path"] == "${oc.env:FISH}/runs/default/curves.csv"
    assert SECRET not in (folder / "config.yaml").read_text()


def test_a_resumed_run_has_what_its_variables_are_now_if_the_result_does_not_depend_on_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = open_run(with_environment(composed()), [])
    assert kept_config(folder)["data"]["root"] == "${oc.env:FISH}/images"
    monkeypatch.setenv("FISH", "elsewhere")
    config = with_environment(composed())
    assert open_run(config, []) == (folder, True)
    assert changes(folder, config, []) == {}
    assert config["data"]["root"] == "elsewhere/images"
    monkeypatch.setenv("GAMMA", "2.5")
    with pytest.raises(ValueError, match=r"was started with another value of loss\.gamma=\$\{oc\.decode:\$\{oc\.env:"):
        changes(folder, with_environment(composed()), [])


def test_secrets_are_no_part_of_names() -> None:
    assert run_name(["+data.token=abc", "loss=dice", "+logger.api_key=abc"]) == "loss=dice"


def test_jobs_of_sweeps_are_kept_like_runs() -> None:
    config = composed(hydra={})
    assert SECRET not in str(as_kept(resolved_task(config)))


def test_the_report_tells_runs_apart_whose_seed_is_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    for number in ("1", "2"):
        monkeypatch.setenv("NUMBER", number)
        config = composed(run=f"run{number}", seed="${oc.decode:${oc.env:NUMBER}}", trainer={"max_epochs": 1})
        folder, _ = open_run(with_environment(config), [])
        seeds.append(read_run(folder).config["seed"])
    assert len(set(seeds)) == 2
    assert all(seed.startswith("${oc.decode:${oc.env:NUMBER}} ") for seed in seeds)


@pytest.mark.slow
def test_a_training_leaves_no_value_of_the_environment_anywhere(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORKERS", "0")
    own = ["+logger.prefix=${oc.env:FISH}", 'data.num_workers="${oc.decode:${oc.env:WORKERS}}"']
    run("lightning-seg-train", *SMALL, *SHORT, "logger=csv", *own)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "best.ckpt" for path in files)
    kept = {path for path in files if path.name != "metrics.csv"}  # of the logger, whose prefix this is
    assert [path for path in kept if SECRET.encode() in path.read_bytes() or SECRET in str(path)] == []
    run("lightning-seg-evaluate", f"checkpoint={next(path for path in files if path.name == 'best.ckpt')}")


def test_what_a_network_needs_is_not_taken_from_the_environment(fails: Run, tmp_path: Path) -> None:
    line = fails("lightning-seg-train", *SMALL, *SHORT, "backbone.encoder_name=${oc.env:ENCODER,resnet18}")
    assert "module.backbone.encoder_name is a secret or comes from an environment variable, which checkpoints" in line
    assert not list(tmp_path.rglob("config.yaml"))
