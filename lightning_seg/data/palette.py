"""Colors of the classes in pictures and index masks."""

_MOST = 2**16


def default_palette(count: int) -> list[tuple[int, int, int]]:
    """The first `count` colors of PASCAL VOC's color map; the first is black.

    The bits of an index are dealt in turn to red, green and blue, highest bit of the color first, so that all
    colors differ.

    Args:
        count: 0 to 65536, what a PNG of 16 bits can hold.

    Raises:
        ValueError: `count` is outside this range.
    """
    if not 0 <= count <= _MOST:
        raise ValueError(f"the palette has {_MOST:,} colors and {count} were asked for.")
    colors = []
    for index in range(count):
        red, green, blue = (
            sum((index >> (3 * place + channel) & 1) << (7 - place) for place in range(8)) for channel in range(3)
        )
        colors.append((red, green, blue))
    return colors
