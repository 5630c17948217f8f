import pytest
import torch
from torch import Tensor

from lightning_seg.losses.engine.error_bins import MARGIN_BINS, PROBABILITY_BINS, ErrorBins, ErrorHistogram

BINS = {"probability": PROBABILITY_BINS, "margin": MARGIN_BINS}


def lower_edges(bins: ErrorBins) -> Tensor:
    """2ᵐ bins of one width in each octave of 1 + e, and the largest error."""
    fractions = torch.arange(2**bins.mantissa_bits, dtype=torch.float64) / 2**bins.mantissa_bits
    edges = [2.0**octave * (1 + fractions) - 1 for octave in range(bins.octaves)]
    return torch.cat([*edges, torch.tensor([2.0**bins.octaves - 1], dtype=torch.float64)])


def random_errors(bins: ErrorBins, dtype: torch.dtype, count: int = 1000) -> Tensor:
    """Errors of all octaves, with ties, zeros and edges."""
    torch.manual_seed(0)
    errors = torch.exp2(torch.rand(count, dtype=torch.float64) * bins.octaves) - 1
    errors[:50] = errors[50:100]
    errors[100:110] = 0
    errors[110:150] = lower_edges(bins)[torch.randint(0, bins.count, (40,))]
    return errors.to(dtype)


def add_up(bins: ErrorBins, errors: Tensor, pixels: int) -> ErrorHistogram:
    histogram = ErrorHistogram(bins, (), errors, pixels)
    histogram.packed.scatter_add_(0, *histogram.index_and_value(errors.clone()))
    return histogram


def by_hand(bins: ErrorBins, errors: Tensor) -> tuple[Tensor, Tensor]:
    """Counts and sums by torch.histogram, of the errors as 1 + e holds them."""
    rounded = (errors + 1).double() - 1
    edges = torch.cat([lower_edges(bins), torch.tensor([torch.inf], dtype=torch.float64)])
    index = torch.bucketize(rounded, edges, right=True) - 1
    counts = torch.bincount(index, minlength=bins.count)
    return counts, torch.zeros(bins.count, dtype=torch.float64).scatter_add_(0, index, rounded)


@pytest.mark.parametrize("name", BINS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_counts_and_sums_are_those_found_by_comparing_with_the_edges(name, dtype):
    bins = BINS[name]
    errors = random_errors(bins, dtype)
    counts, sums = add_up(bins, errors, len(errors)).read()
    expected_counts, expected_sums = by_hand(bins, errors)
    assert torch.equal(counts, expected_counts)
    torch.testing.assert_close(sums, expected_sums, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_probability_bins_are_of_equal_width_as_those_of_histc(dtype):
    errors = random_errors(PROBABILITY_BINS, dtype)
    counts, _ = add_up(PROBABILITY_BINS, errors, len(errors)).read()
    expected = torch.histc((errors + 1).double() - 1, bins=2**12, min=0, max=1)
    counts[-2] += counts[-1]  # histc has the error 1 in the last bin
    assert torch.equal(counts[:-1], expected.long())


@pytest.mark.parametrize("name", BINS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_larger_errors_count_as_the_largest(name, dtype):
    bins = BINS[name]
    largest = 2.0**bins.octaves - 1
    errors = torch.tensor([largest, largest + 1, 1e9, torch.inf], dtype=dtype)
    counts, sums = add_up(bins, errors, 4).read()
    assert counts[-1] == counts.sum() == 4
    assert sums[-1] == sums.sum() == 4 * largest


@pytest.mark.parametrize("name", BINS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parts_add_up_to_the_whole_without_rounding_in_any_order(name, dtype):
    bins = BINS[name]
    errors = random_errors(bins, dtype)
    whole = add_up(bins, errors, 1000).packed
    assert torch.equal(whole, add_up(bins, errors[:300], 1000).packed + add_up(bins, errors[300:], 1000).packed)
    assert torch.equal(whole, add_up(bins, errors.flip(0), 1000).packed)


@pytest.mark.parametrize("name", BINS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pixels", [2**20, 2**24, 2**27, 2**28, 2**30])
def test_of_many_pixels_counts_stay_exact_and_sums_lose_half_of_the_last_bit_kept(name, dtype, pixels):
    bins = BINS[name]
    kept = bins.kept(dtype, pixels)
    assert kept == min(bins.cut(dtype), 63 - 2 * pixels.bit_length())
    errors = random_errors(bins, dtype)
    counts, sums = add_up(bins, errors, pixels).read()
    expected_counts, expected_sums = by_hand(bins, errors)
    assert torch.equal(counts, expected_counts)
    lower = lower_edges(bins)
    width = torch.cat([lower.diff(), lower.new_tensor([2.0 ** (bins.octaves - bins.mantissa_bits)])])
    bound = counts * width * 2.0**-kept / 2
    assert ((sums - expected_sums).abs() <= bound + 1e-11 * expected_sums).all()


@pytest.mark.parametrize("name", BINS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_fullest_bin_holds_as_many_pixels_as_were_named(name, dtype):
    bins, pixels = BINS[name], 2**28 - 1
    # The largest place in a bin, as often as there are pixels: what is added to its integer, without making them all.
    edge = torch.tensor([2.0**-bins.mantissa_bits], dtype=torch.float64)
    error = (edge - torch.finfo(dtype).eps).to(dtype)
    histogram = ErrorHistogram(bins, (), error, pixels)
    index, value = histogram.index_and_value(error.clone())
    assert index == 0
    assert value.item() * pixels < 2**63
    histogram.packed[0] = value * pixels
    counts, sums = histogram.read()
    assert counts[0] == pixels
    assert sums[0].item() == pytest.approx(pixels * error.item(), rel=2.0**-histogram.kept)
