"""What is done to each pixel of an augmented image, compiled by Numba: images `(H, W, 3)` and `(3, H, W)` of uint8.

Places are integers of 2⁻³² pixels, so that results are the same on every machine.
"""

from typing import Any

import numpy as np

from lightning_seg.losses.engine.numba_cache import compiled, part

_UNSIGNED, _SMALL = np.uint64, np.int32


@part(set())
def _clamped(place: int, length: int) -> Any:
    """The pixel at a place or before it, the next one, and how far the place lies between, of 256."""
    inside = min(max(place, 0), (length - 1) << 32)
    first = inside >> 32
    return first, min(first + 1, length - 1), _SMALL((inside >> 24) & 255)


@part(set())
def _between(upper_left: Any, upper_right: Any, lower_left: Any, lower_right: Any, right: Any, down: Any) -> Any:
    upper = (_SMALL(upper_left) << _SMALL(8)) + right * (_SMALL(upper_right) - _SMALL(upper_left))
    lower = (_SMALL(lower_left) << _SMALL(8)) + right * (_SMALL(lower_right) - _SMALL(lower_left))
    return ((upper << _SMALL(8)) + down * (lower - upper) + _SMALL(2**15)) >> _SMALL(16)


@compiled(set())
def sample_colors(source: Any, places: Any, is_void_outside: bool, made: Any) -> None:
    """Bilinear.

    Args:
        source: `(H, W, 3)`, contiguous.
        places: int64 `(6,)`: that of column x and row y is `(p₀x + p₁y + p₂, p₃x + p₄y + p₅)`, column and row.
        is_void_outside: black there, half a pixel beyond the outermost. Otherwise these are repeated.
        made: `(3, h, w)`, written to.
    """
    height, width = source.shape[:2]
    pixels = source.reshape(-1)
    row_length = _UNSIGNED(3 * width)
    last_column, last_row = (width - 1) << 32, (height - 1) << 32
    half = 1 << 31
    for y in range(made.shape[1]):
        column, row = places[1] * y + places[2], places[4] * y + places[5]
        for x in range(made.shape[2]):
            if 0 <= column < last_column and 0 <= row < last_row:
                right, down = _SMALL((column >> 24) & 255), _SMALL((row >> 24) & 255)
                # Unsigned, so that Numba does not ask whether to count from the end.
                upper = _UNSIGNED(row >> 32) * row_length + _UNSIGNED(column >> 32) * _UNSIGNED(3)
                upper_right = upper + _UNSIGNED(3)
                lower = upper + row_length
                lower_right = lower + _UNSIGNED(3)
                for channel in range(3):
                    next_ = _UNSIGNED(channel)
                    made[channel, y, x] = _between(
                        pixels[upper + next_],
                        pixels[upper_right + next_],
                        pixels[lower + next_],
                        pixels[lower_right + next_],
                        right,
                        down,
                    )
            elif is_void_outside and not (-half <= column < last_column + half and -half <= row < last_row + half):
                for channel in range(3):
                    made[channel, y, x] = 0
            else:
                left_one, right_one, right = _clamped(column, width)
                upper_one, lower_one, down = _clamped(row, height)
                for channel in range(3):
                    made[channel, y, x] = _between(
                        source[upper_one, left_one, channel],
                        source[upper_one, right_one, channel],
                        source[lower_one, left_one, channel],
                        source[lower_one, right_one, channel],
                        right,
                        down,
                    )
            column += places[0]
            row += places[3]


@compiled(set())
def sample_labels(source: Any, places: Any, is_void_outside: bool, void: int, made: Any) -> None:
    """The nearest.

    Args:
        source: `(H, W)`, contiguous, of any integers.
        places: see `sample_colors`.
        is_void_outside: whether what lies outside is `void`. Otherwise the outermost are repeated.
        void: see there.
        made: `(h, w)`, written to.
    """
    height, width = source.shape
    labels = source.reshape(-1)
    half = 1 << 31
    for y in range(made.shape[0]):
        column, row = places[1] * y + places[2] + half, places[4] * y + places[5] + half
        line = made[y]
        for x in range(made.shape[1]):
            at_column, at_row = column >> 32, row >> 32
            if not is_void_outside:
                at_column, at_row = min(max(at_column, 0), width - 1), min(max(at_row, 0), height - 1)
            if _UNSIGNED(at_column) < _UNSIGNED(width) and _UNSIGNED(at_row) < _UNSIGNED(height):
                line[x] = labels[_UNSIGNED(at_row) * _UNSIGNED(width) + _UNSIGNED(at_column)]
            else:
                line[x] = void
            column += places[0]
            row += places[3]


@part(set())
def _mixed(red: Any, green: Any, blue: Any, shares: Any) -> Any:
    value = shares[0] * red + shares[1] * green + shares[2] * blue + shares[3]
    return np.uint8(_SMALL(min(max(value + np.float32(0.5), np.float32(0)), np.float32(255))))


@compiled(set())
def mix_colors(source: Any, to_red: Any, to_green: Any, to_blue: Any, made: Any) -> None:
    """Each color as a mixture of three and a constant, rounded and clipped.

    Args:
        source: `(3, N)`, contiguous.
        to_red: four float32, in a tuple, by which LLVM knows that they do not change: shares of each color, and what
            is added.
        to_green: likewise.
        to_blue: likewise.
        made: `(3, N)`, written to.
    """
    red, green, blue = source[0], source[1], source[2]
    new_red, new_green, new_blue = made[0], made[1], made[2]
    for x in range(len(red)):
        one, two, three = np.float32(red[x]), np.float32(green[x]), np.float32(blue[x])
        new_red[x] = _mixed(one, two, three, to_red)
        new_green[x] = _mixed(one, two, three, to_green)
        new_blue[x] = _mixed(one, two, three, to_blue)
