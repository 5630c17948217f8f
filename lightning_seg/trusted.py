"""What a file may build, as lists: by role, the classes of one kind from one package, and functions by their names."""

import inspect
import re
from dataclasses import dataclass
from typing import Any, Literal

from lightning.pytorch import LightningDataModule
from torch import nn
from torchvision.transforms import v2

from lightning_seg.backbones.monai_models import FROM_VALUES
from lightning_seg.backbones.transformers_models import SEGMENTS
from lightning_seg.losses import LinearWeight
from lightning_seg.module import SegmentationModule

Role = Literal["module", "network", "loss", "schedule", "data", "transform", "part"]


@dataclass(frozen=True)
class Source:
    """Classes that may be built: of one kind, from one package.

    Attributes:
        written: the package, as names are written: `torch.nn` allows `torch.nn.Conv2d`.
        defined: where its classes are defined, and may be written too: `torch.nn.modules.conv.Conv2d`.
        kind: what they are subclasses of.
        names: these only; None for all.
        without: modules of `defined` that are left out.
    """

    written: str
    defined: str
    kind: type
    names: frozenset[str] | None = None
    without: tuple[str, ...] = ()


_MONAI_LOSSES = frozenset(
    {
        *("AsymmetricUnifiedFocalLoss", "Dice", "DiceCELoss", "DiceFocalLoss", "DiceLoss", "FocalLoss"),
        *("GeneralizedDiceFocalLoss", "GeneralizedDiceLoss", "HausdorffDTLoss", "LogHausdorffDTLoss"),
        *("SSIMLoss", "SoftDiceclDiceLoss", "SoftclDiceLoss", "TverskyLoss"),
    }
)
# Of the networks of transformers that segment, and of those that may be within them.
_CONFIGURATIONS = frozenset(
    {
        *(f"{re.split('For(?:Sem|Univ|Inst)', name)[0]}Config" for name in SEGMENTS),
        *("BitConfig", "ConvNextConfig", "ConvNextV2Config", "DetrConfig", "Dinov2Config", "DINOv3ConvNextConfig"),
        *("DINOv3ViTConfig", "FocalNetConfig", "HieraConfig", "PvtV2Config", "ResNetConfig", "SwinConfig"),
        *("Swinv2Config", "TimmBackboneConfig"),
    }
)

# MONAI has losses that run code from torch.hub, and networks that load weights as they are made: hence by name.
# Configurations of transformers can name a repository, which is refused below.
# Of torch.nn, an encoder or decoder of transformers copies what it is given as often as it is told; of torchvision,
# feature_extraction makes modules of code.
CLASSES: dict[Role, tuple[Source, ...]] = {
    "module": (
        Source("lightning_seg", "lightning_seg.module", SegmentationModule),
        Source("lightning_seg", "lightning_seg.consistency", SegmentationModule),
    ),
    "network": (
        Source("lightning_seg.backbones", "lightning_seg.backbones", nn.Module),
        Source("torch.nn", "torch.nn.modules", nn.Module, without=("torch.nn.modules.transformer",)),
        Source(
            "torchvision.models", "torchvision.models", nn.Module, without=("torchvision.models.feature_extraction",)
        ),
        Source("segmentation_models_pytorch", "segmentation_models_pytorch.decoders", nn.Module),
        Source("monai.networks.nets", "monai.networks.nets", nn.Module, FROM_VALUES),
        Source("transformers", "transformers.models", nn.Module, SEGMENTS),
        Source("transformers", "transformers.models", object, _CONFIGURATIONS),
    ),
    "loss": (
        Source("lightning_seg.losses", "lightning_seg.losses", nn.Module),
        Source("torch.nn", "torch.nn.modules.loss", nn.Module),
        Source("segmentation_models_pytorch.losses", "segmentation_models_pytorch.losses", nn.Module),
        Source("monai.losses", "monai.losses", nn.Module, _MONAI_LOSSES),
    ),
    "schedule": (Source("lightning_seg.losses", "lightning_seg.losses.compound.weight_schedule", LinearWeight),),
    "data": (Source("lightning_seg.data", "lightning_seg.data", LightningDataModule),),
    "transform": (Source("torchvision.transforms.v2", "torchvision.transforms.v2", v2.Transform),),
}

_SEGMENTATION = "torchvision.models.segmentation"
FUNCTIONS: dict[Role, frozenset[str]] = {
    "network": frozenset(
        {
            "lightning_seg.backbones.segmentation_model",
            "lightning_seg.backbones.segmentation_models.segmentation_model",
            *(
                f"lightning_seg.backbones.{module}{name}"
                for name in ("timm_model", "torchvision_model", "transformers_model", "monai_model")
                for module in ("", f"{name}s.")
            ),
            *(f"{_SEGMENTATION}.fcn_{body}" for body in ("resnet50", "resnet101")),
            *(f"{_SEGMENTATION}.deeplabv3_{body}" for body in ("resnet50", "resnet101", "mobilenet_v3_large")),
            f"{_SEGMENTATION}.lraspp_mobilenet_v3_large",
        }
    ),
    "transform": frozenset(
        {
            *("lightning_seg.data.training_augmentation", "lightning_seg.data.augment.training_augmentation"),
            *("lightning_seg.data.volume_augmentation", "lightning_seg.data.volume_augment.volume_augmentation"),
        }
    ),
}


def is_of(found: Any, classes: Source) -> bool:
    """Whether something is one of the classes that a source allows."""
    return (
        inspect.isclass(found)
        and issubclass(found, classes.kind)
        and not inspect.isabstract(found)
        and found.__name__ == found.__qualname__
        and not found.__name__.startswith("_")
        and is_below(found.__module__, classes.defined)
        and not any(is_below(found.__module__, module) for module in classes.without)
    )


def is_below(name: str, package: str) -> bool:
    """Whether a dotted name is a package's own or of what is in it."""
    return f"{name}.".startswith(f"{package}.")
