"""The networks of segmentation-models-pytorch, for images of any size."""

from difflib import get_close_matches
from functools import partial
from typing import Any

from lightning_seg.backbones.stride import PadToStride


def segmentation_model(
    architecture: str,
    *,
    encoder_name: str,
    encoder_weights: str | None,
    in_channels: int,
    classes: int,
    **options: Any,
) -> PadToStride:
    """A network of segmentation-models-pytorch that takes images of any size.

    Args:
        architecture: for example `Unet`, `FPN`, `DeepLabV3Plus`, `Segformer`; `DPT` for vision transformers
            (`tu-vit_*`, DINOv2 and DINOv3 of timm), which take images of any size here.
        encoder_name: one of its encoders, for example `resnet34`, or `tu-<name>` for any timm model.
        encoder_weights: the name of pretrained weights, for example `imagenet`, or None.
        in_channels: channels of the image.
        classes: channels of the logits.
        **options: passed to the architecture, for example `decoder_channels`.

    Raises:
        ValueError: an activation is given, or the architecture or encoder does not exist; the message lists what does.
    """
    if options.get("activation") not in (None, "identity"):
        raise ValueError(
            f"backbone.activation={options['activation']} would change the logits, of which losses and metrics take "
            "softmax or sigmoid themselves: leave it out."
        )
    import segmentation_models_pytorch as smp  # here: it takes seconds, and a network of one's own needs none of it

    architectures = sorted(network.__name__ for network in smp.MODEL_ARCHITECTURES_MAPPING.values())
    if architecture not in architectures:
        raise ValueError(f"architecture={architecture!r} does not exist; there are {', '.join(architectures)}.")
    if not encoder_name.startswith("tu-") and encoder_name not in smp.encoders.encoders:
        encoders = sorted(smp.encoders.encoders)
        near = get_close_matches(encoder_name, encoders, n=1)
        meant = f"; did you mean {near[0]}?" if near else ";"
        raise ValueError(
            f"encoder_name={encoder_name!r} does not exist{meant} there are {', '.join(encoders)}, and tu-<name> for "
            "every timm model."
        )
    build = partial(
        smp.create_model,
        architecture,
        encoder_name=encoder_name,
        encoder_weights=encoder_weights,
        in_channels=in_channels,
        classes=classes,
    )
    if architecture != "DPT":
        network = build(**options)
        return PadToStride(network, stride=network.encoder.output_stride)
    try:
        network = build(**{"dynamic_img_size": True, **options})  # else a vision transformer takes one size
    except TypeError as error:
        if "dynamic_img_size" not in str(error):
            raise
        network = build(**options)
    strides = network.encoder.output_strides
    # The decoder halves the one resolution that all blocks of a vision transformer have.
    return PadToStride(network, stride=strides[-1] * (2 if strides[0] == strides[-1] else 1))
