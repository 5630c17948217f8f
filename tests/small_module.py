"""A small module, images and a quiet trainer, for tests of the module."""

import lightning
import torch
from torch import nn

from lightning_seg.losses import CrossEntropyLoss
from lightning_seg.module import SegmentationModule

VOID = 255
CLASSES = ["sky", "road", "tree"]


class Network(nn.Module):
    """An `encoder` and a head, and whatever form of output."""

    def __init__(self, wrap=lambda logits: logits, classes=3, stride=1):
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 3, stride=stride, padding=1)
        self.head = nn.Conv2d(4, classes, 1)
        self.wrap = wrap

    def forward(self, image):
        return self.wrap(self.head(self.encoder(image)))


def build(backbone=None, loss=None, **arguments):
    settings = {"num_classes": 3, "ignore_index": VOID, "class_names": CLASSES} | arguments
    loss = CrossEntropyLoss(ignore_index=VOID) if loss is None else loss
    return SegmentationModule(Network() if backbone is None else backbone, loss, **settings)


def images(count, as_pair=False):
    """Random images of 6 x 8, the n-th of which has n rows of void."""
    rows = []
    for index in range(count):
        mask = torch.randint(0, 3, (6, 8))
        mask[:index] = VOID
        image = torch.rand(3, 6, 8)
        rows.append((image, mask) if as_pair else {"image": image, "mask": mask, "name": str(index)})
    return rows


def trainer(**arguments):
    settings = {"max_epochs": 1, "num_sanity_val_steps": 0} | arguments
    return lightning.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
