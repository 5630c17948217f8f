"""The pretrained part of a network."""

from torch import nn


def find_encoder(backbone: nn.Module) -> nn.Module:
    """The part that pretrained weights are loaded into.

    Args:
        backbone: any segmentation network.

    Returns:
        The outermost submodule called `encoder`, else the innermost one called `backbone`.

    Raises:
        ValueError: there is neither.
    """
    named: dict[str, nn.Module] = dict(backbone.named_modules())
    encoders = [name for name in named if name.split(".")[-1] == "encoder"]
    if encoders:
        return named[min(encoders, key=len)]
    bodies = [name for name in named if name.split(".")[-1] == "backbone"]
    if bodies:
        return named[max(bodies, key=len)]
    raise ValueError(
        f"{type(backbone).__name__} has no submodule called `encoder` or `backbone`: set "
        "encoder_learning_rate_factor to 1, or override SegmentationModule.parameter_groups."
    )
