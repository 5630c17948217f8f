"""How fast images are loaded, by stage, beside torchvision and albumentations: `python -m tests.benchmarks.data`.

Images of the size of CamVid (360×480, whole) and of Cityscapes (2048×1024, crops of 512), drawn for it or, with
`--camvid FOLDER`, CamVid's own; JPEG images and PNG masks, one thread a process, images a second, the best of three.
Last, crops of 512 of files of 4096×4096 that can be read in parts, as parts and as wholes.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.io import decode_image
from torchvision.transforms import v2
from torchvision.tv_tensors import Image as ImageTensor
from torchvision.tv_tensors import Mask

from lightning_seg.data import FolderDataModule, training_augmentation
from lightning_seg.data.datamodule import collate

CHANGES: dict[str, dict[str, Any]] = {
    "none": {},
    "light": {"scale": (0.75, 1.5), "horizontal_flip": 0.5, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2},
    "strong": {
        **{"scale": (0.5, 2.0), "rotation": 15, "horizontal_flip": 0.5, "brightness": 0.4, "contrast": 0.4},
        **{"saturation": 0.4, "hue": 0.1, "blur": 0.2},
    },
}
NOTHING = dict.fromkeys(
    ("rotation", "horizontal_flip", "vertical_flip", "brightness", "contrast", "saturation", "hue", "blur"), 0.0
)


def write_images(root: Path, count: int, height: int, width: int) -> None:
    """Smooth pictures, whose JPEG files are about as large as those of photographs, and masks of 12 values."""
    random = np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / "train" / part).mkdir(parents=True)
        (root / "val" / part).mkdir(parents=True)
    for index in range(count):
        split = "val" if index == 0 else "train"
        coarse = Image.fromarray(random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8))
        picture = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        noisy = (picture + random.normal(0, 6, picture.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(root / split / "images" / f"{index}.jpg", quality=90)
        labels = Image.fromarray(random.integers(0, 12, (height // 40, width // 40), dtype=np.uint8))
        labels.resize((width, height), Image.Resampling.NEAREST).save(root / split / "masks" / f"{index}.png")


def ours(root: Path, change: str, crop: int | None, workers: int) -> DataLoader[Any]:
    """The package's training loader."""
    augment = None
    if CHANGES[change] or crop:
        options = {**NOTHING, "scale": (1, 1), **CHANGES[change]}
        augment = training_augmentation(crop_size=crop, ignore_index=255, **options)
    data = FolderDataModule(
        root,
        num_classes=12,
        val_fraction=0.1,
        test_fraction=0,
        seed=0,
        batch_size=4,
        ignore_index=255,
        num_workers=workers,
        augment=augment,
    )
    data.setup("fit")
    return data.train_dataloader()


class Plain(Dataset[Any]):
    """What one would write in ten lines: torchvision's decoders, and its or albumentations' transforms."""

    def __init__(self, root: Path, transform: Callable[..., Any] | None, *, numpy: bool) -> None:
        self.images = sorted((root / "train" / "images").iterdir())
        self.masks = sorted((root / "train" / "masks").iterdir())
        self.transform = transform
        self.numpy = numpy

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self.numpy:
            image, mask = np.asarray(Image.open(self.images[index])), np.asarray(Image.open(self.masks[index]))
            if self.transform is not None:
                changed = self.transform(image=image, mask=mask)
                image, mask = changed["image"], changed["mask"]
            return torch.from_numpy(np.array(image)).movedim(-1, 0).float() / 255, torch.from_numpy(
                np.array(mask)
            ).long()
        pixels, labels = decode_image(str(self.images[index])), decode_image(str(self.masks[index]))[0]
        if self.transform is not None:
            pixels, labels = self.transform(ImageTensor(pixels), Mask(labels))
            pixels, labels = pixels.as_subclass(torch.Tensor), labels.as_subclass(torch.Tensor)
        return pixels.float() / 255, labels.long()


def torchvision_transform(change: str, crop: int | None) -> Callable[..., Any] | None:
    """The same changes, in torchvision's own classes, in the usual order."""
    options = CHANGES[change]
    steps: list[Any] = []
    fill = {ImageTensor: 0, Mask: 255}
    if "scale" in options:
        bilinear = v2.InterpolationMode.BILINEAR
        steps.append(
            v2.RandomAffine(options.get("rotation", 0), scale=options["scale"], interpolation=bilinear, fill=fill)
        )
    if crop:
        steps.append(v2.RandomCrop(crop, pad_if_needed=True, fill=fill))
    if options:
        jitter = [options.get(name, 0) for name in ("brightness", "contrast", "saturation", "hue")]
        steps += [v2.RandomHorizontalFlip(0.5), v2.ColorJitter(*jitter)]
    if "blur" in options:
        steps.append(v2.RandomApply([v2.GaussianBlur(5, (0.1, 1.5))], options["blur"]))
    return v2.Compose(steps) if steps else None


def albumentations_transform(change: str, crop: int | None) -> Callable[..., Any] | None:
    """The same changes, of albumentations; None if there are none, or it is not installed."""
    import albumentations

    options = CHANGES[change]
    steps: list[Any] = []
    if "scale" in options:
        rotation = options.get("rotation", 0)
        steps.append(albumentations.Affine(scale=options["scale"], rotate=(-rotation, rotation), fill_mask=255, p=1))
    if crop:
        steps.append(albumentations.RandomCrop(crop, crop, pad_if_needed=True, fill_mask=255))
    if options:
        strength = [options.get(name, 0) for name in ("brightness", "contrast", "saturation", "hue")]
        steps += [albumentations.HorizontalFlip(p=0.5), albumentations.ColorJitter(*strength, p=1)]
    if "blur" in options:
        steps.append(albumentations.GaussianBlur(blur_limit=5, p=options["blur"]))
    return albumentations.Compose(steps) if steps else None


def speed(loader: DataLoader[Any], repeats: int = 3) -> float:
    """Images a second over an epoch, the best of several after one; without workers of the process's own time.

    That of a busy machine is its own, too.
    """
    clock = time.perf_counter if loader.num_workers else time.process_time
    best = 0.0
    for attempt in range(repeats + 1):
        start, images = clock(), 0
        for batch in loader:
            images += len(batch["image"] if isinstance(batch, dict) else batch[0])
        best = max(best, images / (clock() - start) if attempt else 0.0)
    return best


def stages(root: Path, crop: int | None) -> dict[str, float]:
    """Milliseconds an image of each stage of ours, with strong changes."""
    loader = ours(root, "strong", crop, 0)
    dataset: Any = loader.dataset.dataset.dataset  # type: ignore[attr-defined]
    augment = dataset.augment
    samples: list[Any] = []

    def took(work: Callable[[int], Any]) -> float:
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            for index in range(len(dataset)):
                work(index)
            best = min(best, (time.process_time() - start) / len(dataset) * 1000)
        return best

    found = {
        "read": took(lambda index: (dataset.pairs[index].image.read_bytes(), dataset.pairs[index].mask.read_bytes()))
    }
    dataset.augment = None
    found["read and decode"] = took(lambda index: dataset[index])
    dataset.augment = training_augmentation(crop_size=crop, ignore_index=255, scale=(1, 1), **NOTHING) if crop else None
    found["… and crop"] = took(lambda index: dataset[index])
    dataset.augment = augment
    found["… and augment"] = took(lambda index: dataset[index])
    samples = [dataset[index] for index in range(4)]
    found["collate"] = took(lambda index: collate(samples) if index % 4 == 0 else None)
    return found


def write_parts(root: Path, kind: str, side: int, count: int = 4) -> None:
    """Smooth pictures and masks of 12 values as TIFF, in tiles or uncompressed, or as arrays."""
    import tifffile

    random = np.random.default_rng(0)
    (root / "images").mkdir()
    (root / "masks").mkdir()
    for index in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (side // 16, side // 16, 3), dtype=np.uint8))
        picture = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
        labels = random.integers(0, 12, (side // 64, side // 64), dtype=np.uint8).repeat(64, 0).repeat(64, 1)
        for part, pixels in (("images", picture), ("masks", labels)):
            if kind == "arrays":
                np.save(root / part / f"{index}.npy", pixels)
            else:
                stored: dict[str, Any] = {"tile": (256, 256), "compression": "zlib"} if kind == "tiles" else {}
                color = "rgb" if pixels.ndim == 3 else "minisblack"
                tifffile.imwrite(root / part / f"{index}.tif", pixels, photometric=color, **stored)


def of_parts(side: int = 4096, crop: int = 512) -> None:
    """Crops a second of files that are read in parts, and as wholes."""
    print(f"\n{side}×{side}, crops of {crop}: images a second of a file read in parts, and as a whole")
    for kind in ("tiles", "uncompressed", "arrays"):
        with tempfile.TemporaryDirectory() as folder:
            write_parts(Path(folder), kind, side)
            loader = ours(Path(folder), "light", crop, 0)
            parts = speed(loader)
            with patch("lightning_seg.data.folder_dataset.has_parts", lambda path: False):
                whole = speed(loader)
            print(f"{kind:24}{parts:>8.1f}{whole:>13.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--camvid", type=Path, help="a folder with train/ and val/, instead of drawn images")
    parser.add_argument("--images", type=int, default=33)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for title, height, width, crop in (("360×480", 360, 480, None), ("1024×2048, crops of 512", 1024, 2048, 512)):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            if arguments.camvid and crop is None:
                root = arguments.camvid
            else:
                write_images(root, arguments.images, height, width)
            print(f"\n{title}: milliseconds an image, by stage")
            print(", ".join(f"{name} {value:.1f}" for name, value in stages(root, crop).items()))
            print(f"{'images a second':24}{'workers':>8}{'ours':>8}{'torchvision':>13}{'albumentations':>16}")
            for change in CHANGES:
                for workers in arguments.workers:
                    plain = [
                        DataLoader(Plain(root, make(change, crop), numpy=numpy), 4, num_workers=workers, drop_last=True)
                        for make, numpy in ((torchvision_transform, False), (albumentations_transform, True))
                    ]
                    figures = [speed(loader) for loader in (ours(root, change, crop, workers), *plain)]
                    print(
                        f"{change:24}{workers:>8}{figures[0]:>8.0f}{figures[1]:>13.0f}{figures[2]:>16.0f}", flush=True
                    )
    of_parts()


if __name__ == "__main__":
    main()
