"""Every mistake is one line, before anything else is done."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn
from torch.utils.data import DataLoader

from lightning_seg.commands.predict import find_device
from lightning_seg.data.image_files import ImageFileError
from lightning_seg.data.images import read_image
from lightning_seg.launch.errors import one_line
from lightning_seg.schema import Predict, Train, check_config
from tests.console import SHORT, SMALL, Run

WHOLE, SHARE, NOTHING = "an integer", "it must be from 0 to 1.", "it would have no effect"
FINDER = "lightning.pytorch.callbacks.LearningRateFinder"
VALUES = [
    ("data.batch_size=4.5", f"data.batch_size=4.5 must be {WHOLE}."),
    ("data.batch_size=2.0", f"data.batch_size=2.0 must be {WHOLE}."),
    ("data.batch_size=four", f"data.batch_size=four must be {WHOLE}."),
    ("data.batch_size=true", f"data.batch_size=true must be {WHOLE}."),
    ("data.batch_size=null", f"data.batch_size=null must be {WHOLE}."),
    ("data.batch_size=0", "data.batch_size=0, but it must be 1 or more."),
    ("data.eval_batch_size=-2", "data.eval_batch_size=-2, but it must be 1 or more."),
    ("data.num_workers=-1", "data.num_workers=-1, but it must be 0 or more."),
    ("data.num_train=0", "data.num_train=0, but it must be 1 or more."),
    ("data.train_limit=0", "data.train_limit=0, but it must be 1 or more."),
    ("data.std=[0,1,1]", "data.std=[0,1,1], but it must be above 0."),
    ("data.std=[1,1]", "data.std has 2 numbers, and images have 3 channels (RGB): give 3."),
    ("data.mean=0.5", "data.mean=0.5 must be a list of numbers, auto or null."),
    ("data.class_names=abc", "data.class_names=abc must be a list of texts or null."),
    ("data.palette=red", "data.palette=red must be a list"),
    ("+data.batchsize=3", "ShapesDataModule takes no batchsize: did you mean data.batch_size?"),
    ("trainer.max_epochs=2.5", f"trainer.max_epochs=2.5 must be {WHOLE} or null."),
    ("trainer.max_epochs=many", f"trainer.max_epochs=many must be {WHOLE} or null."),
    ("trainer.max_epochs=0", "trainer.max_epochs=0, but it must be 1 or more, or -1."),
    ("trainer.limit_train_batches=0", "trainer.limit_train_batches=0, but it must be above 0."),
    ("trainer.max_steps=0", "trainer.max_steps=0, but it must be 1 or more, or -1."),
    ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val=-1, but it must be 0 or more."),
    ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches=0, but it must be 1 or more."),
    ("trainer.limit_val_batches=-1", "trainer.limit_val_batches=-1, but it must be 0 or more."),
    ("trainer.devices=0", "trainer.devices=0 must be a number of 1 or more, auto, or indices, [0,2]."),
    ("trainer.devices=two", "trainer.devices=two must be a number of 1 or more, auto, or indices, [0,2]."),
    ("trainer.devices=[0,0]", "trainer.devices=[0,0] names a device twice: each has one process."),
    ("trainer.num_nodes=0", "trainer.num_nodes=0, but it must be 1 or more."),
    ("+trainer.gpus=1", "Trainer takes no gpus"),
    ("optimizer.lr='1e-3'", "optimizer.lr=1e-3 is text, but it must be a number: leave the quotes out."),
    ("optimizer.lr=fast", "optimizer.lr=fast must be a number."),
    ("optimizer.lr=null", "optimizer.lr=null must be a number."),
    ("optimizer.lr=-1", "optimizer.lr=-1, but it must be 0 or more."),
    ("optimizer.weight_decay=-0.1", "optimizer.weight_decay=-0.1, but it must be 0 or more."),
    ("+optimizer.momentun=0.9", "AdamW takes no momentun"),
    ("optimizer._target_=torch.optim.Adamm", "optimizer._target_=torch.optim.Adamm cannot be imported: "),
    ("scheduler.warmup=2", f"scheduler.warmup=2, but {SHARE}"),
    ("scheduler.power=0", "scheduler.power=0, but it must be above 0."),
    ("seed=-1", "seed=-1, but it must be from 0 to 4294967295."),
    ("seed=1.5", f"seed=1.5 must be {WHOLE}."),
    ("seed=x", f"seed=x must be {WHOLE}."),
    ("compile=maybe", "compile=maybe must be true or false."),
    ("channels_last=2", "channels_last=2 must be true or false."),
    ("gradient_checkpointing=no_idea", "gradient_checkpointing=no_idea must be true or false."),
    ("find_learning_rate=maybe", "find_learning_rate=maybe must be true or false."),
    ("module.layer_decay=0", "module.layer_decay=0, but it must be above 0 and 1 at most."),
    ("module.layer_decay=2", "module.layer_decay=2, but it must be above 0 and 1 at most."),
    ("module.auxiliary_weight=-1", "module.auxiliary_weight=-1, but it must be 0 or more."),
    ("module.threshold=2", "module.threshold=2, but it must be from 0 to 1."),
    ("trainer.max_time=1h", "trainer.max_time=1h must be days:hours:minutes:seconds, as in 00:02:30:00."),
    ("task=mutliclass", "task=mutliclass must be multiclass, multilabel or binary: did you mean multiclass?"),
    ("sync_dist=1", "sync_dist=1 must be true or false."),
    ("resume=yes", "resume=yes must be never or auto."),
    ("on_nonfinite=go", "on_nonfinite=go must be stop or skip."),
    ("loss.classes=presnt", "loss.classes=presnt must be all, present or a list of integers: did you mean present?"),
    ("loss.squared=2", "loss.squared=2 must be true or false."),
    ("loss.smooth=much", "loss.smooth=much must be a number."),
    ("+loss.smooooth=1", "CrossEntropyDiceLoss takes no smooooth: did you mean loss.smooth?"),
    ("augment.crop_size=big", f"augment.crop_size=big must be {WHOLE}, a list of integers or null."),
    ("augment.scale=2", "augment.scale=2 must be a list of numbers."),
    ("backbone=null", "backbone=null must be a group of keys."),
    ("loss=null", "loss=null must be a group of keys."),
    ("backbone.in_channels=4", "backbone.in_channels=4, but ShapesDataModule loads images of 3 channels (RGB): "),
    ("backbone._target_=mine.Net", "backbone._target_=mine.Net cannot be imported: No module named 'mine'"),
    ("backbone._target_=torch.nn.Conv2d", "Conv2d takes no architecture; it takes bias, device, dilation"),
    ("loss._target_=torch.nn.CrossEntropyLoss", "CrossEntropyLoss takes no task; it takes ignore_index, "),
    (
        "module.test_time_augmentation=maybe",
        "module.test_time_augmentation=maybe must be true, false, flip, flips, d4 or a group",
    ),
    ("callbacks.pictures.count=0", "callbacks.pictures.count=0, but it must be 1 or more."),
    (f"+callbacks.lr_find._target_={FINDER}", "callbacks.lr_find cannot set the learning rate of a schedule: "),
    ("+lr=0.1", f"lr is not a key of lightning-seg-train, so {NOTHING}: did you mean optimizer.lr?"),
    ("+epochs=5", f"epochs is not a key of lightning-seg-train, so {NOTHING}: did you mean trainer.max_epochs?"),
    ("+model=unet", f"model is not a key of lightning-seg-train, so {NOTHING}: did you mean backbone?"),
    ("+checkpoint=a", f"checkpoint is not a key of lightning-seg-train, so {NOTHING}: did you mean run=NAME "),
    ("max_skipped_steps=0", "max_skipped_steps=0, but it must be 1 or more."),
    ("optimizer.lr=nan", "optimizer.lr=nan must be finite."),
    ("optimizer.weight_decay=1e400", "optimizer.weight_decay=inf must be finite."),
    ("loss.smooth=-inf", "loss.smooth=-inf must be finite."),
    ("augment.rotation=-1", "augment.rotation=-1, but it must be 0 or more."),
    ("augment.crop_size=[0,9]", "augment.crop_size=[0,9], but it must be 1 or more."),
    ("augment.scale=[nan,1]", "augment.scale=[nan,1] must be finite."),
    (
        "trainer.accelerator=gpus",
        "trainer.accelerator=gpus must be auto, cpu, gpu, cuda, mps or tpu: did you mean gpu?",
    ),
    ("trainer.gradient_clip_algorithm=2", "trainer.gradient_clip_algorithm=2 must be norm or value."),
    ("trainer.profiler=simpel", "trainer.profiler=simpel must be simple, advanced, pytorch or xla: did you"),
    (
        "trainer.limit_val_batches=1.5",
        "trainer.limit_val_batches=1.5, but a share is 1.0 at most; a number of batches ",
    ),
    ("trainer.val_check_interval=0", "trainer.val_check_interval=0, but it must be above 0."),
    ("trainer.val_check_interval=1h", "trainer.val_check_interval=1h must be days:hours:minutes:seconds, as in "),
    ("trainer.fast_dev_run=-1", "trainer.fast_dev_run=-1, but it must be 0 or more."),
    ("trainer.sync_batchnorm=true", "trainer.sync_batchnorm=true is for GPUs, and trainer.accelerator=cpu has none"),
    ("trainer.devices=-1", "trainer.devices=-1 names GPUs; with trainer.accelerator=cpu give a number."),
    ("callbacks.checkpoint.mode=maximum", "callbacks.checkpoint.mode=maximum must be max or min: did you mean max?"),
    ("callbacks.checkpoint.save_top_k=-2", "callbacks.checkpoint.save_top_k=-2, but it must be -1 or more."),
    ("callbacks.details.draws=0", "callbacks.details.draws=0, but it must be 1 or more."),
    ("callbacks.curves=-1", "callbacks.curves=-1 must be a group of keys, or null to leave it out."),
    ("data.num_classes=???", "data.num_classes must be given: data.num_classes=VALUE."),
]
LINES = [
    (["loss=weighted_ce", "class_weights=[1,2,3]"], "class_weights=[1,2,3] is not used, as the loss has its own or "),
    (["data.palette=[[1,2]]"], "palette=[[1, 2]] must be red, green and blue of each class."),
    (
        ["scheduler=poly"],
        "constant, cosine, custom, one_cycle, plateau, polynomial: did you mean polynomial?",
    ),
    (
        ["optimizer.betas=[0.9,0.99]"],
        "there is no optimizer.betas: optimizer has lr, weight_decay; +optimizer.betas=VALUE adds what its class takes",
    ),
    (["data.root=here"], "there is no data.root: it is a key of data=folder or data=volumes."),
    (["loss.gamma=2"], "there is no loss.gamma: it is a key of loss=focal or loss=focal_tversky."),
    (
        ["callbacks.early_stopping.patience=3"],
        "there is no callbacks.early_stopping.patience: it is a key of callbacks=[default,early_stopping].",
    ),
    (["lr=0.1"], "there is no lr: did you mean optimizer.lr?"),
    (["data.batchsize=3"], "there is no data.batchsize: did you mean data.batch_size?"),
    (["+data.batch_size=3"], "+data.batch_size would add what is there already: write data.batch_size=VALUE, "),
    (["~lr"], "there is no lr: did you mean optimizer.lr?"),
    (["optimizer.lr=${lr}"], "optimizer.lr takes its value from ${lr}, and there is no lr."),
    (["foo"], "foo is not a choice: write key=value."),
    (["loss", "=", "dice"], "loss is not a choice: write key=value."),
    (["seed=[1"], "seed=[1 cannot be read: put quotes around a value with special characters, 'seed=\"[1\"'."),
    (["loss=ce,dice"], "loss=ce,dice is several values: -m trains with each of them, and loss=[ce,dice] is one list."),
    (["loss=diceloss"], "loss=diceloss is not one of boundary, ce, ce_dice, "),
    (["logger=[csv,tensorboard]"], "logger=[csv,tensorboard] names several loggers, and a run has one; "),
    (["trainer=null"], "trainer=null is not one of auto, cpu, ddp, ddp_sim, fsdp, gpu."),
    (["data=3"], "data=3 is not one of ade20k, camvid, cityscapes, "),
    (["callbacks=[default,foo]"], "callbacks=foo is not one of checkpoint, confusion, "),
    (["callbacks=[default,lr_monitor]"], "callbacks.lr_monitor logs to a logger, and there is none: add logger=csv, "),
    (["--epochs=3"], "--epochs is not an option: a choice is written epochs=value, without dashes."),
    (["hydra.job_logging.root=-1"], "hydra.job_logging.root=-1 cannot be used: Unable to configure root logger."),
    (["launcher=joblib"], "launcher=joblib is for the jobs of a sweep: add -m, or leave it out to train one network."),
    (["hydra.sweeper.max_batch_size=2"], "hydra.sweeper.max_batch_size=2 is for the jobs of a sweep: add -m, or "),
    (["run="], "run= must be a plain name"),
    (["run=.."], "run=.. must be a plain name"),
    (["runs=file"], "a part of the path is a file, not a folder: choose another name, or move the file away."),
    (
        [f"module._target_={__name__}.ReadsOptions"],
        "module builds a ReadsOptions, not a SegmentationModule: derive it from that class.",
    ),
    (
        ["data=custom", "data._target_=builtins.dict", "module.num_classes=2", "augment=none"],
        "data builds a dict, not a LightningDataModule: derive it from that class.",
    ),
    (
        ["callbacks=[default,custom]", "callbacks.custom._target_=builtins.dict"],
        "callbacks.custom builds a dict, not a Callback: derive it from that class.",
    ),
    (["runs=dangling"], "exists, but is not a folder that can be used: choose another name, or move it away."),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=folder", "data.root=nowhere"], "data.root=nowhere is not a directory."),
        (["data=volumes", "data.root=nowhere"], "data.root=nowhere is not a directory."),
        (["data=folder"], "data.num_classes must be given: data.num_classes=VALUE. data.root=FOLDER is the folder of "),
    ],
)
@pytest.mark.parametrize("command", ["lightning-seg-train", "lightning-seg-inspect"])
def test_a_missing_folder_is_said_before_what_would_be_in_it(
    fails: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in fails(command, *arguments)


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        return compose("train", [*SMALL, *SHORT])


@pytest.mark.parametrize(("choice", "line"), VALUES, ids=[choice for choice, _ in VALUES])
def test_a_wrong_value_or_key_is_refused_in_one_line(composed: DictConfig, choice: str, line: str) -> None:
    override = OverridesParser.create().parse_override(choice)
    config = composed.copy()
    with open_dict(config):
        OmegaConf.update(config, override.get_key_element().lstrip("+"), override.value(), force_add=True)
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        check_config(config, Train)
    assert str(raised.value).startswith(line)
    assert one_line(raised.value) == str(raised.value)


@pytest.mark.parametrize(("words", "line"), LINES, ids=[" ".join(words) for words, _ in LINES])
def test_a_wrong_command_line_ends_with_one_line(fails: Run, folder: Path, words: list[str], line: str) -> None:
    (folder / "file").write_text("")
    (folder / "dangling").symlink_to(folder / "nowhere")
    assert line in fails("lightning-seg-train", *SMALL, *SHORT, *words)
    assert not list(folder.glob("runs/*"))


def test_a_key_of_ones_own_is_taken_where_another_reads_it(composed: DictConfig) -> None:
    config = composed.copy()
    with open_dict(config):
        config.rate = 0.1
    config.optimizer.lr = "${rate}"
    check_config(config, Train)


def own_data(*, batch_size: int, sizes: list[int], num_classes: int = 6) -> None:
    """What a configuration may build."""


def test_a_part_of_ones_own_takes_what_it_declares(composed: DictConfig) -> None:
    config = composed.copy()
    own = {"_target_": f"{__name__}.own_data", "batch_size": -1, "num_classes": 6}
    with open_dict(config):
        config.backbone = {"_target_": "torch.nn.Conv2d", "in_channels": 4, "out_channels": 6, "kernel_size": 1}
        config.data = {**own, "sizes": [1, 2]}
        for name in ("pictures", "validation", "confusion"):
            config.callbacks[name] = None
        config.loss.ignore_index = config.module.ignore_index = config.augment.ignore_index = 255
        check_config(config, Train)
        config.data = own
    with pytest.raises(ValueError, match=r"data: own_data needs sizes: \+data.sizes=VALUE"):
        check_config(config, Train)


@pytest.mark.parametrize(
    "words",
    [
        ["callbacks.checkpoint.save_top_k=0"],
        [f"loss={{_target_:{__name__}.own_loss,largest:inf}}"],
    ],
)
def test_what_lightning_or_a_part_of_ones_own_can_use_is_taken(composed: DictConfig, words: list[str]) -> None:
    config = composed.copy()
    with open_dict(config):
        for word in words:
            override = OverridesParser.create().parse_override(word)
            OmegaConf.update(config, override.get_key_element(), override.value(), merge=False)
    check_config(config, Train)


def own_loss(largest: float = 1.0) -> nn.Module:
    """What a configuration may build."""
    return nn.Hardtanh(-largest, largest)


class ReadsOptions(nn.Module):
    def __init__(self, **options: object) -> None:
        super().__init__()


class HandsOptionsOn(nn.Conv2d):
    def __init__(self, width: int, **options: object) -> None:
        super().__init__(3, width, 1, **options)


def test_options_of_ones_own_are_those_of_the_base_if_that_takes_any(composed: DictConfig) -> None:
    config = composed.copy()
    with open_dict(config):
        config.backbone = {"_target_": f"{__name__}.ReadsOptions", "width": 6, "depht": 3}
        check_config(config, Train)
        config.backbone = {"_target_": f"{__name__}.HandsOptionsOn", "width": 6, "bais": True}
    with pytest.raises(ValueError, match="HandsOptionsOn takes no bais; it takes bias, "):
        check_config(config, Train)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "runs/a"), "runs/a: you may not read or write it: change its permi"),
        (FileNotFoundError(2, "No such file or directory", "a.png"), "a.png: does not exist."),
        (OSError(28, "No space left on device", "a.npy"), "a.npy: the disk is full: free some space or choose another"),
        (OSError(27, "File too large"), "The file is larger than the limit allows: raise it (ulimit -f unlimited)."),
        (
            OSError(24, "Too many open files"),
            "Too many files are open: raise the limit (ulimit -n), or use a smaller ",
        ),
        (MemoryError(), "memory ran out: use a smaller data.batch_size"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0"), "the GPU ran out of memory: use "),
        (
            RuntimeError("DataLoader worker (pid(s) 31) exited unexpectedly"),
            "a data loading worker (pid 31) was killed, most likely because memory ran out: ",
        ),
        (
            RuntimeError("DataLoader worker (pid 31) is killed by signal: Bus error. It is possible that dataloader's"),
            "the shared memory through which processes hand over images (/dev/shm) is too small: ",
        ),
        (
            RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),  # safetensors
            "the disk is full: free some space or choose another disk",
        ),
        (
            RuntimeError("No supported gpu backend found!"),
            "trainer.accelerator=gpu, and torch finds no GPU here: use ",
        ),
        (
            ImportError("libtorch_cpu.so: failed to map segment from shared object"),
            "memory ran out while libtorch_cpu.so was loaded: raise the limit",
        ),
        (
            ModuleNotFoundError("Requirement 'wandb>=0.12.10' not met. HINT: Try running `pip install -U 'wandb'`"),
            "this choice needs wandb: pip install wandb.",
        ),
        (
            ModuleNotFoundError("Neither `tensorboard` nor `tensorboardX` is available. Try `pip install`ing either."),
            "the logger needs tensorboard: pip install tensorboard.",
        ),
        (
            RuntimeError("`MPSAccelerator` can not run on your system since the accelerator is not available."),
            "trainer.accelerator=MPS is not on this machine: use trainer.accelerator=auto or cpu.",
        ),
        (
            RuntimeError("Error while serializing: I/O error: File too large (os error 27)"),
            "the file is larger than the limit allows: raise it",
        ),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
            "a checkpoint could not be written: the disk is full, or a limit on the size of files is reached; ",
        ),
        (
            RuntimeError('Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: "a".'),
            'the weights of the checkpoint do not fit Net: Missing key(s) in state_dict: "a". Build the network as ',
        ),
        (
            ValueError("Expected more than 1 value per channel when training, got input size torch.Size([1, 8, 1, 1])"),
            "batch normalization cannot train on one value per channel (it got [1, 8, 1, 1]): use a larger ",
        ),
        (
            RuntimeError(
                "It looks like your LightningModule has parameters that were not used in producing the loss re"
            ),
            "a parameter got no gradient, which distributed training must be told to expect: use trainer.strat",
        ),
        (
            RuntimeError("expected input[1, 3, 8, 8] to have 4 channels, but got 3 channels instead"),
            "the network takes images of 4 channels, and got images of 3: set backbone.in_channels=3, or change ",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_a_library_says_of_the_machine_is_said_in_our_words(error: Exception, line: str) -> None:
    said = one_line(error)
    assert said is not None
    assert said.startswith(line)
    assert said.endswith(".")
    assert "\n" not in said


def test_a_file_that_a_loaders_process_cannot_read_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    loader = DataLoader([tmp_path / "a.png"], num_workers=1, collate_fn=lambda paths: read_image(*paths))
    with pytest.raises(ImageFileError) as raised:
        list(loader)
    assert "Original Traceback" in str(raised.value)
    assert one_line(raised.value) == f"{tmp_path}/a.png cannot be read as an image: it is not in a known format."


@pytest.mark.parametrize("error", [KeyError("config"), ValueError("by nobody"), IndexError("list index out of range")])
def test_a_defect_has_no_line(error: Exception) -> None:
    assert one_line(error) is None


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("overlay", 1, "overlay=1 must be true or false."),
        ("tile", "big", "tile=big must be an integer, a list of integers or null."),
        ("devices", 0, "devices=0, but it must be 1 or more."),
        ("devices", "two", "devices=two must be an integer or auto."),
        ("margin", -1, "margin=-1, but it must be 0 or more."),
        ("overwrit", True, f"overwrit is not a key of lightning-seg-predict, so {NOTHING}: did you mean overwrite?"),
        ("input", "???", "input must be given: input=VALUE."),
    ],
)
def test_prediction_checks_its_keys(key: str, value: object, line: str) -> None:
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        config = compose("predict", ["checkpoint=a", "input=b", "output=c"])
    check_config(config, Predict)
    with open_dict(config):
        config[key] = value
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        check_config(config, Predict)
    assert str(raised.value) == line


@pytest.mark.parametrize("name", ["cuda:99", "gpu8", "cpu:x", "cpu:1"])
def test_a_device_that_is_not_here_is_refused_by_name(name: str) -> None:
    assert str(find_device("cpu")) == "cpu"
    with pytest.raises(ValueError, match=f"device={name} is not available: this machine has cpu"):
        find_device(name)


@pytest.mark.parametrize(("command", "resumes"), [("lightning-seg-train", True), ("lightning-seg-evaluate", False)])
def test_only_a_training_is_said_to_resume(monkeypatch: pytest.MonkeyPatch, command: str, resumes: bool) -> None:
    monkeypatch.setattr("sys.argv", [command])
    line = one_line(OSError(28, "No space left on device", "a.csv"))
    assert line is not None
    assert line.startswith("a.csv: the disk is full: free some space or choose another disk")
    assert ("resume=auto" in line) == resumes
