"""What all data modules share: the classes, the loaders, and the checks of both."""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, Literal, NotRequired, TypedDict

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors

from lightning_seg.data.albumentations import is_albumentations, with_albumentations
from lightning_seg.data.augment import TrainingAugmentation
from lightning_seg.data.class_weights import ESTIMATES, image_rarity
from lightning_seg.data.distances import with_distances_for
from lightning_seg.data.few_labels import FewImages
from lightning_seg.data.images import in_unit_range
from lightning_seg.data.masks import check_values
from lightning_seg.data.palette import default_palette
from lightning_seg.data.shared_memory import check_shared_memory
from lightning_seg.data.training_order import SeededSamples, TrainingLoader, TrainingOrder
from lightning_seg.data.volume_augment import VolumeAugmentation, is_of_monai, with_monai
from lightning_seg.data.warp import begin_kernels
from lightning_seg.renamed import renamed_arguments, warn_renamed
from lightning_seg.text import text_logger

log = text_logger(__name__)


class Sample(TypedDict):
    """An image, its mask and its name.

    `image`: float32 `(3, H, W)` in [0, 1]; `mask`: int64 `(H, W)`, or `(num_classes, H, W)` of 0 and 1 in the
    multilabel task; in a batch both begin with N and `name` is a list. On their way to a batch both may be uint8, and
    for a module that has `takes_integers` the mask of a batch, and the image where evaluation cuts it into tiles:
    `image_top` is then what stands for 1. Of a volume, `(H, W)` is `(X, Y, Z)`.
    `unlabeled`: of a training sample, other images, where `unlabeled_per_image` asks for them. `distances`: where
    `distances` asks for them, float32 `(num_classes, H, W)`. `spacing`: of a volume, float64 `(3,)`, the millimeters
    between voxels of its mask.
    """

    image: Tensor
    mask: Tensor
    name: str
    image_top: NotRequired[int]
    unlabeled: NotRequired[list[Tensor]]
    distances: NotRequired[Tensor]
    spacing: NotRequired[Tensor]


Augment = Callable[[Any], Any]


class SegmentationDataModule(lightning.LightningDataModule):
    """Loaders of training, validation and test images, whose batches are mappings as in `Sample`.

    A subclass implements `setup(stage)`, which sets `train_set`, `val_set` and `test_set`, as far as the stage needs
    them, and `unlabeled_set`, which gives mappings with an `image`, if there are images without labels.

    The order of the training images and the random numbers of each (torch's, numpy's and Python's, whichever the data
    set or `augment` draws) depend on the seed, which is that of `lightning.seed_everything` or `torch.manual_seed`, on
    the epoch and on the image, and on nothing else: not on the number of workers, nor on what was drawn before. A
    training that is resumed in the middle of an epoch continues with the same images and augmentations.

    Args:
        num_classes: channels of the logits; 1 for the binary task, whose masks hold 0 and 1.
        class_names: one for each class. Default: "0", "1", ...
        ignore_index: the mask value of void pixels; any that is not a class.
        batch_size: images of a training step on each device.
        eval_batch_size: images of a validation or test step. With 1, images may differ in size.
        num_workers: processes that load images; 0 loads them in the training process.
        distances: whether these processes compute the distances that boundary and Hausdorff losses read, and a batch
            has them as `distances`, so that training does not wait for them: float32 `(N, num_classes, H, W)`. The loss
            of the trainer's module says which; for one that reads none there are none.
        sampler: `shuffle`, each training image once an epoch, or `balanced`, as many draws, with images of rare classes
            more often; see `lightning_seg.data.class_weights.image_rarity`.
        train_repeats: how often each training image occurs in an epoch, augmented anew each time.
        unlabeled_per_image: how many images without labels a training batch has for each of its own, drawn from
            `unlabeled_set`, or from the training images if there is none, and changed by `augment` too: `unlabeled`,
            float32 `(N * unlabeled_per_image, 3, H, W)`. A `SegmentationModule` that reads none gets none.
        augment: applied to training samples, a mapping whose image and mask are `torchvision.tv_tensors`; see
            `training_augmentation`. Or a `Compose` of albumentations, whose random numbers follow the same seed.
        mean: per channel, what `SegmentationModule` subtracts from an image; kept as an attribute for it.
        std: per channel, what it divides by. `auto` for both leaves them to `measure_normalization`.
        palette: one (red, green, blue) for each mask value. Default: PASCAL VOC's colors.

    Raises:
        ValueError: arguments that contradict each other.
    """

    @renamed_arguments(unlabelled_per_image="unlabeled_per_image")
    def __init__(
        self,
        *,
        num_classes: int,
        batch_size: int,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = None,
        eval_batch_size: int = 1,
        num_workers: int = 0,
        distances: bool = False,
        sampler: str = "shuffle",
        train_repeats: int = 1,
        unlabeled_per_image: int = 0,
        augment: Augment | None = None,
        mean: Sequence[float] | Literal["auto"] | None = None,
        std: Sequence[float] | Literal["auto"] | None = None,
        palette: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes}, but at least 1 is needed.")
        self.num_classes = num_classes
        self.num_values = max(num_classes, 2)  # Of the masks: the binary task has one class and two values.
        names = range(num_classes) if class_names is None else class_names
        self.class_names = [str(name) for name in names]
        self.ignore_index = ignore_index
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.distances = distances
        if sampler not in ("shuffle", "balanced"):
            raise ValueError(f"data.sampler={sampler} is neither shuffle nor balanced.")
        self.sampler = sampler
        self.train_repeats = train_repeats
        self.unlabeled_per_image = unlabeled_per_image
        if augment is not None and not callable(augment):
            raise TypeError(f"augment is a {type(augment).__name__}, and must be called with a sample.")
        self.augment = augment
        if "auto" in (mean, std):
            if mean != std:
                raise ValueError(f"data.mean={mean} and data.std={std} must both be auto, or neither.")
            mean = std = None  # `measure_normalization` finds them
        self.mean = None if mean is None else [float(value) for value in mean]
        self.std = None if std is None else [float(value) for value in std]
        colors = default_palette(self.num_values) if palette is None else palette
        if any(len(color) != 3 for color in colors):
            raise ValueError(f"palette={[list(color) for color in colors]} must be red, green and blue of each class.")
        self.palette = [(int(red), int(green), int(blue)) for red, green, blue in colors]
        self._check_arguments()
        self.train_set: Dataset[Sample] | None = None
        self.unlabeled_set: Dataset[Any] | None = None
        self.val_set: Dataset[Sample] | None = None
        self.test_set: Dataset[Sample] | None = None

    @property
    def unlabelled_set(self) -> Dataset[Any] | None:
        """The former name of `unlabeled_set`."""
        warn_renamed("unlabelled_set", "unlabeled_set")
        return self.unlabeled_set

    @unlabelled_set.setter
    def unlabelled_set(self, dataset: Dataset[Any] | None) -> None:
        warn_renamed("unlabelled_set", "unlabeled_set")
        self.unlabeled_set = dataset

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled and augmented batches; a last, smaller one is left out unless it is the only one."""
        labeled = _compact(ready(self.train_set, "fit"))
        trainer = self.trainer
        dataset: Dataset[Any] = FewImages(
            labeled,
            repeats=self.train_repeats,
            unlabeled=ready(self.train_set, "fit") if self.unlabeled_set is None else self.unlabeled_set,
            per_image=self.unlabeled_per_image if self._requires_unlabeled() else 0,
        )
        dataset = self._with_distances(dataset)
        processes, rank, seed = 1, 0, torch.initial_seed()
        if trainer is not None:
            processes, rank, seed = trainer.world_size, trainer.global_rank, trainer.strategy.broadcast(seed)
        order = TrainingOrder(dataset, num_replicas=processes, rank=rank, seed=seed, weights=self._image_weights())
        order.skip = lambda: self._batches_done(order) * self.batch_size
        images = len(dataset) // processes  # type: ignore[arg-type]
        samples = SeededSamples(dataset, seed)
        self._check_shared_memory(samples, self.batch_size)
        if self.num_workers and isinstance(self.augment, TrainingAugmentation) and are_copies():
            begin_kernels()
        return TrainingLoader(
            samples,
            self.batch_size,
            sampler=order,
            drop_last=images >= self.batch_size,
            **self._loading(),
        )

    def val_dataloader(self) -> DataLoader[Sample]:
        """Validation images in their order."""
        return self._evaluation_loader(ready(self.val_set, "validate"))

    def test_dataloader(self) -> DataLoader[Sample]:
        """Test images in their order."""
        return self._evaluation_loader(ready(self.test_set, "test"))

    def count_training_pixels(self) -> Tensor:
        """Pixels of each mask value in each training image, int64 `(images, values)`, not augmented, without void.

        Needs `setup("fit")`. Override it where masks can be read without their images, are not label maps, or where the
        training set is augmented other than by its attribute `augment`.
        """
        dataset: Any = copy(ready(self.train_set, "fit"))
        if hasattr(dataset, "augment"):
            dataset.augment = None
        samples = (dataset[index] for index in range(len(dataset)))
        return torch.stack(
            [check_values(sample["mask"], sample["name"], self.num_values, self.ignore_index) for sample in samples]
        )

    def measure_normalization(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over the pixels of the training images, not augmented.

        It sets the data module up for `fit` if that has not been done, and keeps them as `mean` and `std`.
        """
        if self.train_set is None:
            self.prepare_data()
            self.setup("fit")
        dataset: Any = copy(ready(self.train_set, "fit"))
        if hasattr(dataset, "augment"):
            dataset.augment = None
        pixels, total, squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        for index in range(len(dataset)):
            image = dataset[index]["image"].flatten(1).double()
            pixels += image.shape[1]
            total, squares = total + image.sum(1), squares + image.square().sum(1)
        mean = total / pixels
        std = (squares / pixels - mean.square()).clamp(min=1e-12).sqrt()
        self.mean, self.std = mean.tolist(), std.tolist()
        shown = ", ".join(f"{one:.3f} ± {other:.3f}" for one, other in zip(self.mean, self.std, strict=True))
        log.info("data.mean=auto, data.std=auto: %s", shown)
        return self.mean, self.std

    def class_weights(self, estimate: str) -> list[float]:
        """One number for each class, estimated from the training masks, for the `class_weights` of a loss.

        It sets the data module up for `fit` if that has not been done.

        Args:
            estimate: `inverse_frequency`, `median_frequency` or `effective_number`, see `lightning_seg.data`.

        Raises:
            ValueError: the estimate is unknown, there is one class, or all pixels of the training masks are void.
        """
        if estimate not in ESTIMATES:
            raise ValueError(
                f"class_weights={estimate} is neither a list with one number for each class nor one of "
                f"{', '.join(ESTIMATES)}."
            )
        if self.num_classes == 1:
            raise ValueError(
                f"class_weights={estimate} balances classes against each other, and the binary task has one: leave "
                "class_weights out; loss=focal loss.gamma=0 loss.alpha=... weights foreground against background."
            )
        if self.train_set is None:
            self.prepare_data()
            self.setup("fit")
        pixels = self.count_training_pixels()
        if not pixels.any():
            raise ValueError(f"class_weights={estimate} cannot be estimated: no training mask has a pixel of a class.")
        weights = [float(weight) for weight in ESTIMATES[estimate](pixels)]
        named = dict(zip(self.class_names, weights, strict=True))
        log.info("class_weights=%s: %s", estimate, ", ".join(f"{name} {weight:.3g}" for name, weight in named.items()))
        for name in (name for name, weight in named.items() if weight == 0):
            log.warning("%s occurs in no training mask and has class weight 0.", name)
        return weights

    def _evaluation_loader(self, dataset: Dataset[Sample]) -> DataLoader[Sample]:
        samples = self._with_distances(_compact(dataset))
        self._check_shared_memory(samples, self.eval_batch_size)
        return DataLoader(samples, self.eval_batch_size, **self._loading(is_evaluation=True))

    def _check_shared_memory(self, dataset: Dataset[Any], batch_size: int) -> None:
        trainer = self.trainer
        processes = 1 if trainer is None else trainer.world_size // trainer.num_nodes
        check_shared_memory(dataset, batch_size, self.num_workers, processes)

    def _with_distances(self, dataset: Dataset[Any]) -> Dataset[Any]:
        module = self.trainer.lightning_module if self.trainer is not None else None
        loss = getattr(module, "loss", None)
        return with_distances_for(dataset, loss, self.num_classes) if self.distances else dataset

    def _loading(self, *, is_evaluation: bool = False) -> dict[str, Any]:
        """The arguments that all loaders share."""
        module = self.trainer.lightning_module if self.trainer is not None else None
        takes_integers = bool(getattr(module, "takes_integers", False))
        tile = getattr(module, "tile", None) if is_evaluation and takes_integers else None
        largest = tile if tile is None or isinstance(tile, int) else max(tile)
        return {
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
            "collate_fn": partial(collate, small_masks=takes_integers, small_above=largest),
            # Its own, so that an iteration draws nothing from the random numbers of the training.
            "generator": torch.Generator(),
        }

    def _image_weights(self) -> Tensor | None:
        if self.sampler == "shuffle":
            return None
        return image_rarity(self.count_training_pixels()).repeat(self.train_repeats)

    def _requires_unlabeled(self) -> bool:
        module = self.trainer.lightning_module if self.trainer is not None else None
        return bool(getattr(module, "requires_unlabeled", True))

    def _batches_done(self, order: TrainingOrder) -> int:
        """Batches of an epoch that a training had done before it was resumed, as its loader begins to be read."""
        trainer = self.trainer
        if trainer is None or not trainer.training:
            return 0
        is_trained_on = getattr(trainer.train_dataloader, "sampler", None) is order
        # The second, for a loader among several.
        return trainer.fit_loop.batch_idx + 1 if is_trained_on or trainer.fit_loop.epoch_loop.restarting else 0

    def _check_arguments(self) -> None:
        if len(self.class_names) != self.num_classes:
            raise ValueError(
                f"{len(self.class_names)} class_names were given for num_classes={self.num_classes}: "
                "give one for each class."
            )
        if self.ignore_index is not None and 0 <= self.ignore_index < self.num_values:
            if self.num_classes == 1:
                known = f"the mask value {self.ignore_index} of the binary task"
            else:
                known = f'class_names[{self.ignore_index}] "{self.class_names[self.ignore_index]}"'
            raise ValueError(
                f"ignore_index={self.ignore_index} is also {known}; a class cannot be both scored and ignored."
            )
        for name in ("batch_size", "eval_batch_size", "train_repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name}={getattr(self, name)}, but at least 1 is needed.")
        for name in ("num_workers", "unlabeled_per_image"):
            if getattr(self, name) < 0:
                raise ValueError(f"data.{name}={getattr(self, name)}, but it must be 0 or more.")
        if len(self.palette) < self.num_values:
            raise ValueError(
                f"the palette has {len(self.palette)} colors, but masks hold {self.num_values} values: "
                "give a color for each."
            )


def collate(samples: Sequence[Sample], small_masks: bool = False, small_above: int | None = None) -> dict[str, Any]:
    """A batch of samples, and of their `unlabeled` images.

    Args:
        samples: of one size.
        small_masks: leaves masks of uint8 as they are.
        small_above: leaves images as they lie in their files where they have more pixels along an axis, a quarter of
            the memory, for a module that takes them apart. Default: none.

    Raises:
        ValueError: images or masks differ in size.
    """
    unlabeled = [image for sample in samples for image in sample.get("unlabeled", [])]
    for part in ("image", "mask"):
        sizes: dict[tuple[int, ...], str] = {}
        for sample in samples:
            dimensions = sample["image"].ndim - 1
            sizes.setdefault(tuple(sample[part].shape[-dimensions:]), sample["name"])  # type: ignore[literal-required]
        for image in unlabeled if part == "image" else []:
            sizes.setdefault(tuple(image.shape[1:]), "an unlabeled one")
        if len(sizes) > 1:
            (one, its_name), (other, other_name) = list(sizes.items())[:2]
            sides, crop = ("(height by width)", "crop_size") if dimensions == 2 else ("(voxels)", "patch_size")
            raise ValueError(
                f"the {part}s of a batch differ in size: {its_name} is {_by(one)} and {other_name} is {_by(other)} "
                f"{sides}; set augment.{crop} for training, and data.eval_batch_size=1 for evaluation."
            )
    images = [sample["image"] for sample in samples]
    masks = _stacked([sample["mask"] for sample in samples])
    batch: dict[str, Any] = {
        "mask": masks if small_masks else masks.long(),
        "name": [sample["name"] for sample in samples],
    }
    kinds = {image.dtype for image in images}
    if small_above is not None and max(images[0].shape[1:]) > small_above and kinds in ({torch.uint8}, {torch.uint16}):
        batch |= {"image": _stacked(images), "image_top": torch.iinfo(images[0].dtype).max}
    else:
        batch["image"] = _images(images)
    if "spacing" in samples[0]:
        batch["spacing"] = torch.stack([sample["spacing"] for sample in samples])
    if "distances" in samples[0]:
        batch["distances"] = torch.stack([sample["distances"] for sample in samples])
    return {**batch, "unlabeled": _images(unlabeled)} if unlabeled else batch


def _images(images: Sequence[Tensor]) -> Tensor:
    """Images of one size, float32 `(N, channels, H, W)` in [0, 1]; each is made so where it lies in the batch."""
    batch = torch.empty((len(images), *images[0].shape))
    for place, image in zip(batch, images, strict=True):
        place.copy_(image)
        if not image.is_floating_point():
            place.div_(torch.iinfo(image.dtype).max)
    return batch


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """As `torch.stack`, but a single one is not copied."""
    return torch.stack(list(tensors)) if len(tensors) > 1 else tensors[0][None]


def are_copies() -> bool:
    """Whether the processes that load images begin as copies of this one."""
    methods = multiprocessing.get_all_start_methods()  # the default first
    return (multiprocessing.get_start_method(allow_none=True) or methods[0]) == "fork"


def augmented(sample: Sample, augment: Augment | None) -> Sample:
    """The sample after `augment`, with plain tensors."""
    if augment is None:
        return sample
    if is_albumentations(augment):
        return with_albumentations(sample, augment)
    if isinstance(augment, VolumeAugmentation):
        return augment(sample)
    if is_of_monai(augment):
        return with_monai(sample, augment)
    changed = augment(
        {"image": tv_tensors.Image(sample["image"]), "mask": tv_tensors.Mask(sample["mask"]), "name": sample["name"]}
    )
    lacking = [name for name in ("image", "mask") if not isinstance(changed, Mapping) or name not in changed]
    if lacking:
        got = f"a mapping without {lacking[0]}" if isinstance(changed, Mapping) else f"a {type(changed).__name__}"
        raise TypeError(
            f"augment, a {type(augment).__name__}, returned {got}, and it must return a mapping with image and mask."
        )
    # A tv_tensor calls Python code in each operation, which only augmentation needs.
    return {
        "image": changed["image"].as_subclass(Tensor),
        "mask": changed["mask"].as_subclass(Tensor),
        "name": sample["name"],
    }


def plain(sample: Sample) -> Sample:
    """A sample, whose image may be of integers and whose mask of uint8, with float32 and int64."""
    return {**sample, "image": in_unit_range(sample["image"]), "mask": sample["mask"].long()}


def _compact(dataset: Dataset[Sample]) -> Dataset[Sample]:
    """The data set, with samples of uint8 if it can give these."""
    if not hasattr(dataset, "is_compact"):
        return dataset
    compact: Any = copy(dataset)
    compact.is_compact = True
    return compact  # type: ignore[no-any-return]


def ready(dataset: Dataset[Sample] | None, stage: str) -> Dataset[Sample]:
    """The dataset, if `setup` has made it.

    Raises:
        RuntimeError: it has not.
    """
    if dataset is None:
        raise RuntimeError(f'this data module is not set up: call setup("{stage}") first.')
    return dataset


def _by(size: tuple[int, ...]) -> str:
    return "×".join(str(length) for length in size)
