"""What tells one data set from another, and is the same for a copy of it elsewhere."""

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Any

from lightning_seg.data.inspection import Inspection


def digest(names: Sequence[str], found: Inspection | None) -> dict[str, Any]:
    """How many images a split has, and a digest of their names, sizes and pixels of each mask value, in any order.

    Args:
        names: the images'.
        found: what a look at them and at their masks has found; None for names alone.
    """
    looks = [()] * len(names) if found is None else zip(found.sizes, found.counts.tolist(), strict=True)
    lines = sorted(f"{unicodedata.normalize('NFC', name)} {look}" for name, look in zip(names, looks, strict=True))
    content = "\n".join(lines).encode("utf-8", "surrogateescape")
    return {"images": len(names), "digest": hashlib.sha256(content).hexdigest()}
