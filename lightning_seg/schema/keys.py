"""The keys of the commands, and the numbers that options may have."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypedDict


class Range(NamedTuple):
    """Numbers from `least` to `most`, and besides them `also`, which have a meaning of their own."""

    least: float = -math.inf
    most: float = math.inf
    also: tuple[float, ...] = ()
    above: bool = False

    def holds(self, number: float) -> bool:
        """Whether a number is among them."""
        inside = self.least < number if self.above else self.least <= number
        return number in self.also or (inside and number <= self.most)

    def __str__(self) -> str:
        least = f"above {self.least}" if self.above else f"{self.least} or more"
        if self.most == math.inf:
            text = f"must be {least}"
        elif self.above:
            text = f"must be {least} and {self.most} at most"
        else:
            text = f"must be from {self.least} to {self.most}"
        return text + "".join(f", or {number}" for number in self.also)


Part = dict[str, Any]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Count = Annotated[int, Range(1)]


class Train(TypedDict):
    """The keys of `lightning-seg-train`."""

    data: Part
    augment: Part | None
    backbone: Part
    loss: Part
    optimizer: Part
    scheduler: Part | None
    callbacks: Part
    trainer: Part
    logger: Part | None
    module: Part
    local: Part | None
    task: Literal["multiclass", "multilabel", "binary"]
    class_weights: Sequence[float] | str | None
    on_nonfinite: Literal["stop", "skip"]
    max_skipped_steps: Count
    sync_dist: bool
    normalization: Literal["encoder", "data"]
    init_from: str | None
    find_learning_rate: bool
    compile: bool
    channels_last: bool
    gradient_checkpointing: bool
    seed: Seed
    run: str | None
    runs: str
    resume: Literal["never", "auto"]
    monitor: str
    monitor_mode: Literal["max", "min"] | None
    test: bool
    folder: str | None
    run_id: str | None


class Inspect(Train, TypedDict):
    """The keys of `lightning-seg-inspect`."""

    output: str
    overwrite: bool
    samples: Annotated[int, Range(0)]
    checkpoint: str | None
    trusted: Sequence[str]


class Evaluate(TypedDict):
    """The keys of `lightning-seg-evaluate`."""

    data: Part
    trainer: Part
    sync_dist: bool  # set by trainer=ddp and the like, for trainings
    augment: Part | None
    checkpoint: str | Sequence[str]
    one_in_memory: bool
    split: Literal["test", "val", "all"] | None
    folder: str | None
    output: str | None
    details: str | None
    tolerance: Annotated[float, Range(0)] | None
    tile: Count | Sequence[int] | None
    margin: Annotated[int, Range(0)] | Sequence[int] | None
    tiling: Literal["crop", "smooth"] | None
    test_time_augmentation: bool | Literal["flip", "flips", "d4"] | Part | None
    threshold: float | Literal["best"] | None
    trusted: Sequence[str]


class Export(TypedDict):
    """The keys of `lightning-seg-export`."""

    checkpoint: str
    format: Literal["onnx", "torch_export", "hub"]
    output: str
    argmax: bool
    half: bool
    tolerance: Annotated[float, Range(0, above=True)] | None
    overwrite: bool
    push: str | None
    private: bool
    trusted: Sequence[str]


class Predict(TypedDict):
    """The keys of `lightning-seg-predict`."""

    checkpoint: str | Sequence[str]
    one_in_memory: bool
    input: str | None
    split: Literal["test", "val", "train"] | None
    output: str
    overlay: bool
    probabilities: bool
    contours: bool
    simplify: Annotated[float, Range(0)]
    run_lengths: bool
    areas: bool
    resume: bool
    batch_size: Count
    precision: Literal["32-true", "16-mixed", "bf16-mixed"]
    overwrite: bool
    device: str
    devices: Count | Literal["auto"]
    tile: Count | Sequence[int] | None
    margin: Annotated[int, Range(0)] | Sequence[int] | None
    tiling: Literal["crop", "smooth"] | None
    max_pixels: Count
    test_time_augmentation: bool | Literal["flip", "flips", "d4"] | Part | None
    threshold: float | Literal["best"] | None
    trusted: Sequence[str]


_ABOVE_0 = Range(0, above=True)
_SHARE = Range(0, 1)
_FROM_0, _FROM_1 = Range(0), Range(1)
RANGES = {
    "data.num_classes": _FROM_1,
    "data.num_train": _FROM_1,
    "data.num_val": _FROM_1,
    "data.num_test": _FROM_1,
    "data.image_size": _FROM_1,
    "data.dimensions": Range(2, 3),
    "data.seed": Range(0, 2**32 - 1),
    "data.batch_size": _FROM_1,
    "data.eval_batch_size": _FROM_1,
    "data.num_workers": _FROM_0,
    "data.train_limit": _FROM_1,
    "data.train_repeats": _FROM_1,
    "data.unlabeled_per_image": _FROM_0,
    "data.fold": _FROM_0,
    "data.folds": Range(2),
    "data.page": _FROM_0,
    "data.mask_page": _FROM_0,
    "data.scale": _ABOVE_0,
    "data.std": _ABOVE_0,
    "data.palette": Range(0, 255),
    "module.auxiliary_weight": _FROM_0,
    "module.encoder_learning_rate_factor": _FROM_0,
    "module.layer_decay": Range(0, 1, above=True),
    "module.threshold": _SHARE,
    "augment.crop_size": _FROM_1,
    "augment.patch_size": _FROM_1,
    "augment.rotation": _FROM_0,
    "augment.foreground": _SHARE,
    "augment.flip": _SHARE,
    "augment.affine": _SHARE,
    "augment.noise": _FROM_0,
    "optimizer.lr": _FROM_0,
    "optimizer.weight_decay": _FROM_0,
    "optimizer.momentum": _SHARE,
    "scheduler.warmup": _SHARE,
    "scheduler.power": _ABOVE_0,
    "scheduler.factor": _SHARE,
    "scheduler.patience": _FROM_0,
    "scheduler.min_delta": _FROM_0,
    "trainer.max_epochs": Range(1, also=(-1,)),
    "trainer.max_steps": Range(1, also=(-1,)),
    "trainer.num_nodes": _FROM_1,
    "trainer.gradient_clip_val": _FROM_0,
    "trainer.accumulate_grad_batches": _FROM_1,
    "trainer.limit_train_batches": _ABOVE_0,
    "trainer.limit_val_batches": _FROM_0,
    "trainer.limit_test_batches": _FROM_0,
    "trainer.overfit_batches": _FROM_0,
    "trainer.fast_dev_run": _FROM_0,
    "trainer.val_check_interval": _ABOVE_0,
    "trainer.check_val_every_n_epoch": _FROM_1,
    "trainer.num_sanity_val_steps": Range(-1),
    "trainer.log_every_n_steps": _FROM_0,
    "callbacks.early_stopping.patience": _FROM_0,
    "callbacks.checkpoint.save_top_k": Range(-1),
    "callbacks.details.tolerance": _FROM_0,
    "callbacks.details.background": _FROM_0,
    "callbacks.details.draws": _FROM_1,
    "callbacks.ema.decay": _SHARE,
    "callbacks.ema.update_every_n_steps": _FROM_1,
    "callbacks.ema.update_starting_at_step": _FROM_0,
    "callbacks.ema.update_starting_at_epoch": _FROM_0,
    "callbacks.early_stopping.min_delta": _FROM_0,
    "callbacks.model_summary.max_depth": Range(-1),
    "callbacks.freeze.epochs": Range(-1),
    "callbacks.last.every_minutes": _FROM_0,
    "callbacks.pictures.count": _FROM_1,
    "callbacks.validation.count": _FROM_1,
    "callbacks.validation.size": _FROM_1,
}
_MODES = ("max", "min")
# What Lightning declares as any text.
CHOICES = {
    "trainer.accelerator": ("auto", "cpu", "gpu", "cuda", "mps", "tpu"),
    "trainer.gradient_clip_algorithm": ("norm", "value"),
    "trainer.profiler": ("simple", "advanced", "pytorch", "xla"),
    "callbacks.checkpoint.mode": _MODES,
    "callbacks.early_stopping.mode": _MODES,
}
# Batches of a trainer as a number, or as a share from 0.0 to 1.0.
SHARES = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "overfit_batches", "val_check_interval")
# The ranges are those of parts of these packages; one of yours may take other numbers under the same name.
RANGED = ("lightning_seg.", "lightning.", "torch.")
