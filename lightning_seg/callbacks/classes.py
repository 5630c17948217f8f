"""How callbacks call and color the classes."""

from collections.abc import Sequence

from lightning.pytorch import LightningModule, Trainer

from lightning_seg.data.palette import default_palette
from lightning_seg.data.protocol import ColorsClasses, NamesClasses

Palette = list[tuple[int, int, int]]


def void_for(module: LightningModule, given: int | None) -> int | None:
    """The mask value of void pixels that a callback was given, else that of the module."""
    void: int | None = getattr(module, "ignore_index", None) if given is None else given
    return void


def class_names_for(trainer: Trainer, module: LightningModule, given: Sequence[str] | None) -> list[str]:
    """The names that a callback was given, else those of the module, else those of the data module.

    Those of the data module come first if there are not as many, as with a module that predicts more than masks hold.

    Raises:
        ValueError: none of them has any.
    """
    own, of_data = (part.class_names if isinstance(part, NamesClasses) else None for part in (module, _data(trainer)))
    if own is None or (of_data is not None and len(own) != len(of_data)):
        own = of_data
    names = own if given is None else given
    if names is None:
        raise ValueError(
            f"neither {type(module).__name__} nor its data module has class_names: give them to the callback."
        )
    return [str(name) for name in names]


def palette_for(trainer: Trainer, class_names: Sequence[str], given: Sequence[Sequence[int]] | None) -> Palette:
    """The colors that a callback was given, else those of the data module, else PASCAL VOC's, one each mask value.

    Raises:
        ValueError: there are not as many as mask values, which are the classes, and in the binary task the background.
    """
    values = max(len(class_names), 2)
    data = _data(trainer)
    if given is None:
        given = data.palette[:values] if isinstance(data, ColorsClasses) else default_palette(values)
    if len(given) != values:
        raise ValueError(f"the palette has {len(given)} colors for {values} mask values: give one for each.")
    return [(int(red), int(green), int(blue)) for red, green, blue in given]


def _data(trainer: Trainer) -> object:
    return getattr(trainer, "datamodule", None)
