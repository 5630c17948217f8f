"""Options that were given and change nothing, since what they belong to was not asked for."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Config = Mapping[str, Any]


class Rule(NamedTuple):
    """Options, each with all below it, that nothing reads where a condition holds.

    Attributes:
        keys: with dots.
        holds: the condition.
        why: what to say of it.
        nothing: values that ask for nothing, of which nothing is said.
    """

    keys: tuple[str, ...]
    holds: Callable[[Config], bool]
    why: str
    nothing: tuple[Any, ...] = (False,)


def unused(config: Config, given: Mapping[str, str], rules: Sequence[Rule]) -> list[str]:
    """One line for each option that was given and is not used.

    Args:
        config: composed and resolved.
        given: what was typed, by key.
        rules: those of the command, `TRAIN` for instance.
    """
    return [
        f"{key}={value} is not used: {rule.why}."
        for rule in rules
        for key, value in given.items()
        if _is_of(key, rule.keys) and _at(config, key) not in (None, *rule.nothing) and rule.holds(config)
    ]


def given_options(overrides: Collection[str]) -> dict[str, str]:
    """What a command line sets, by key, of its overrides."""
    pairs = (word.lstrip("+").partition("=") for word in overrides if not word.startswith("~"))
    return {key: value for key, _, value in pairs}


def never_used(config: Config) -> Iterator[str]:
    """One line for each part of a training that can do nothing in it, whoever chose it."""
    losses = list(_parts(config["loss"]))
    if config["sync_dist"] and config["processes"] > 1 and not any("sync_dist" in one for one in losses):
        yield (
            f"sync_dist=true is not used: {config['loss'].get('_target_')} takes none, so each process trains on the "
            "loss of its own batch."
        )
    yield from _waits_too_long(config)


def _waits_too_long(config: Config) -> Iterator[str]:
    validations = _validations(config)
    if validations is None:
        return
    lasts = f"this training has {validations}"
    for name, one in (config.get("callbacks") or {}).items():
        if one and str(one.get("_target_")).endswith(".EarlyStopping"):
            patience = one.get("patience", 3)  # Lightning's
            if isinstance(patience, int) and validations <= patience + 1:
                yield (
                    f"callbacks.{name} stops nothing: it waits for patience={patience} validations without "
                    f"improvement, and {lasts}."
                )
    scheduler = config.get("scheduler") or {}
    if str(scheduler.get("_target_")).endswith("lightning_seg.schedulers.plateau"):
        patience = scheduler["patience"]
        if validations <= patience + 2:
            yield (
                f"scheduler=plateau never lowers the learning rate: it waits for {patience + 1} validations without "
                f"improvement, and {lasts}."
            )


def _validations(config: Config) -> int | None:
    """How many validations a training has whose length follows from its epochs alone."""
    trainer = config.get("trainer") or {}
    epochs, every = trainer.get("max_epochs"), trainer.get("check_val_every_n_epoch") or 1
    by_steps = trainer.get("val_check_interval") not in (None, 1.0) or trainer.get("fast_dev_run")
    return None if by_steps or not epochs or epochs < 0 else int(epochs // every)


def _at(config: Any, key: str, default: Any = None) -> Any:
    for name in key.split("."):
        if not isinstance(config, Mapping) or name not in config:
            return default
        config = config[name]
    return config


def _is_of(key: str, keys: Collection[str]) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in keys)


def _is(key: str, *values: Any) -> Callable[[Config], bool]:
    return lambda config: _at(config, key) in values


def _is_own(part: Any) -> bool:
    """Whether a part is built by a class of the user's own, which may read any of its keys, or those of others."""
    return not str(_at(part, "_target_", "lightning_seg.")).startswith(("lightning_seg.", "lightning."))


def _of_ours(part: str, holds: Callable[[Config], bool]) -> Callable[[Config], bool]:
    """A condition that tells of a part, unless it is one of the user's own."""
    return lambda config: not _is_own(config.get(part)) and holds(config)


def _untested(config: Config) -> bool:
    return not config["test"] or _at(config, "trainer.limit_test_batches") == 0


def _has_no_pretrained_part(config: Config) -> bool:
    callbacks = (config.get("callbacks") or {}).values()
    frozen = any(one and (_is_own(one) or str(one.get("_target_")).endswith(".FreezeEncoder")) for one in callbacks)
    rates = [_at(config, f"module.{name}", 1.0) for name in ("encoder_learning_rate_factor", "layer_decay")]
    return config["init_from"] is None and not frozen and rates == [1.0, 1.0] and not _is_own(config["module"])


def _is_without_augment(config: Config) -> bool:
    is_elsewhere = config.get("augment") in config["data"].values()  # by an argument of another name
    return "augment" not in config["data"] and _is_own(config["data"]) and not is_elsewhere


def _is_no_class(config: Config) -> bool:
    classes = _at(config, "module.num_classes")
    is_beyond = isinstance(classes, int) and _at(config, "callbacks.details.background", 0) >= classes
    return config["task"] != "multiclass" or is_beyond


def _channels(config: Config) -> int | None:
    named = _at(config, "data.channels", "rgb")
    return len(named) if isinstance(named, list) else 3 if named == "rgb" else None


def _reads_no_distances(config: Config) -> bool:
    targets = list(_targets(config["loss"]))
    ours = not _is_own(config["module"]) and all(target.startswith("lightning_seg.losses.") for target in targets)
    return ours and not any(target.endswith((".BoundaryLoss", ".HausdorffDistanceLoss")) for target in targets)


def _parts(node: Any) -> Iterator[Config]:
    """Everything within a node that is to be built."""
    if isinstance(node, Mapping) and "_target_" in node:
        yield node
    values = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
    for one in values:
        yield from _parts(one)


def _targets(node: Any) -> Iterator[str]:
    return (str(one["_target_"]) for one in _parts(node))


def _is_one_checkpoint(config: Config) -> bool:
    return isinstance(config["checkpoint"], str) or len(config["checkpoint"]) == 1


_LIMITS = ("trainer.limit_train_batches", "trainer.limit_val_batches")
_LENGTHS = ("trainer.max_epochs", "trainer.max_steps", "trainer.limit_test_batches")
_VALIDATED = ("trainer.val_check_interval", "trainer.check_val_every_n_epoch", "trainer.num_sanity_val_steps")
TRAIN = (
    Rule(("folder", "run_id"), lambda config: True, "the command sets it, of runs and run"),
    Rule(("max_skipped_steps",), _is("on_nonfinite", "stop"), "it is for on_nonfinite=skip"),
    Rule(
        ("module.encoder",),
        _has_no_pretrained_part,
        "it is for module.encoder_learning_rate_factor, module.layer_decay, callbacks=[default,freeze] and init_from",
        nothing=("auto",),
    ),
    Rule(
        ("module.decay_norms_and_biases",),
        _is("optimizer.weight_decay", 0),
        "with optimizer.weight_decay=0 nothing has a weight decay",
        nothing=(True,),
    ),
    Rule(
        ("module.tiling",),
        _is("module.tile", None),
        "with module.tile=null no image is cut into tiles",
        nothing=("crop",),
    ),
    Rule(
        ("trainer.gradient_clip_algorithm",),
        _is("trainer.gradient_clip_val", None, 0),
        "nothing is clipped without trainer.gradient_clip_val",
    ),
    Rule(
        ("trainer.log_every_n_steps",),
        lambda config: not config.get("logger"),
        "there is no logger: add logger=csv",
        nothing=(1,),
    ),
    Rule(
        ("sync_dist", "trainer.sync_batchnorm"),
        lambda config: config["processes"] == 1,
        "one process trains, by itself",
    ),
    Rule(_LIMITS, lambda config: bool(_at(config, "trainer.overfit_batches")), "trainer.overfit_batches replaces it"),
    Rule(
        (*_LENGTHS, *_LIMITS, *_VALIDATED, "logger"),
        lambda config: bool(_at(config, "trainer.fast_dev_run")),
        "trainer.fast_dev_run takes single batches",
    ),
    Rule(
        ("trainer.benchmark",),
        _is("trainer.accelerator", "cpu"),
        "it is for a GPU's cuDNN, and trainer.accelerator=cpu has none",
    ),
    Rule(
        ("local.partition", "local.account"), lambda config: config["launcher"] != "slurm", "it is for launcher=slurm"
    ),
    Rule(
        ("callbacks.details", "callbacks.pictures", "callbacks.confusion"),
        _untested,
        "it is for the test, and nothing is tested",
    ),
    Rule(
        ("callbacks.validation",),
        _is("trainer.limit_val_batches", 0),
        "it is for the validation, which trainer.limit_val_batches=0 leaves out",
    ),
    Rule(
        ("callbacks.details.tolerance",),
        _is("callbacks.details.boundaries", False),
        "it is for callbacks.details.boundaries=true",
    ),
    Rule(
        ("callbacks.details.background",),
        _is_no_class,
        "there is no such class, or the task is not multiclass",
    ),
    Rule(
        ("data.unlabeled_per_image",),
        _is("module._target_", "lightning_seg.SegmentationModule"),
        "no loss reads unlabeled images but that of module._target_=lightning_seg.ConsistencyModule",
    ),
    Rule(("data.distances",), _reads_no_distances, "it is for loss=boundary and loss=hausdorff"),
    Rule(("augment",), _is_without_augment, "data of your own has no argument augment"),
    Rule(
        ("augment.brightness", "augment.contrast", "augment.saturation", "augment.hue"),
        _of_ours("augment", lambda config: _channels(config) not in (None, 1, 3)),
        "images of other than 1 or 3 channels keep their colors",
    ),
    Rule(
        ("augment.saturation", "augment.hue"),
        _of_ours("augment", lambda config: _channels(config) == 1),
        "images of one channel have no colors",
    ),
    Rule(
        ("augment.horizontal_flip", "augment.vertical_flip"),
        _of_ours("augment", _is("augment.d4", 1)),
        "augment.d4=1 takes each orientation as often with it and without",
    ),
    Rule(
        ("augment.foreground",),
        _of_ours("augment", _is("augment.patch_size", None)),
        "it is for augment.patch_size, and whole volumes have all of it",
    ),
    Rule(
        ("augment.rotation", "augment.scale"),
        _of_ours("augment", _is("augment.affine", 0)),
        "augment.affine=0 neither rotates nor zooms",
    ),
    Rule(
        ("loss.smooth", "loss.squared", "loss.average", "loss.classes"),
        _of_ours("loss", _is("loss.dice_weight", 0)),
        "loss.dice_weight=0 leaves Dice out",
    ),
    Rule(
        ("loss.label_smoothing",),
        _of_ours("loss", _is("loss.cross_entropy_weight", 0)),
        "loss.cross_entropy_weight=0 leaves cross-entropy out",
    ),
    Rule(
        ("callbacks.ema.update_starting_at_step", "callbacks.ema.update_starting_at_epoch"),
        lambda config: _averages_never(config),
        "the training is over before, so weights are never averaged",
    ),
)
EVALUATE = (
    Rule(("folder",), lambda config: True, "an evaluation keeps nothing but output and details"),
    Rule(("sync_dist",), lambda config: True, "it is of trainings"),
    Rule(("one_in_memory",), _is_one_checkpoint, "there is one checkpoint"),
    Rule(
        ("augment", "data.augment", "data.train_limit", "data.train_repeats", "data.sampler"),
        lambda config: not _is_own(config.get("data")),
        "it is of training images",
    ),
    Rule(("data.unlabeled_per_image",), lambda config: not _is_own(config.get("data")), "it is of trainings"),
    Rule(
        ("data.batch_size",),
        lambda config: not _is_own(config.get("data")),
        "it is of training steps; data.eval_batch_size is that of an evaluation",
    ),
    Rule(
        (
            *("trainer.max_epochs", "trainer.max_steps", "trainer.max_time", "trainer.sync_batchnorm"),
            *("trainer.gradient_clip_val", "trainer.gradient_clip_algorithm", "trainer.accumulate_grad_batches"),
            *("trainer.limit_train_batches", "trainer.overfit_batches", "trainer.log_every_n_steps"),
            *(*_VALIDATED, "trainer.default_root_dir", "trainer.detect_anomaly"),
        ),
        lambda config: True,
        "it is of trainings",
    ),
    Rule(("trainer.limit_test_batches",), _is("split", "val"), "with split=val it is trainer.limit_val_batches"),
    Rule(
        ("trainer.limit_val_batches",),
        _is("split", None, "test", "all"),
        "without split=val it is trainer.limit_test_batches",
    ),
)
PREDICT = (
    Rule(("one_in_memory",), _is_one_checkpoint, "there is one checkpoint"),
    Rule(("simplify",), _is("contours", False), "it is for contours=true"),
)
EXPORT = (Rule(("private",), _is("push", None), "it is for push=OWNER/NAME", nothing=(True,)),)
INSPECT = (
    Rule(("folder", "run_id"), lambda config: True, "an inspection trains nothing"),
    Rule(("trusted",), _is("checkpoint", None), "it is for checkpoint=PATH"),
)


def _averages_never(config: Config) -> bool:
    epochs, steps = _at(config, "trainer.max_epochs"), _at(config, "trainer.max_steps")
    ema = _at(config, "callbacks.ema") or {}
    at_epoch, at_step = ema.get("update_starting_at_epoch"), ema.get("update_starting_at_step")
    late = at_epoch is not None and epochs is not None and 0 < epochs <= at_epoch
    return late or (at_step is not None and steps is not None and 0 < steps <= at_step)
