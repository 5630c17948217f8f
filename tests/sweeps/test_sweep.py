import csv
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn

from lightning_seg import SegmentationModule
from lightning_seg.report.runs import read_run
from lightning_seg.runs.contents import read_result
from lightning_seg.sweeps.grid import combine
from lightning_seg.sweeps.space import read_space
from tests.console import SHORT, Run
from tests.readmes import LINES

TINY = ["data.num_train=4", "data.num_val=1", "data.num_test=1", "data.image_size=32", "data.batch_size=4"]
SWEEP = ("lightning-seg-train", "-m", *SHORT, *TINY, "~callbacks.progress", "run=s")
SEARCH = ("lightning-seg-train", "-m", "sweep=small", "trainer.accelerator=cpu", *TINY, "~callbacks.progress", "run=s")


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(newline="")))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epoch of each step that is trained in this process."""
    epochs: list[int] = []
    step = SegmentationModule.training_step

    def noting(self: SegmentationModule, batch: Any, batch_idx: int) -> torch.Tensor:
        epochs.append(self.current_epoch)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SegmentationModule, "training_step", noting)
    return epochs


@pytest.mark.slow
def test_a_sweep_gives_a_folder_a_job_and_one_table_with_the_errors(
    run: Run, fails: Run, folder: Path, trained: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert "2 of 4 jobs of s failed" in fails(*SWEEP, "loss=ce,lovasz_hinge", "seed=0,1")
    table = rows(folder / "runs/s.csv")
    assert [(row["loss"], row["seed"], row["status"]) for row in table] == [
        ("ce", "0", "finished"),
        ("ce", "1", "finished"),
        ("lovasz_hinge", "0", "failed"),
        ("lovasz_hinge", "1", "failed"),
    ]
    for row in table[:2]:
        result = read_result(folder / "runs" / row["run"])
        assert result is not None
        assert float(row["val/iou"]) == result["best"]
        assert float(row["test/iou"]) == result["test"]["test/iou"]
        assert float(row["seconds"]) > 0
        assert row["error"] == ""
    assert all("use LovaszSoftmaxLoss" in row["error"] for row in table[2:])
    assert {path.name for path in (folder / "runs").iterdir()} == {
        "s,loss=ce,seed=0",
        "s,loss=ce,seed=1",
        "s.csv",
        ".multirun",
    }
    assert len(trained) == 2

    assert "2 of 4 jobs of s failed" in fails(*SWEEP, "seed=0,1", "loss=ce,lovasz_hinge")
    assert len(trained) == 2
    assert [row["status"] for row in rows(folder / "runs/s.csv")] == ["finished before", "failed"] * 2
    assert "finished before" in run(*SWEEP, "loss=ce,dice", "seed=0,1")
    assert len(trained) == 4


@pytest.mark.slow
def test_a_job_whose_loss_is_not_finite_has_diverged_and_has_no_score(run: Run, fails: Run, folder: Path) -> None:
    line = fails(*SWEEP, "optimizer.lr=0.001,1e30", "trainer.max_epochs=3", "trainer.gradient_clip_val=null")
    assert "1 of 2 jobs of s diverged" in line
    finished, diverged = rows(folder / "runs/s.csv")
    assert (finished["status"], diverged["status"]) == ("finished", "diverged")
    assert (diverged["val/iou"], diverged["test/iou"]) == ("", "")
    assert "the loss is " in diverged["error"] or "NaN" in diverged["error"]
    for name in ("last.ckpt", "best.ckpt"):
        path = folder / "runs" / diverged["run"] / "checkpoints" / name
        if path.exists():
            weights = torch.load(path, weights_only=True)["state_dict"].values()
            assert all(bool(torch.isfinite(weight).all()) for weight in weights)
    run_there = read_run(folder / "runs" / diverged["run"])
    assert (run_there.status, run_there.error) == ("diverged", diverged["error"])


@pytest.mark.slow
def test_the_same_command_continues_the_unfinished_jobs_from_their_last_checkpoint(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], trained: list[int]
) -> None:
    arguments = (*SWEEP, "seed=0,1", "trainer.max_epochs=2")
    with monkeypatch.context() as patch:
        step = SegmentationModule.training_step

        def failing(self: SegmentationModule, batch: Any, batch_idx: int) -> torch.Tensor:
            if len(trained) == 3:
                raise LookupError("the machine went away")
            return step(self, batch, batch_idx)

        patch.setattr(SegmentationModule, "training_step", failing)
        with pytest.raises(SystemExit, match="1"):
            run(*arguments)
    printed = capfd.readouterr()
    assert "Traceback" in printed.err
    assert [(row["status"], row["error"]) for row in rows(folder / "runs/s.csv")] == [
        ("finished", ""),
        ("failed", "LookupError: the machine went away"),
    ]
    assert trained == [0, 1, 0]
    run(*arguments)
    assert trained == [0, 1, 0, 1]
    assert [row["status"] for row in rows(folder / "runs/s.csv")] == ["finished before", "finished"]


@pytest.mark.slow
def test_an_interrupted_sweep_shows_what_it_has(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, trained: list[int]
) -> None:
    step = SegmentationModule.training_step

    def interrupted(self: SegmentationModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if len(trained) == 1:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SegmentationModule, "training_step", interrupted)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(*SWEEP, "seed=0,1,2")
    assert len(trained) == 1
    table = rows(folder / "runs/s.csv")
    assert [row["status"] for row in table] == ["unfinished"] * 3
    assert [row["val/iou"] != "" for row in table] == [True, False, False]


@pytest.mark.slow
def test_a_sweep_never_takes_runs_of_another_configuration_for_its_own(run: Run, fails: Run, folder: Path) -> None:
    run(*SWEEP, "seed=0,1")
    fails(*SWEEP, "seed=0,1", "optimizer.lr=0.1")
    fails(*SWEEP, "seed=0,1", "resume=never")
    assert all("exists" in row["error"] for row in rows(folder / "runs/s.csv"))
    fails(*SWEEP, "seed=0,1", "optimizer.lr=0.1")
    errors = [row["error"] for row in rows(folder / "runs/s.csv")]
    assert all("and now optimizer.lr=0.1:" in error for error in errors), errors


def test_two_jobs_never_share_a_folder() -> None:
    parse = OverridesParser.create().parse_overrides

    def names(*arguments: str, run: str | None = None) -> list[str]:
        return [job.folder.name for job in combine(parse(list(arguments)), Path("runs"), run)]

    assert names("loss=ce,dice", "seed=1") == ["loss=ce,seed=1", "loss=dice,seed=1"]
    assert sorted(names("seed=range(0,2)", "loss=ce,dice")) == sorted(names("loss=ce,dice", "seed=0,1"))
    assert names("loss=ce,dice", "run=x", run="x") == ["x,loss=ce", "x,loss=dice"]
    assert names("run=a,b", "loss=ce") == ["a", "b"]
    assert names("data.num_workers=0,2", "loss=ce") == ["data.num_workers=0,loss=ce", "data.num_workers=2,loss=ce"]
    assert names("data.root=a,b", run="x") == ["x,data.root=a", "x,data.root=b"]
    strange = names("loss.classes=[0,1],[0,2],{a:1}", "seed=0,1")
    assert len(set(strange)) == 6
    with pytest.raises(ValueError, match="2 jobs of this sweep would be kept in"):
        names("run=a,b", "loss=ce,dice")
    with pytest.raises(ValueError, match="2 jobs of this sweep"):
        names("seed=1,1")


@pytest.mark.slow
def test_wrong_choices_end_a_sweep_before_it_starts(fails: Run, folder: Path) -> None:
    assert "loss=cee is not one of" in fails(*SWEEP, "loss=dice,cee")
    assert "is an interval, not a list of values" in fails(*SWEEP, "optimizer.lr=interval(0,1)")
    assert "plain name" in fails(*SWEEP[:-1], "run=a/b", "seed=0,1")
    assert not (folder / "runs").exists()


@pytest.mark.slow
def test_a_file_of_another_origin_is_not_written_over(run: Run, folder: Path) -> None:
    (folder / "runs").mkdir()
    (folder / "runs/s.csv").write_text("my,notes\n")
    run(*SWEEP, "seed=0")
    run(*SWEEP, "seed=0")
    assert (folder / "runs/s.csv").read_text() == "my,notes\n"
    assert {path.name for path in (folder / "runs").glob("*.csv")} == {"s.csv", "s-2.csv"}


@pytest.mark.slow
def test_each_job_runs_on_two_processes_once_and_the_error_of_any_rank_is_in_the_table(
    run: Run, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fail = "+callbacks.fail={_target_:tests.launch.callbacks.FailOnRank,rank:-1}"
    two = ("trainer=ddp_sim", "trainer.devices=2", "data.batch_size=2", "callbacks.fail.rank=1,-1")
    with pytest.raises(SystemExit, match="1"):
        run(*SWEEP, fail, *two)
    assert "LookupError: rank 1 has no such thing" in capfd.readouterr().err
    failed, finished = rows(folder / "runs/s.csv")
    assert (failed["status"], failed["error"]) == ("failed", "LookupError: rank 1 has no such thing")
    assert finished["status"] == "finished"
    (curves,) = rows(folder / "runs/s,callbacks.fail.rank=-1/curves.csv")
    assert curves["step"] == "1"  # four images, of which each of two processes has two
    assert len(list((folder / "runs").glob("*/curves.csv"))) == 1


@pytest.mark.slow
def test_joblib_runs_jobs_in_processes_that_share_the_cores(run: Run, folder: Path) -> None:
    note = "+callbacks.note={_target_:tests.launch.callbacks.NoteThreads,path:'${folder}/threads.txt'}"
    run("lightning-seg-train", *SWEEP[2:-1], "run='s,loss=ce'", "loss=ce", note)
    (line,) = [line for line in LINES if "launcher=joblib" in line]
    run(*line.split(), *SWEEP[2:], "hydra.launcher.n_jobs=2", note)  # a new process imports for many seconds
    assert [row["status"] for row in rows(folder / "runs/s.csv")] == ["finished before", "finished"]
    here, there = ((folder / f"runs/s,loss={loss}/threads.txt").read_text().split() for loss in ("ce", "dice"))
    assert here[0] == str(os.getpid()) != there[0]
    assert int(there[1]) == max(1, (os.cpu_count() or 1) // 2)


class ForkLauncher(BasicLauncher):
    """Runs all jobs at once, each in a copy of this process, which starts sooner than a new one."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        context = multiprocessing.get_context("fork")
        barrier, queue = context.Barrier(len(job_overrides)), context.SimpleQueue()

        def work(index: int) -> None:
            written: set[str] = set()
            sys.addaudithook(lambda event, values: written.update(_written(event, values)))
            torch.set_num_threads(1)
            barrier.wait()
            returned = super(ForkLauncher, self).launch([job_overrides[index]], index)
            queue.put((index, returned[0].status, returned[0]._return_value, written))

        processes = [context.Process(target=work, args=(index,)) for index in range(len(job_overrides))]
        for process in processes:
            process.start()
        results = sorted((queue.get() for _ in processes), key=lambda result: result[0])
        for process in processes:
            process.join()
        ForkLauncher.written = [result[3] for result in results]
        return [JobReturn(status=status, _return_value=value) for _, status, value, _ in results]

    written: list[set[str]]


def _written(event: str, values: tuple[Any, ...]) -> list[str]:
    if event == "open" and isinstance(values[0], str | bytes | os.PathLike):
        mode, flags = values[1], values[2]
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or (mode or "r")[0] in "wax"
        path = os.path.abspath(os.fsdecode(values[0]))
        if os.path.isdir(path):
            return []  # a file without a name, by which Numba asks whether it may write to a folder
        return [path] if writes and not path.startswith(("/dev/", "/proc/")) else []
    return [os.path.abspath(os.fsdecode(values[1]))] if event == "os.rename" else []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_jobs_at_once_write_no_file_in_common(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Plugins.instance().register(ForkLauncher)
    name = "hydra_plugins.tests.ForkLauncher"
    monkeypatch.setitem(Plugins.instance().class_name_to_class, name, ForkLauncher)
    run(*SWEEP, "loss=ce,dice", "seed=0,1", f"hydra.launcher._target_={name}")
    assert [row["status"] for row in rows(folder / "runs/s.csv")] == ["finished"] * 4
    written = Counter(
        path for paths in ForkLauncher.written for path in paths if not path.startswith(("/dev/", "/proc/"))
    )
    assert len(written) >= 4 * 5
    assert [path for path, processes in written.items() if processes > 1] == []
    assert all(path.startswith(f"{folder}/runs/") or "/tmp" in path for path in written)


@pytest.mark.slow
def test_a_search_is_kept_and_continued_and_asks_only_for_parameters_that_a_loss_has(
    run: Run, fails: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, trained: list[int]
) -> None:
    with monkeypatch.context() as patch:
        step = SegmentationModule.training_step

        def failing(self: SegmentationModule, batch: Any, batch_idx: int) -> torch.Tensor:
            if len(trained) in (2, 4):
                trained.append(-1)
                raise MemoryError("too large") if len(trained) == 3 else KeyboardInterrupt
            return step(self, batch, batch_idx)

        patch.setattr(SegmentationModule, "training_step", failing)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run(*SEARCH, "hydra.sweeper.pruner.n_startup_trials=9")
    assert [row["status"] for row in rows(folder / "runs/s.csv")] == ["finished", "failed", "unfinished"]
    assert trained == [0, 1, -1, 0, -1]

    run(*SEARCH, "hydra.sweeper.pruner.n_startup_trials=9", "hydra.sweeper.n_trials=3")
    assert trained[5:] == [1, 0, 1]
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/runs/s.db")
    states = [trial.state.name for trial in study.trials]
    assert states.count("COMPLETE") == 3
    assert states.count("FAIL") == 1
    assert study.direction.name == "MAXIMIZE"
    assert {trial.params["loss"] for trial in study.trials} == {"ce", "focal"}
    for trial in study.trials:
        assert ("loss.gamma" in trial.params) == (trial.params["loss"] == "focal")
        if trial.state.name == "COMPLETE":
            result = read_result(folder / f"runs/s-{trial.number}")
            assert result is not None
            assert trial.value == result["best"]
            assert sorted(trial.intermediate_values) == [0, 1]
    steps = len(trained)
    assert "finished before" in run(*SEARCH, "hydra.sweeper.n_trials=3")
    assert len(trained) == steps
    run(*SEARCH)
    assert len(study.trials) == len(states) + 1
    assert "was started with trainer.max_epochs=2" in fails(*SEARCH, "trainer.max_epochs=3")
    assert "run=ANOTHER" in fails(*SEARCH, "resume=never")


@pytest.mark.slow
def test_a_trial_below_the_others_is_stopped_and_shown_as_pruned(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.5, 0.6, 0.1, 0.7, 0.8])
    log = SegmentationModule.log

    def scripted(self: SegmentationModule, name: str, value: object, **options: Any) -> None:
        log(self, name, next(values) if name == "val/iou" and not self.trainer.sanity_checking else value, **options)

    monkeypatch.setattr(SegmentationModule, "log", scripted)
    run(*SEARCH, "hydra.sweeper.n_trials=3")
    assert [row["status"] for row in rows(folder / "runs/s.csv")] == ["finished", "pruned", "finished"]
    assert [path.parent.name for path in folder.glob("runs/*/pruned.txt")] == ["s-1"]
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/runs/s.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert study.best_value == pytest.approx(0.8)


@pytest.mark.slow
def test_wrong_searches_get_one_clear_line(fails: Run, folder: Path) -> None:
    assert "loss=cee is not one of" in fails(*SEARCH, "loss=cee,dice")
    assert "there is nothing to search" in fails(*SEARCH, "loss=ce", "optimizer.lr=0.1")
    assert "is one value" in fails(*SEARCH, "+hydra.sweeper.params.seed=4")
    assert not (folder / "runs").exists()


def test_a_space_is_written_in_the_words_of_sweeps() -> None:
    parser = OverridesParser.create()
    params = {
        "loss": "choice(ce,focal)",
        "optimizer.lr": "tag(log,interval(1e-4,1e-2))",
        "augment.rotation": "range(0,30,10)",
        "seed": "int(interval(1,3))",
    }
    given = parser.parse_overrides(["seed=7", "loss=ce,focal,dice"])
    space = read_space(parser, params, {"loss=focal,dice": {"loss.smooth": "interval(0.5,1)"}}, given)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [space.suggest(study.ask(), lambda key: "") for _ in range(60)]
    assert {trial["loss"] for trial in drawn} == {"ce", "focal", "dice"}
    assert {trial["augment.rotation"] for trial in drawn} == {"0", "10", "20"}
    assert all(("loss.smooth" in trial) == (trial["loss"] != "ce") for trial in drawn)
    assert all("seed" not in trial for trial in drawn)
    rates = [float(trial["optimizer.lr"]) for trial in drawn]
    assert 15 < sum(rate < 1e-3 for rate in rates) < 45  # half of them, on a logarithmic scale
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
