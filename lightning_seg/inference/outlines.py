"""Labels as polygons, run lengths and areas."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_seg.hub import one_line

Labels = npt.NDArray[np.integer[Any]]
_Ring = list[tuple[float, float]]


def geojson(
    labels: Labels,
    names: Sequence[str],
    georeference: dict[str, Any] | None,
    invalid: npt.NDArray[np.bool_] | None = None,
    simplify: float = 0.0,
) -> dict[str, Any]:
    """The contours of the classes as a GeoJSON feature collection of polygons with holes.

    Args:
        labels: `(H, W)`.
        names: of each label.
        georeference: its transform gives the coordinates, and its CRS is named; None: pixels, from the upper left
            corner, x to the right and y down.
        invalid: bool `(H, W)`, pixels that belong to no class.
        simplify: leaves out points of a contour that are nearer than so many pixels to it without them.

    Raises:
        ImportError: rasterio is missing.
    """
    try:
        from rasterio.features import shapes
    except ImportError:
        raise ImportError('contours need rasterio: pip install "lightning-seg[geo]"') from None
    transform = None if georeference is None else georeference["transform"]
    features = []
    kind = np.uint8 if len(names) <= 256 else np.int32
    for shape, label in shapes(labels.astype(kind), mask=None if invalid is None else ~invalid):
        rings = [_simplified(ring, simplify) for ring in shape["coordinates"]]
        rings = [rings[0], *(ring for ring in rings[1:] if len(ring) > 3)]
        if transform is not None:
            rings = [[tuple(transform @ (x, y)) for x, y in ring] for ring in rings]
        features.append(
            {
                "type": "Feature",
                "properties": {"label": int(label), "class": names[int(label)]},
                "geometry": {"type": "Polygon", "coordinates": rings},
            }
        )
    collection: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if georeference is not None and georeference["crs"] is not None:
        collection["crs"] = {"type": "name", "properties": {"name": _crs_name(georeference["crs"])}}
    return collection


def run_lengths(labels: Labels, names: Sequence[str], invalid: npt.NDArray[np.bool_] | None = None) -> dict[str, Any]:
    """The masks of the classes that occur as COCO's uncompressed run lengths: down the columns, zeros first.

    Args:
        labels: `(H, W)`.
        names: of each label.
        invalid: pixels that belong to no class.
    """
    annotations = []
    for label in np.unique(labels if invalid is None else labels[~invalid]).tolist():
        mask = labels == label
        mask = mask if invalid is None else mask & ~invalid
        flat = mask.flatten(order="F")
        ends = np.flatnonzero(np.diff(flat.view(np.int8))) + 1
        counts = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        annotations.append(
            {
                "category_id": label,
                "category": names[label],
                "area": int(mask.sum()),
                "bbox": [int(value) for value in box],
                "segmentation": {"size": list(labels.shape), "counts": counts if not flat[0] else [0, *counts]},
            }
        )
    return {"height": labels.shape[0], "width": labels.shape[1], "annotations": annotations}


def areas(labels: Labels, classes: int, invalid: npt.NDArray[np.bool_] | None = None) -> list[int]:
    """Pixels of each class."""
    total = np.zeros(classes, np.int64)
    for start in range(0, len(labels), 256):  # counting takes eight bytes a pixel
        rows = slice(start, start + 256)
        counted = labels[rows].ravel() if invalid is None else labels[rows][~invalid[rows]]
        total += np.bincount(counted, minlength=classes)[:classes]
    found: list[int] = total.tolist()
    return found


def _crs_name(crs: Any) -> str:
    try:
        code = crs.to_epsg()
    except Exception as error:  # of rasterio's own classes
        return one_line(error)
    return crs.to_wkt() if code is None else f"urn:ogc:def:crs:EPSG::{code}"


def _simplified(ring: _Ring, tolerance: float) -> _Ring:
    """A closed ring by the algorithm of Douglas and Peucker, from its two points that are farthest apart."""
    if tolerance <= 0 or len(ring) < 5:
        return ring
    points = np.array(ring[:-1])
    half = int(np.linalg.norm(points - points[0], axis=1).argmax())
    kept = [*_kept(points[: half + 1], tolerance), *_kept(np.concatenate([points[half:], points[:1]]), tolerance)]
    found = [
        tuple(map(float, point)) for index, point in enumerate(kept) if index == 0 or (point != kept[index - 1]).any()
    ]
    return found if len(found) > 3 else ring  # type: ignore[return-value]


def _kept(points: npt.NDArray[Any], tolerance: float) -> Iterator[Any]:
    pending = [(0, len(points) - 1)]
    keep = np.zeros(len(points), bool)
    keep[[0, -1]] = True
    while pending:
        first, last = pending.pop()
        if last - first < 2:
            continue
        line = points[last] - points[first]
        offset = points[first + 1 : last] - points[first]
        distance = np.abs(line[0] * offset[:, 1] - line[1] * offset[:, 0]) / max(float(np.hypot(*line)), 1e-12)
        if not line.any():
            distance = np.hypot(offset[:, 0], offset[:, 1])
        farthest = int(distance.argmax())
        if distance[farthest] > tolerance:
            middle = first + 1 + farthest
            keep[middle] = True
            pending += [(first, middle), (middle, last)]
    yield from points[keep]
