"""Trainings on a real SLURM of two nodes."""

import csv
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cluster.conftest import SMALL, Call, assert_same_weights, from_readme
from tests.cluster.slurm import Slurm
from tests.readmes import ROOT, blocks

pytestmark = pytest.mark.slow
SRUN = from_readme("srun")
SWEEP = from_readme("lightning-seg-train -m launcher=slurm")


def callback(name: str) -> str:
    return f"+callbacks.event._target_=tests.cluster.callbacks.{name}"


def jobs_sent(printed: str) -> list[str]:
    return re.findall(r"SLURM job ([\d_]+):", printed)


def test_a_sweep_sends_each_job_to_slurm_and_ends_with_their_table(call: Call, cluster: Slurm, folder: Path) -> None:
    done = call(SWEEP, "run=swept")
    assert done.returncode == 0, done.stderr
    jobs = jobs_sent(done.stdout + done.stderr)
    assert len(set(jobs)) == 3
    assert {cluster.wait(job) for job in jobs} == {"COMPLETED"}
    with (folder / "runs" / "swept.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["loss"], row["status"]) for row in rows] == [(loss, "finished") for loss in ("ce", "dice", "lovasz")]
    assert all(float(row["val/iou"]) > 0 for row in rows)
    assert len(list((folder / "runs").glob("swept,loss=*/result.json"))) == 3

    again = call(SWEEP, "run=swept")
    assert again.returncode == 0
    assert jobs_sent(again.stdout + again.stderr) == []
    assert again.stdout.count("finished before") == 3


def test_a_preempted_job_of_a_command_that_is_gone_resumes_and_ends_as_if_nothing_had_happened(
    call: Call, cluster: Slurm, folder: Path
) -> None:
    command = ["lightning-seg-train", "launcher=slurm", "trainer=cpu", "loss=ce", "run=preempted"]
    arguments = [*SMALL, callback("PreemptOnce")]
    with subprocess.Popen(
        [*command, *arguments], cwd=folder, env=cluster.environment, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        (job,) = next(filter(None, map(jobs_sent, first.stdout)))
        first.send_signal(signal.SIGINT)
        printed = first.stdout.read()
    assert first.returncode != 0
    assert f"scancel {job}" in printed

    before = cluster.states()
    done = call(" ".join(command), callback("PreemptOnce"))
    assert done.returncode == 0, done.stderr
    assert cluster.states().keys() == before.keys()
    assert f"SLURM job {job} is running it already" in done.stdout
    assert "Restarts=1" in cluster.call("scontrol", "show", "job", job)
    assert cluster.wait(job) == "COMPLETED"
    assert_same_weights(folder / "runs" / "preempted", folder / "runs" / "swept,loss=ce")


def test_tasks_on_two_nodes_train_one_run_as_two_processes_of_one_machine_do(
    call: Call, cluster: Slurm, folder: Path, alone: Path
) -> None:
    before = set((folder / "runs").iterdir())
    done = call(SRUN.replace("srun", "srun --job-name=bash"))  # a name that Lightning takes for a shell's
    assert done.returncode == 0, done.stderr
    (run,) = set((folder / "runs").iterdir()) - before
    assert re.search(r"-job\d+$", run.name)
    assert_same_weights(run, alone)


def test_a_preempted_job_on_two_nodes_resumes_in_its_folder_and_ends_with_the_same_weights(
    cluster: Slurm, folder: Path, alone: Path
) -> None:
    before = set((folder / "runs").iterdir())
    (script,) = blocks(ROOT / "lightning_seg/launch/README.md", "sh")
    (folder / "train.sh").write_text(script)
    command = [*from_readme("sbatch").split(), *SMALL, callback("PreemptOnce")]
    job = cluster.call(*command, cwd=folder).split()[-1]
    assert cluster.wait(job) == "COMPLETED", (folder / f"slurm-{job}.out").read_text()
    assert "Restarts=1" in cluster.call("scontrol", "show", "job", job)
    (run,) = set((folder / "runs").iterdir()) - before
    assert_same_weights(run, alone)


def test_a_task_that_fails_ends_the_job_and_not_the_sweep(call: Call, cluster: Slurm, folder: Path) -> None:
    done = call(
        "lightning-seg-train -m launcher=slurm trainer=ddp_sim trainer.devices=1,2 run=failing",
        callback("FailBeforeRendezvous"),
        "trainer.max_epochs=1",
    )
    assert done.returncode == 1
    with (folder / "runs" / "failing.csv").open(newline="") as file:
        one, two = csv.DictReader(file)
    assert (one["status"], two["status"]) == ("finished", "failed")
    assert "rank one has no such thing" in two["error"]
    states = [cluster.wait(job) for job in jobs_sent(done.stdout + done.stderr)]
    assert states == ["COMPLETED", "FAILED"]


def test_a_job_that_leaves_no_result_is_told_by_its_state(call: Call) -> None:
    done = call("lightning-seg-train launcher=slurm trainer=cpu run=canceled", callback("CancelJob"))
    assert done.returncode == 1
    assert re.search(r"SLURM job \d+ is CANCELLED and has no result", done.stdout)


def test_a_task_of_srun_that_fails_in_training_ends_the_others(call: Call) -> None:
    srun = SRUN.replace("--ntasks-per-node=1 --kill-on-bad-exit=1", "--ntasks=2")
    assert srun != SRUN
    done = call(srun, "run=failing_late", callback("FailInTraining"))
    assert done.returncode != 0
    assert "rank one has no such thing" in done.stderr


def test_tasks_that_the_trainer_does_not_ask_for_are_refused(call: Call, folder: Path) -> None:
    done = call("srun --ntasks-per-node=2 lightning-seg-train trainer=cpu run=refused")
    assert done.returncode != 0
    assert "srun started 2 tasks on 1 node (2 on each): use trainer.devices=2" in done.stderr
    assert not (folder / "runs" / "refused").exists()
