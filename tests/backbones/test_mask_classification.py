"""Semantic logits from queries, against the sum that they are the logarithm of."""

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from lightning_seg.backbones import MaskClassification, logits_at_size, mask_classification_logits


def queries(scale: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    classes = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    return scale * classes, scale * torch.randn(2, 5, 3, 6, generator=generator, dtype=torch.float64)


def test_logits_are_the_logarithm_of_what_all_queries_say_of_a_pixel():
    classes, masks = queries()
    expected = torch.zeros(2, 3, 3, 6, dtype=torch.float64)
    for n, q, c in torch.cartesian_prod(torch.arange(2), torch.arange(5), torch.arange(3)).tolist():
        expected[n, c] += classes[n, q].softmax(0)[c] * masks[n, q].sigmoid()
    torch.testing.assert_close(mask_classification_logits(classes, masks), expected.log())


def test_pixels_that_all_masks_leave_out_have_finite_logits_and_gradients():
    classes, masks = (tensor.float().requires_grad_() for tensor in queries(scale=300.0))
    logits = mask_classification_logits(classes, masks - 1000)
    assert logits.isfinite().all()
    logits.logsumexp(1).sum().backward()
    assert classes.grad.isfinite().all()
    assert masks.grad.isfinite().all()


def test_half_precision_is_computed_in_float32():
    classes, masks = (tensor.half() for tensor in queries())
    logits = mask_classification_logits(classes, masks)
    torch.testing.assert_close(logits, mask_classification_logits(classes.float(), masks.float()))


def test_a_network_of_queries_becomes_a_network_of_pixels():
    class Queries(nn.Module):
        def forward(self, image: Tensor) -> SimpleNamespace:
            classes, masks = queries()
            return SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)

    output = MaskClassification(Queries())(torch.rand(2, 3, 12, 24))
    torch.testing.assert_close(output, mask_classification_logits(*queries()))
    assert logits_at_size(output, (12, 24)).shape == (2, 3, 12, 24)
