"""What a process knows of its launcher by the environment, whose variables are those of a real srun and torchrun."""

import sys

import pytest
from hydra import compose, initialize_config_module
from hydra.core.plugins import Plugins
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lightning_seg.commands.plugins import NotInstalled, register_plugins
from lightning_seg.launch.cluster import (
    check_processes,
    is_launched,
    make_tasks_visible,
    process_rank,
    shared_name,
    world_size,
)
from lightning_seg.launch.processes import requested_devices
from lightning_seg.launch.slurm import _check_trainer

BATCH = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NNODES": "1", "SLURM_JOB_NAME": "train.sh"}


def step(tasks: int, nodes: int = 1, rank: int = 0, name: str = "train", layout: str = "") -> dict[str, str]:
    """What a task of srun finds."""
    return {
        "SLURM_STEP_TASKS_PER_NODE": layout or f"{tasks // nodes}" + (f"(x{nodes})" if nodes > 1 else ""),
        **{"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": str(rank)},
        **{"SLURM_NTASKS": str(tasks), "SLURM_NNODES": str(nodes), "SLURM_JOB_NAME": name},
    }


def torchrun(world: int, local: int, rank: int = 0, run_id: str = "none") -> dict[str, str]:
    return {
        **{"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(local)},
        **{"TORCHELASTIC_RUN_ID": run_id},
    }


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*step(1), *torchrun(1, 1)):
        monkeypatch.delenv(name, raising=False)


def start(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def trainer(devices: int, nodes: int = 1) -> dict[str, object]:
    return {"devices": devices, "num_nodes": nodes, "accelerator": "cpu"}


def composed(*arguments: str) -> DictConfig:
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        return compose("train", ["launcher=slurm", *arguments], return_hydra_config=True)


@pytest.mark.parametrize(
    ("environment", "launched", "rank", "count"),
    [
        ({}, False, 0, 1),
        (BATCH, False, 0, 1),  # a job's script, without srun
        ({**BATCH, "SLURM_NTASKS": "4"}, False, 0, 1),
        (step(1, name="bash"), False, 0, 1),  # srun --pty bash
        (step(1), True, 0, 1),
        (step(4, 2, rank=3), True, 3, 4),
        (step(2, rank=1, name="bash"), True, 1, 2),
        (torchrun(4, 2, rank=3), True, 3, 4),
        ({**step(2, 2, rank=1, name="train"), **torchrun(4, 2, rank=3)}, True, 3, 4),  # torchrun on each node of a job
    ],
)
def test_a_process_knows_whether_and_as_which_it_was_launched(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], launched: bool, rank: int, count: int
) -> None:
    start(monkeypatch, environment)
    assert (is_launched(), process_rank(), world_size()) == (launched, rank, count)


@pytest.mark.parametrize(
    ("environment", "devices", "nodes"),
    [
        ({}, 2, 1),
        (BATCH, 1, 1),
        ({**BATCH, "SLURM_NTASKS": "2"}, 2, 1),
        (step(1), 1, 1),
        (step(4, 2), 2, 2),
        (torchrun(4, 2), 2, 2),
    ],
)
def test_as_many_processes_as_the_trainer_asks_for_are_accepted(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], devices: int, nodes: int
) -> None:
    start(monkeypatch, environment)
    check_processes(trainer(devices, nodes), devices)


@pytest.mark.parametrize(
    ("environment", "devices", "nodes", "words"),
    [
        ({}, 2, 2, ["4 processes", "alone", "srun --nodes=2 --ntasks-per-node=2", "launcher=slurm"]),
        ({**BATCH, "SLURM_NTASKS": "4"}, 1, 1, ["SLURM job of 4 tasks", "srun --nodes=1 --ntasks-per-node=1"]),
        (step(2), 1, 1, ["1 process", "2 tasks on 1 node (2 on each)", "trainer.devices=2 trainer.num_nodes=1"]),
        (step(1), 2, 1, ["2 processes", "1 task on 1 node", "srun --nodes=1 --ntasks-per-node=2"]),
        (step(2, 2), 2, 1, ["2 tasks on 2 nodes", "trainer.devices=1 trainer.num_nodes=2"]),
        (step(4, 2, layout="3,1"), 2, 2, ["4 tasks on 2 nodes (3,1 on each)", "srun --nodes=2 --ntasks-per-node=2"]),
        (torchrun(2, 2), 1, 1, ["started 2, 2 on this node", "trainer.devices=2", "--nproc-per-node=1 --nnodes=1"]),
        (torchrun(4, 2), 4, 1, ["trainer.devices=2 trainer.num_nodes=2", "--nproc-per-node=4 --nnodes=1"]),
    ],
)
def test_other_numbers_are_refused_with_all_of_them_and_what_to_change(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], devices: int, nodes: int, words: list[str]
) -> None:
    start(monkeypatch, environment)
    with pytest.raises(ValueError, match=f"trainer.devices={devices} with trainer.num_nodes={nodes}") as error:
        check_processes(trainer(devices, nodes), devices)
    assert [word for word in words if word not in str(error.value)] == []


def test_all_processes_of_a_launch_name_their_run_alike_and_other_launches_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start(monkeypatch, step(2))
    assert shared_name("loss=ce", "never") == "loss=ce-job7"
    assert shared_name("loss=ce", "auto") == "loss=ce"
    monkeypatch.delenv("SLURM_JOB_ID")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "abc")
    assert shared_name("loss=ce", "never") == "loss=ce-abc"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(ValueError, match="run=NAME"):
        shared_name("loss=ce", "never")


def test_lightning_sees_the_tasks_of_a_job_named_as_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.fabric.plugins.environments import SLURMEnvironment

    start(monkeypatch, step(4, 2, name="interactive"))
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "")  # so that it is as before when this has ended
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    assert not SLURMEnvironment.detect()
    make_tasks_visible()
    assert SLURMEnvironment.detect()
    SLURMEnvironment().validate_settings(num_devices=2, num_nodes=2)


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["trainer=cpu"], (1, 1, None, 1)),
        (["trainer=gpu", "data.num_workers=4"], (1, 1, 1, 5)),
        (["trainer=ddp", "trainer.devices=8", "trainer.num_nodes=2"], (2, 8, 8, 1)),
        (["trainer=ddp", "trainer.devices=[0,2]"], (1, 2, 2, 1)),
        (["trainer=fsdp", "trainer.devices=4"], (1, 4, 4, 1)),
        (["trainer=ddp_sim"], (1, 2, None, 1)),
    ],
)
def test_a_job_asks_slurm_for_what_its_trainer_and_data_need(
    arguments: list[str], asked: tuple[int, int, int | None, int]
) -> None:
    config = composed(*arguments)
    launcher = config.hydra.launcher
    resources = (launcher.nodes, launcher.tasks_per_node, launcher.gpus_per_node, launcher.cpus_per_task)
    assert resources == asked
    _check_trainer(config.trainer)
    assert launcher.additional_parameters.signal == "USR1@120"
    assert f"--cpus-per-task={asked[3]}" in launcher.srun_args


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "trainer.accelerator=auto"),
        (["trainer=ddp"], "trainer.devices=auto"),
        (["trainer=gpu", "trainer.devices=-1"], "trainer.devices=-1"),
    ],
)
def test_what_depends_on_the_machine_that_trains_is_refused_where_jobs_are_sent(
    arguments: list[str], words: str
) -> None:
    with pytest.raises(ValueError, match=f"launcher=slurm must know .*{words}"):
        _check_trainer(composed(*arguments).trainer)


def test_the_launcher_says_what_to_install_where_submitit_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning_seg.launch.slurm", None)
    register_plugins()
    name = "hydra_plugins.lightning_seg.SlurmLauncher"
    assert Plugins.instance().class_name_to_class[name] is NotInstalled
    with pytest.raises(ValueError, match=r"lightning-seg\[cluster\]"):
        NotInstalled(nodes=1)
    monkeypatch.undo()
    register_plugins()
    assert Plugins.instance().class_name_to_class[name] is not NotInstalled


def test_fsdp_shards_the_network_and_writes_whole_checkpoints() -> None:
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        config = compose("train", ["trainer=fsdp", "trainer.devices=2"])
    strategy = instantiate(config.trainer.strategy)
    assert strategy.sharding_strategy.name == "FULL_SHARD"
    assert strategy._state_dict_type == "full"
    assert config.sync_dist
    # What the first process would predict alone, without the other parts of the weights.
    assert {"pictures", "validation"}.isdisjoint(config.callbacks)
    with pytest.raises(Exception, match="requires a GPU accelerator"):
        instantiate({**OmegaConf.to_container(config.trainer, resolve=True), "accelerator": "cpu"})
    assert requested_devices(config.trainer) == 2
