"""The one LightningModule: a backbone, a loss and the metrics of a segmentation task."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import LRSchedulerConfigType, OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MetricCollection

from lightning_seg.backbones import encoder_names, network_output
from lightning_seg.backbones.gradients import parameters_without_gradient
from lightning_seg.backbones.outputs import resized
from lightning_seg.data.images import in_unit_range
from lightning_seg.data.volume_reading import VolumeReading
from lightning_seg.evaluation import Evaluation
from lightning_seg.inference.predicting import PredictingModule
from lightning_seg.inference.small_images import SmallImages
from lightning_seg.inference.symmetric import Augmentation, views
from lightning_seg.inference.tiling import Sides, Tiling, check_tiling, fits, joined
from lightning_seg.losses import CompoundLoss, with_distances
from lightning_seg.losses.compound.compound import compounds_within
from lightning_seg.losses.compound.deep_supervision import target_at_size
from lightning_seg.losses.engine.back_ends import agree_on_back_ends
from lightning_seg.losses.loss import check_numbers_of_classes, not_negative
from lightning_seg.metrics import segmentation_metrics
from lightning_seg.metrics.confusion import ConfusionMatrixMetric
from lightning_seg.parameter_groups import parameter_groups
from lightning_seg.schedulers import Plateau, schedule
from lightning_seg.task import Task, check_classes, check_same_task

Stage = Literal["train", "val", "test"]


class SegmentationModule(PredictingModule):
    """Trains, evaluates and applies a segmentation network.

    A batch is a mapping with `image` and `mask`, or a pair of them; as a mapping it may also have `distances`, what the
    loss's `target_distances` gives for the mask, which the target then carries. It logs `<stage>/loss`,
    `<stage>/iou`, `<stage>/dice`, `<stage>/accuracy`, `<stage>/iou/<class>` and `<stage>/dice/<class>` once an epoch,
    for the stages `train`, `val` and `test`. In evaluation every image counts once, on any number of processes, and the
    loss is that of all valid pixels of the data set as one batch, whatever the batch size. This holds for losses that
    are functions of sums over pixels (`Loss.summed`: cross-entropy, focal, Dice and its kin, Lovász by histogram, and
    compounds of them), if `compute_loss` is not overridden. For all others the mean over the batches is logged, each
    weighted by its valid pixels; it depends on the batch size where the loss of a batch is not a mean over pixels.
    Images that are cut into tiles are scored tile by tile, each of which is then a batch of the loss.

    Where auxiliary logits are trained, `train/loss` includes them, and `train/loss/auxiliary` is their part.
    Of a `CompoundLoss` it also logs `train/loss/<term>`, the mean over the epoch's batches of each term before its
    weight; of one within another, `train/loss/<outer term>/<inner term>` too. Weights that follow a schedule are those
    of the epoch, in evaluation those of the epoch that was trained last.

    To change a part in research code, override the method that holds it: `unpack`, `forward`, `compute_loss`,
    `auxiliary_loss`, `set_epoch`, `build_metrics`, `predict_logits`, `probabilities`, `predict_labels`,
    `parameter_groups`, `parameters_without_gradient`.

    Args:
        backbone: any network from images `(N, channels, *spatial)` to scores of `num_classes` channels at any
            resolution, and perhaps those of auxiliary heads, in one of the forms of
            `lightning_seg.backbones.network_output`.
        loss: any module called as `loss(logits, target)`; it returns a scalar tensor, which is checked.
        num_classes: channels of the logits; 1 in the binary task.
        task: `multiclass` (one label a pixel), `multilabel` (several, independent), `binary` (one class or none).
        ignore_index: the mask value of void pixels, which are neither trained on nor scored.
        class_names: one name for each class, for the logged names. Default: "0", "1", ...
        mean: per channel, subtracted from the image, in the image's own units. Default: images are used as they come.
        std: per channel, the image is divided by it.
        optimizer: a factory called with parameter groups, for example `functools.partial(torch.optim.SGD, lr=0.01)`.
        scheduler: a factory called with the optimizer and the number of optimizer steps of the whole training (see
            `lightning_seg.schedulers`); it is stepped after each of them, a `Plateau` after each epoch's validation.
        auxiliary_weight: what the loss of auxiliary logits is multiplied by, a number for all or one for each; see
            `auxiliary_loss`. 0: they are not trained. Evaluation uses the first logits alone.
        encoder: which part of the network is pretrained, a dotted name within it, or several; `auto` finds it, see
            `lightning_seg.backbones.encoder_names`.
        encoder_learning_rate_factor: multiplies the learning rate of the pretrained part; 0.1 is usual when
            fine-tuning.
        layer_decay: multiplies it once more for each layer between that one and the head, see
            `lightning_seg.parameter_groups`; 0.65 to 0.9 are usual for transformers.
        decay_norms_and_biases: False: parameters of norms, biases and what a network of timm lists get no weight decay.
        test_time_augmentation: what test and prediction, and a validation outside of a training, average the
            probabilities over: False, `flip`, `flips`, `d4`, or a mapping with `scales` and `flips`; True is `d4`. See
            `lightning_seg.inference.views`, also for the cost.
        tile: evaluation and prediction cut images with a longer side into tiles of this one, in pixels of the image,
            or of one for each axis; see `lightning_seg.inference.predict_tiled`. Default: images go through whole.
            Where the network is sharded over processes (FSDP) these need the same number of tiles, so images of one
            size.
        margin: context around a tile's center, in pixels, or for each axis; given with `tile`.
        tiling: how tiles are joined, `crop` or `smooth`, likewise.
        background: the class that `<stage>/iou_without_background` and `<stage>/dice_without_background` leave out.
            Default: these are not logged.
        threshold: of the binary task, above which a probability is the object: a number, or `best`, that of the highest
            Dice of the validation images, which each validation of a training finds and checkpoints keep. The scores of
            a training's validations are then those at 0.5.

    Raises:
        ValueError: arguments that contradict each other.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        backbone: nn.Module,
        loss: nn.Module,
        *,
        num_classes: int,
        task: Task = "multiclass",
        ignore_index: int | None = None,
        class_names: Sequence[str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        optimizer: Callable[[Any], Optimizer] = torch.optim.AdamW,
        scheduler: Callable[[Optimizer, int], LRScheduler] | None = None,
        auxiliary_weight: float | Sequence[float] = 0.4,
        encoder: str | Sequence[str] = "auto",
        encoder_learning_rate_factor: float = 1.0,
        layer_decay: float = 1.0,
        decay_norms_and_biases: bool = True,
        test_time_augmentation: Augmentation = False,
        tile: Sides | None = None,
        margin: Sides | None = None,
        tiling: Tiling = "crop",
        background: int | None = None,
        threshold: float | Literal["best"] = 0.5,
    ) -> None:
        super().__init__()
        class_names = [str(name) for name in (range(num_classes) if class_names is None else class_names)]
        check_classes(task, num_classes, ignore_index, class_names)
        check_same_task(loss, task, ignore_index)
        check_numbers_of_classes(loss, num_classes)
        if (mean is None) != (std is None):
            raise ValueError(f"mean={mean} and std={std} must be given together or not at all.")
        if std is not None and not all(0 < value < math.inf for value in std):
            raise ValueError(f"std={list(std)}: images are divided by it, so each number must be above 0 (data.std).")
        check_tiling(tile, margin, tiling)
        views(test_time_augmentation)
        if encoder != "auto":
            encoder_names(backbone, encoder)

        self.backbone = backbone
        self.loss = loss
        self.num_classes = num_classes
        self.task: Task = task
        self.ignore_index = ignore_index
        self.class_names = class_names
        self.optimizer_factory = optimizer
        self.scheduler_factory = scheduler
        weights = [auxiliary_weight] if isinstance(auxiliary_weight, int | float) else auxiliary_weight
        given = [not_negative(weight, "auxiliary_weight") for weight in weights]
        self.auxiliary_weight = given[0] if isinstance(auxiliary_weight, int | float) else given
        self.encoder = encoder if isinstance(encoder, str) else list(encoder)
        self.encoder_learning_rate_factor = encoder_learning_rate_factor
        self.layer_decay = layer_decay
        self.decay_norms_and_biases = decay_norms_and_biases
        self.test_time_augmentation = test_time_augmentation
        self.tile = tile
        self.margin = margin
        self.tiling: Tiling = tiling
        self.scale = 1.0
        self.reading: dict[str, Any] | None = None  # how image files were read: channels and value_range
        self.volumes: VolumeReading | None = None  # how files of volumes were, where these are what it was trained on
        self.background = background
        self.threshold: float | Literal["best"] = threshold
        self.found_threshold: float | None = None  # on validation images
        self.check_threshold()
        self.palette: Sequence[Sequence[int]] | None = None
        # Not persistent: they are arguments, and a checkpoint's weights must fit whatever normalization is asked for.
        self.register_buffer("mean", None if mean is None else torch.tensor(list(mean)), persistent=False)
        self.register_buffer("std", None if std is None else torch.tensor(list(std)), persistent=False)

        metrics = self.build_metrics()
        self.train_metrics = metrics.clone("train/")
        self.val_metrics = metrics.clone("val/")
        self.test_metrics = metrics.clone("test/")
        self.loss_terms: dict[str, Tensor] = {}  # of the last training step, by name, without gradient
        self.auxiliary_logits: tuple[Tensor, ...] | None = None  # of a training step, until they are trained
        self.evaluation = Evaluation()
        self._told_of_tiles: set[str] = set()

    # ---- what research code may want to change

    @property
    def requires_unlabeled(self) -> bool:
        """Whether training batches need unlabeled images, as `unlabeled`. Read when the data loader is made."""
        return False

    @property
    def takes_integers(self) -> bool:
        """Whether masks, and images in tiles, may come as small integers, of which `unpack` makes int64 and floats.

        A step of your own may read a batch otherwise; where it does not, let `takes_integers = True` say so.
        """
        steps = ("unpack", "validation_step", "test_step")
        return all(getattr(type(self), name) is getattr(SegmentationModule, name) for name in steps)

    def unpack(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Image and mask of a batch. Called first in every training, validation and test step."""
        if isinstance(batch, Mapping) and "image" in batch and "mask" in batch:
            image, mask = batch["image"], batch["mask"]
            if isinstance(mask, Tensor) and mask.dtype == torch.uint8:
                mask = mask.long()
            if "image_top" in batch:
                image = in_unit_range(image)
            return image, with_distances(mask, batch["distances"]) if "distances" in batch else mask
        if isinstance(batch, Sequence) and len(batch) == 2:
            return batch[0], batch[1]
        found = f"the keys {sorted(batch)}" if isinstance(batch, Mapping) else f"a {type(batch).__name__}"
        raise TypeError(
            f"a batch must be a mapping with 'image' and 'mask' or a pair of them, but got {found}: "
            "change the data set or override SegmentationModule.unpack."
        )

    def forward(self, image: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Logits `(N, num_classes, *size)` of images `(N, channels, *spatial)`. Called in every step.

        In training a warning says so where the backbone returns auxiliary logits that are not trained.

        Args:
            image: floating point, in the units of `mean` and `std`.
            size: spatial size of the logits. Default: that of the image.

        Raises:
            TypeError: the image is not floating point, also after normalization, or float64 for a network of float32.
            ValueError: the backbone's channels are not `num_classes`, or those of the image not as many as `mean` has.
        """
        if self.mean is not None and self.std is not None:
            if len(self.mean) not in (1, image.shape[1]) or len(self.std) not in (1, image.shape[1]):
                raise ValueError(
                    f"the image has {image.shape[1]} channels, and mean and std have {len(self.mean)} and "
                    f"{len(self.std)} numbers: give one for each (data.mean, data.std)."
                )
            per_channel = (1, -1, *[1] * (image.ndim - 2))
            image = (image - self.mean.view(per_channel)) / self.std.view(per_channel)
        if not image.is_floating_point():
            raise TypeError(f"images are {image.dtype}, expected floating point: for 8 bits, give image / 255.")
        if image.dtype == torch.float64 and torch.float32 in {one.dtype for one in self.backbone.parameters()}:
            raise TypeError("images are torch.float64 and the network is torch.float32: give image.float().")
        output = network_output(self.backbone(image), image.ndim - 2)
        if output.auxiliary and self.training and not self.auxiliary_weight:
            rank_zero_warn(
                f"the backbone returns {len(output.auxiliary)} auxiliary logits, which are not trained: give "
                "module.auxiliary_weight=0.4, or leave their heads out (backbone.aux_loss=false in torchvision)."
            )
        if self.auxiliary_logits is not None and self.auxiliary_weight:
            self.auxiliary_logits = output.auxiliary
        logits = resized(output.logits, image.shape[2:] if size is None else size)
        if logits.shape[1] != self.num_classes:
            raise ValueError(
                f"the backbone gives {logits.shape[1]} channels, but num_classes={self.num_classes}: "
                f"build it for {self.num_classes} (backbone.classes or backbone.num_classes in a configuration)."
            )
        return logits

    def compute_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The scalar that is minimized. Called in every training step, and in every step of an evaluation whose loss is
        not a function of sums over pixels, or where it is overridden.

        Where it calls a `CompoundLoss` more than once, the terms of the last call are logged.

        Args:
            logits: `(N, num_classes, *spatial)`.
            target: the mask.
        """
        loss: Tensor = self.loss(logits, target)
        return loss

    def auxiliary_loss(self, auxiliary: Sequence[Tensor], target: Tensor) -> Tensor:
        """What the auxiliary logits of a training step add to its loss: the weighted sum of the loss of each.

        Each is at a resolution of its own, for which the target is brought to its size by the nearest pixel.

        Args:
            auxiliary: each `(N, num_classes, *spatial)`.
            target: the mask.

        Raises:
            ValueError: they are not as many as `auxiliary_weight` has numbers, or their channels are not `num_classes`.
        """
        weights = self.auxiliary_weight
        weights = [weights] * len(auxiliary) if isinstance(weights, float) else weights
        channels = [logits.shape[1] for logits in auxiliary]
        if len(weights) != len(auxiliary):
            raise ValueError(
                f"module.auxiliary_weight has {len(weights)} numbers, and the backbone returns {len(auxiliary)} "
                "auxiliary logits: give one number for all, or one for each."
            )
        if any(count != self.num_classes for count in channels):
            raise ValueError(
                f"the backbone gives auxiliary logits of {', '.join(map(str, channels))} channels, but "
                f"num_classes={self.num_classes}: build their heads for {self.num_classes}, or do not train them, "
                "module.auxiliary_weight=0."
            )
        losses = [
            weight * self.compute_loss(logits, target_at_size(target, logits.shape[2:]))
            for weight, logits in zip(weights, auxiliary, strict=True)
        ]
        total: Tensor = sum(losses[1:], start=losses[0])
        return total

    def set_epoch(self, epoch: int) -> None:
        """Gives losses whose weights follow a schedule those of an epoch, counted from 0.

        Called as each epoch of the training starts, and with the epoch of a checkpoint when that is loaded.
        """
        for _, compound in self._compound_losses():
            compound.set_epoch(epoch)

    def build_metrics(self) -> MetricCollection:
        """The metrics, updated with `(logits, mask)` in each step. Called once, at the end of construction.

        What their `compute` returns is logged at the end of an epoch under `<stage>/<name>`.
        """
        return segmentation_metrics(self.task, self.num_classes, self.ignore_index, self.class_names, self.background)

    def parameter_groups(self) -> Iterable[dict[str, Any]]:
        """What is trained: groups as `torch.optim` takes them. Called once, before the optimizer is made.

        A group's `learning_rate_factor` multiplies the optimizer's learning rate for it.
        """
        return parameter_groups(
            self,
            self.backbone,
            encoder=self.encoder,
            encoder_learning_rate_factor=self.encoder_learning_rate_factor,
            layer_decay=self.layer_decay,
            decay_norms_and_biases=self.decay_norms_and_biases,
        )

    def parameters_without_gradient(self) -> list[str] | None:
        """The parameters of the backbone that no loss trains; None if that cannot be told. Called where processes train
        together, which must look for such parameters.
        """
        own = {id(parameter) for parameter in self.backbone.parameters()}
        if any(one.requires_grad and id(one) not in own for one in self.parameters()):
            return None  # of parts that only the training step knows
        channels = 3 if self.mean is None else len(self.mean)
        return parameters_without_gradient(self.backbone, channels, auxiliary=bool(self.auxiliary_weight))

    # ---- what Lightning calls

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, and the scheduler by optimizer step."""
        groups = [dict(group) for group in self.parameter_groups()]
        factors = [group.pop("learning_rate_factor", 1.0) for group in groups]
        optimizer: Optimizer = _made(self.optimizer_factory, "optimizer", groups)
        for group, factor in zip(optimizer.param_groups, factors, strict=True):
            group["lr"] *= factor
        if self.scheduler_factory is None:
            return optimizer
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ValueError(
                "a learning-rate schedule needs to know the length of the training: "
                "give trainer.max_epochs or trainer.max_steps, or choose scheduler=constant."
            )
        scheduler = _made(schedule, "scheduler", self.scheduler_factory, optimizer, int(steps))
        if isinstance(scheduler, Plateau):
            every = self.trainer.check_val_every_n_epoch or 1
            by_score = LRSchedulerConfigType(
                scheduler=scheduler, interval="epoch", frequency=every, monitor=scheduler.monitor
            )
            return {"optimizer": optimizer, "lr_scheduler": by_score}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        image, mask = self.unpack(batch)
        self.auxiliary_logits = ()
        logits = self(image, mask.shape[-(image.ndim - 2) :])
        auxiliary, self.auxiliary_logits = self.auxiliary_logits, None
        compounds = self._compound_losses()
        for _, compound in compounds:
            compound.forget_values()
        loss = self._scalar_loss(logits, mask)
        if not loss.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"the loss of {self._loss_name} has no gradient, so there is nothing to train: some parameter of the "
                "backbone must be trained, and neither its output nor the loss may be detached from it."
            )
        self.loss_terms = {
            "/".join([*path, term]): value
            for path, compound in compounds
            for term, value in compound.named_values().items()
        }
        if auxiliary or (isinstance(self.auxiliary_weight, list) and self.auxiliary_weight):
            added = self.auxiliary_loss(auxiliary, mask)
            loss, self.loss_terms["auxiliary"] = loss + added, added.detach()
        if self._is_left_out(loss):
            return loss
        for name, value in {"train/loss": loss, **{f"train/loss/{k}": v for k, v in self.loss_terms.items()}}.items():
            self.log(name, value, on_step=False, on_epoch=True, batch_size=len(image), sync_dist=True)
        self.log("loss", loss, prog_bar=True, logger=False)
        self._metrics("train").update(logits.detach(), mask)
        return loss

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the loss weights of the checkpoint's epoch, for training and evaluation."""
        self.set_epoch(checkpoint.get("epoch", 0))
        self.found_threshold = checkpoint.get("threshold")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the threshold that was found on the validation images."""
        if self.found_threshold is not None:
            checkpoint["threshold"] = self.found_threshold

    def on_fit_start(self) -> None:
        """Settles with the other processes how losses are computed on their devices."""
        agree_on_back_ends(self.device)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Advances the schedules of the loss with the first batch of an epoch."""
        # Lightning 2.6 leaves out on_train_epoch_start after a checkpoint that was written at an epoch's last step.
        if batch_idx == 0:
            self.set_epoch(self.current_epoch)

    def on_train_epoch_end(self) -> None:
        """Logs the scores of the epoch's training batches, as augmented, while the network changed."""
        # The progress bar of rank zero asks for the losses of all processes, and waits until the others ask, too.
        _ = self.trainer.callback_metrics
        self._log_scores("train")

    def on_validation_epoch_start(self) -> None:
        """Resets the evaluation, which may have been interrupted."""
        agree_on_back_ends(self.device)
        self.evaluation.reset()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Scores a batch of the validation set."""
        self._evaluate("val", batch, dataloader_idx, self.trainer.val_dataloaders)

    def on_validation_epoch_end(self) -> None:
        """Logs the validation scores, and finds the threshold if that is asked for."""
        if self.threshold == "best" and self.trainer.state.fn == TrainerFn.FITTING:
            self.found_threshold = self.evaluation.best_threshold(self.trainer.strategy)
        self._log_scores("val")

    def on_test_epoch_start(self) -> None:
        """Resets the evaluation, which may have been interrupted."""
        agree_on_back_ends(self.device)
        self.evaluation.reset()

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Scores a batch of the test set."""
        self._evaluate("test", batch, dataloader_idx, self.trainer.test_dataloaders)

    def on_test_epoch_end(self) -> None:
        """Logs the test scores."""
        self._log_scores("test")

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Labels of a batch: a tensor of images, a mapping with `image`, or a sequence that begins with them."""
        if isinstance(batch, Mapping):
            batch = in_unit_range(batch["image"]) if "image_top" in batch else batch["image"]
        elif not isinstance(batch, Tensor):
            batch = batch[0]
        return self.predict_labels(self.predict_logits(batch))

    @property
    def _loss_is_as_given(self) -> bool:
        """Whether the loss is computed by `loss` alone."""
        return type(self).compute_loss is SegmentationModule.compute_loss

    @property
    def _loss_name(self) -> str:
        """What computes the loss."""
        return type(self.loss if self._loss_is_as_given else self).__name__

    def _scalar_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """`compute_loss`, whose result is refused unless it is one number."""
        try:
            loss: Any = self.compute_loss(logits, target)
        except (TypeError, RuntimeError) as error:
            name, reason = type(self.loss).__name__, " ".join(str(error).split())
            if not self._loss_is_as_given:
                raise  # which may call its loss otherwise
            if not _takes_two(self.loss):
                raise ValueError(
                    f"{name} must be called as loss(logits, target), which its forward does not take: {reason}."
                ) from error
            if type(self.loss).__module__.startswith("torch.nn.") and not isinstance(error, torch.OutOfMemoryError):
                raise ValueError(
                    f"{name} cannot be computed of logits {tuple(logits.shape)} and a target {tuple(target.shape)} of "
                    f"{str(target.dtype).removeprefix('torch.')}: {reason}."
                ) from error
            raise
        if isinstance(loss, Tensor) and loss.numel() == 1:
            return loss.reshape(())
        found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise TypeError(f"{self._loss_name} gives {found} as loss: return a scalar tensor, such as the mean or total.")

    def _is_left_out(self, loss: Tensor) -> bool:
        """Whether a callback, such as `FiniteLoss`, leaves out the step of this loss, which is then not logged."""
        callbacks: list[Any] = self.trainer.callbacks if self._trainer is not None else []  # type: ignore[attr-defined]
        return any(callback.skip_step(loss) for callback in callbacks if hasattr(callback, "skip_step"))

    def _compound_losses(self) -> list[tuple[tuple[str, ...], CompoundLoss]]:
        """The compound losses, in `loss` and beside it, with what their values are called; none of the backbone's."""
        return [
            (path if name == "loss" else (name, *path), compound)
            for name, part in self.named_children()
            if part is not self.backbone
            for path, compound in compounds_within(part)
        ]

    # ---- evaluation

    def _metrics(self, stage: Stage) -> MetricCollection:
        return {"train": self.train_metrics, "val": self.val_metrics, "test": self.test_metrics}[stage]

    def _evaluate(self, stage: Literal["val", "test"], batch: Any, loader: int, loaders: Any) -> None:
        image, mask = self._unpacked(batch)
        is_fitting = self.trainer.state.fn == TrainerFn.FITTING
        callbacks: list[Any] = [] if is_fitting else self.trainer.callbacks  # type: ignore[attr-defined]
        details = [callback for callback in callbacks if hasattr(callback, "add_part")]
        new = self.evaluation.images.count(len(image), loaders, loader)
        names = batch.get("name", []) if isinstance(batch, Mapping) else []
        # The validations of a training choose the best epoch, and come too often to take eight passes each.
        size = mask.shape[-(image.ndim - 2) :]
        parts = self.logits_by_parts(image, size, averaged=not is_fitting)
        is_tiled = not fits(image.shape[2:], self.tile)
        if is_tiled and not self._scores_add_up(stage):
            parts = iter([((slice(None),) * len(size), joined(parts, size))])
            is_tiled = False
        for place, logits in parts:
            index: tuple[Any, ...] = (..., *place)
            part = mask[index][:new]
            part = part.long() if part.dtype == torch.uint8 else part
            self._add_part(stage, logits[:new], part, is_fitting)
            for callback in details if new else []:
                callback.add_part(self, logits[:new], part, place, size)
        if is_tiled and not self.evaluation.has_sums:
            self._say_of_tiles(
                f"{stage}/loss is the mean over tiles: {self._loss_name} is not a function of sums over pixels."
            )
        self.evaluation.end_batch(new, names[:new])
        for callback in details if new else []:
            spacing = {"spacing": batch["spacing"][:new]} if names and "spacing" in batch else {}
            callback.end_images(self.trainer, self, mask[:new], names[:new], **spacing)

    def _unpacked(self, batch: Any) -> tuple[Tensor | SmallImages, Tensor]:
        """As `unpack`, but of small integers it is the parts that become floats or int64."""
        is_plain = isinstance(batch, Mapping) and {"image", "mask"} <= batch.keys() and "distances" not in batch
        if not (is_plain and self.takes_integers):
            return self.unpack(batch)
        image = batch["image"]
        return SmallImages(image) if "image_top" in batch else image, batch["mask"]

    def _scores_add_up(self, stage: Literal["val", "test"]) -> bool:
        """Whether all scores are of pixels, which may come tile by tile; which is not, is said."""
        others = [one for one in self._metrics(stage).values() if not isinstance(one, ConfusionMatrixMetric)]
        if others:
            self._say_of_tiles(
                f"their logits are kept whole for {type(others[0]).__name__}, in 4 bytes a pixel and class: an image "
                "too large for that cannot be scored with it."
            )
        return not others

    def _say_of_tiles(self, what: str) -> None:
        if what not in self._told_of_tiles:
            self._told_of_tiles.add(what)
            rank_zero_warn(f"images are cut into tiles of {self.tile} pixels, and {what}")

    def _add_part(self, stage: Literal["val", "test"], logits: Tensor, mask: Tensor, is_fitting: bool) -> None:
        """Adds logits of images that count, of which there may be none, or a part of each, to loss and scores."""
        self.evaluation.add(
            logits,
            mask,
            summed=getattr(self.loss, "summed", None) if self._loss_is_as_given else None,
            compute_loss=self._scalar_loss,
            ignore_index=self.ignore_index,
        )
        if len(logits) == 0:
            return
        is_sought = is_fitting and self.threshold == "best"
        self._metrics(stage).update(logits if is_sought else self.scored_logits(logits), mask)
        if is_sought:
            self.evaluation.add_levels(self.probabilities(logits), mask, self.ignore_index)

    def _log_scores(self, stage: Stage) -> None:
        if stage != "train":
            self.evaluation.check_defined(stage, self.trainer.strategy)
        metrics = self._metrics(stage)
        scores = metrics.compute()
        metrics.reset()
        for name, score in scores.items():
            self.log(name, score, prog_bar=name == "val/iou")
        if stage != "train":
            self.evaluation.count(self.trainer.strategy)
            from_summed = getattr(self.loss, "from_summed", None)
            self.log(f"{stage}/loss", self.evaluation.loss(from_summed, self.trainer.strategy))


def _made(factory: Callable[..., Any], what: str, *arguments: Any) -> Any:
    """What a factory makes, whose complaints about its options are said by the name of the option's group."""
    try:
        return factory(*arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: {error}") from error


def _takes_two(loss: nn.Module) -> bool:
    """Whether a loss can be called with logits and target."""
    try:
        inspect.signature(loss.forward).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True
