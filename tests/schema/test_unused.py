"""An option that was given and changes nothing is said."""

from collections.abc import Iterator
from functools import cache

import pytest
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from lightning_seg.schema.unused import (
    EVALUATE,
    EXPORT,
    INSPECT,
    PREDICT,
    TRAIN,
    Rule,
    given_options,
    never_used,
    unused,
)

GROUPS = ("data", "augment", "backbone", "loss", "scheduler", "callbacks", "trainer", "logger")
CASES = [
    ("folder=x", "the command sets it, of runs and run"),
    ("max_skipped_steps=3", "it is for on_nonfinite=skip"),
    ("module.encoder=encoder", "it is for module.encoder_learning_rate_factor, module.layer_decay, "),
    ("module.decay_norms_and_biases=false optimizer.weight_decay=0", "with optimizer.weight_decay=0 nothing has a "),
    ("module.tiling=smooth module.tile=null module.margin=null", "with module.tile=null no image is cut into tiles"),
    ("trainer.gradient_clip_algorithm=norm trainer.gradient_clip_val=null", "nothing is clipped without trainer."),
    ("trainer.log_every_n_steps=5", "there is no logger: add logger=csv"),
    ("sync_dist=true", "one process trains, by itself"),
    ("trainer.sync_batchnorm=true", "one process trains, by itself"),
    ("trainer.limit_train_batches=1 trainer.overfit_batches=2", "trainer.overfit_batches replaces it"),
    ("trainer.max_epochs=7 trainer.fast_dev_run=true", "trainer.fast_dev_run takes single batches"),
    ("trainer.val_check_interval=0.5 trainer.fast_dev_run=2", "trainer.fast_dev_run takes single batches"),
    ("trainer.benchmark=true trainer.accelerator=cpu", "it is for a GPU's cuDNN, and trainer.accelerator=cpu has "),
    ("+local.partition=x", "it is for launcher=slurm"),
    ("callbacks.details.draws=10 test=false", "it is for the test, and nothing is tested"),
    ("callbacks.pictures.count=2 trainer.limit_test_batches=0", "it is for the test, and nothing is tested"),
    ("callbacks.validation.count=2 trainer.limit_val_batches=0", "it is for the validation, which trainer.limit_val"),
    ("callbacks.details.tolerance=3", "it is for callbacks.details.boundaries=true"),
    ("callbacks.details.background=9", "there is no such class, or the task is not multiclass"),
    ("data.unlabeled_per_image=2", "no loss reads unlabeled images but that of module._target_=lightning_seg.Consis"),
    ("data.distances=true", "it is for loss=boundary and loss=hausdorff"),
    ("augment=strong data=custom data._target_=my.Data module.num_classes=2 module.ignore_index=255", "data of your "),
    (
        "augment.hue=0.1 data=folder data.root=x data.num_classes=2 data.channels=[0,1,2,3] backbone.in_channels=4 "
        "data.mean=null data.std=null",
        "images of other than 1 or 3 channels keep their colors",
    ),
    (
        "augment.hue=0.1 data=folder data.root=x data.num_classes=2 data.channels=[0] backbone.in_channels=1 "
        "data.mean=null data.std=null",
        "images of one channel have no colors",
    ),
    ("augment.vertical_flip=0.5 augment=d4", "augment.d4=1 takes each orientation as often with it and without"),
    ("augment.foreground=0.5 augment=volumes data.dimensions=3 backbone=unet_3d", "it is for augment.patch_size"),
    ("augment.rotation=9 augment.affine=0 augment=volumes data.dimensions=3", "augment.affine=0 neither rotates nor "),
    ("loss.squared=true loss.dice_weight=0", "loss.dice_weight=0 leaves Dice out"),
    ("loss.label_smoothing=0.1 loss.cross_entropy_weight=0", "loss.cross_entropy_weight=0 leaves cross-entropy out"),
    ("callbacks.ema.update_starting_at_epoch=10 callbacks=[default,ema]", "the training is over before, so weights "),
]
WITHOUT_EFFECT = [
    ("callbacks=[default,early_stopping]", "callbacks.early_stopping stops nothing: it waits for patience=10 validat"),
    ("scheduler=plateau trainer.max_epochs=5", "scheduler=plateau never lowers the learning rate: it waits for 4 val"),
    (
        "trainer=ddp_sim loss=custom loss._target_=torch.nn.CrossEntropyLoss",
        "sync_dist=true is not used: torch.nn.CrossEntropyLoss takes none, so each process trains on the loss of its ",
    ),
]


@pytest.fixture(scope="module", autouse=True)
def configurations() -> Iterator[None]:
    with initialize_config_module("lightning_seg.conf", version_base="1.3"):
        yield


@cache
def chosen(command: str, groups: tuple[str, ...]) -> DictConfig:
    return compose(command, list(groups))


def composed(words: str, command: str = "train", **more: object) -> dict[str, object]:
    groups = [word for word in words.split() if word.split("=")[0] in GROUPS]
    config = chosen(command, tuple(groups)).copy()
    OmegaConf.set_struct(config, False)
    for word in words.split():
        override = OverridesParser.create().parse_override(word)
        if word not in groups:
            OmegaConf.update(config, override.key_or_group, override.value(), force_add=True)
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {"processes": 1, "launcher": "basic", **{str(key): value for key, value in container.items()}, **more}


@pytest.mark.parametrize(("words", "why"), CASES, ids=[words for words, _ in CASES])
def test_an_option_without_what_it_belongs_to_is_named_with_the_reason(words: str, why: str) -> None:
    first, *others = words.split()
    (line,) = unused(composed(words), given_options([first]), TRAIN)
    assert line.startswith(f"{first.lstrip('+')} is not used: {why}")
    assert unused(composed(words), given_options(others), TRAIN) == []


@pytest.mark.parametrize(
    "words",
    [
        "max_skipped_steps=3 on_nonfinite=skip",
        "module.encoder=encoder callbacks=[default,freeze]",
        "module.encoder=auto trainer.log_every_n_steps=1 sync_dist=false folder=null augment=none",
        "data.unlabeled_per_image=1 module._target_=lightning_seg.ConsistencyModule",
        "data.distances=true loss=dice_boundary",
        "callbacks.details.tolerance=3 callbacks.details.boundaries=true",
        "trainer.log_every_n_steps=5 logger=csv",
        "module.encoder=encoder module._target_=my.Module",
        "module.encoder=encoder callbacks.mine={_target_:my.Freeze}",
        "data.distances=true module._target_=my.Module",
        "data.distances=true loss.losses=[{_target_:lightning_seg.losses.BoundaryLoss}]",
        "augment.brightness=0.5 data.transforms=${augment} data=custom data._target_=my.Data module.num_classes=2 "
        "module.ignore_index=255",
        "augment.foreground=0.5 augment.vertical_flip=0.5 augment.d4=1 augment._target_=my.augment",
        "loss.label_smoothing=0.1 loss.cross_entropy_weight=0 loss._target_=my.Loss",
    ],
)
def test_nothing_is_said_of_an_option_that_is_used_or_asks_for_nothing(words: str) -> None:
    assert unused(composed(words), given_options(words.split()), TRAIN) == []


@pytest.mark.parametrize(("words", "line"), WITHOUT_EFFECT)
def test_what_can_do_nothing_in_a_training_is_said(words: str, line: str) -> None:
    (said,) = never_used(composed(words, processes=2))
    assert said.startswith(line)


@pytest.mark.parametrize(
    "words", ["", "callbacks=[default,early_stopping] trainer.max_epochs=12", "scheduler=plateau", "trainer=ddp_sim"]
)
def test_nothing_is_said_of_what_may_have_an_effect(words: str) -> None:
    assert list(never_used(composed(words, processes=2))) == []


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("augment=strong", "it is of training images"),
        ("+data.batch_size=4", "it is of training steps; data.eval_batch_size is that of an evaluation"),
        ("trainer.max_epochs=3", "it is of trainings"),
        ("trainer.limit_val_batches=3", "without split=val it is trainer.limit_test_batches"),
        ("one_in_memory=true", "there is one checkpoint"),
        ("folder=x", "an evaluation keeps nothing but output and details"),
    ],
)
def test_an_evaluation_says_what_is_of_trainings(word: str, why: str) -> None:
    config = composed(f"checkpoint=a.ckpt data=shapes {word.lstrip('+')}", "evaluate")
    assert unused(config, given_options([word]), EVALUATE) == [f"{word.lstrip('+')} is not used: {why}."]


def test_an_evaluation_does_not_know_what_data_of_ones_own_reads() -> None:
    words = ["augment=strong", "data.train_limit=3", "data.batch_size=2"]
    config = composed(f"checkpoint=a.ckpt data=shapes data._target_=my.Data {' '.join(words)}", "evaluate")
    assert unused(config, given_options(words), EVALUATE) == []


@pytest.mark.parametrize(
    ("command", "rules", "needed", "word", "why"),
    [
        ("predict", PREDICT, "checkpoint=a.ckpt input=b output=c", "simplify=2", "it is for contours=true"),
        ("predict", PREDICT, "checkpoint=a.ckpt input=b output=c", "one_in_memory=true", "there is one checkpoint"),
        ("export", EXPORT, "checkpoint=a.ckpt output=b", "private=false", "it is for push=OWNER/NAME"),
        ("inspect", INSPECT, "", "trusted=[mine]", "it is for checkpoint=PATH"),
    ],
)
def test_other_commands_say_what_belongs_to_what_was_not_asked_for(
    command: str, rules: tuple[Rule, ...], needed: str, word: str, why: str
) -> None:
    config = composed(f"{needed} {word}", command)
    assert unused(config, given_options([word]), rules) == [f"{word} is not used: {why}."]
