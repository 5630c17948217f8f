"""Networks that predict masks with a class each, as networks that label pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MaskClassification(nn.Module):
    """Logits of pixels from a network of queries, such as MaskFormer, Mask2Former, EoMT and OneFormer of transformers.

        logits_c = log Σ_q p(c | q) · σ(mask_q)        p: softmax over the classes and "no object", which is left out

    This is how these networks segment at inference (Cheng et al. 2021, https://arxiv.org/abs/2107.06278). Trained with
    a loss of pixels it is not trained with their own loss, which matches queries to segments.

    Args:
        backbone: a network whose output has `class_queries_logits` (N, queries, C + 1), the last for "no object", and
            `masks_queries_logits` (N, queries, H', W').
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> Tensor:
        """Logits `(N, C, H', W')` of images `(N, channels, H, W)`."""
        output = self.backbone(image)
        return mask_classification_logits(output.class_queries_logits, output.masks_queries_logits)


def mask_classification_logits(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """The formula of `MaskClassification`.

    Args:
        class_logits: `(N, queries, C + 1)`.
        mask_logits: `(N, queries, *spatial)`.

    Returns:
        `(N, C, *spatial)`, float32 or float64.
    """
    p = class_logits.to(torch.promote_types(class_logits.dtype, torch.float32)).softmax(-1)[..., :-1]
    log_mask = F.logsigmoid(mask_logits.to(p.dtype))
    highest = log_mask.amax(1, keepdim=True).detach()  # a pixel that all masks leave out has a logarithm all the same
    scores = torch.einsum("nqc,nq...->nc...", p, (log_mask - highest).exp())
    return scores.clamp_min(torch.finfo(p.dtype).tiny).log() + highest
