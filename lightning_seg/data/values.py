"""What the values of a mask's file stand for: `{7: 0, 8: 1, 255: void}`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

VOID, REST = "void", "else"
_RANGE = re.compile(r"\s*(-?\d+)\s*(?:-|–|\.\.)\s*(-?\d+)\s*")
_MOST = 2**20  # values that one range may hold


class Values:
    """A mapping from the values of mask files to classes and void.

    Args:
        values: from a number, a range (`1-150`), or `else`, all numbers that are not named, to the index of a class,
            its name, `void`, or, of a range, one as long (`0-149`).
        num_values: masks hold 0..num_values-1.
        class_names: of the classes.
        ignore_index: what `void` is.

    Raises:
        ValueError: one of them is something else, a number is named twice, or there is no `ignore_index` for `void`.
    """

    def __init__(
        self, values: Mapping[Any, Any], num_values: int, class_names: Sequence[str], ignore_index: int | None
    ) -> None:
        self._num_values = num_values
        self._names = {name: index for index, name in enumerate(class_names)} if len(class_names) == num_values else {}
        self._ignore_index = ignore_index
        self._rest: int | None = None
        self._known: dict[int, int] = {}
        for key, value in values.items():
            if str(key).strip() == REST:
                self._rest = self._class(key, value)
                continue
            for raw, label in self._pairs(key, value):
                if raw in self._known:
                    raise ValueError(f"data.values names {raw} twice, the second time as {key}: {value}.")
                self._known[raw] = label
        if not self._known:
            raise ValueError(
                f"data.values={dict(values)} names no value: give {{7: 0, 8: 1, else: void}}, for example."
            )
        self._table, self._is_missing = self._tables()

    def __call__(self, raw: npt.NDArray[Any], path: object) -> npt.NDArray[Any]:
        """The labels of a file's values, in their shape, int64 or, of uint8, uint8 if all labels are.

        Raises:
            ValueError: one has no class.
        """
        if raw.dtype == np.uint8:
            if self._rest is None and (missing := self._is_missing[raw]).any():
                raise self._error(raw[missing], path)
            labels: npt.NDArray[Any] = self._table[raw]
            return labels
        found, places = np.unique(raw, return_inverse=True)
        known = [self._known.get(int(value), self._rest) for value in found]
        if None in known:
            raise self._error(raw[np.isin(raw, [value for value in found if int(value) not in self._known])], path)
        return np.array(known, np.int64)[places.reshape(raw.shape)]

    def _tables(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Of the 256 values of uint8: their labels, and whether they have none."""
        labels = [self._known.get(value, self._rest) for value in range(256)]
        table = np.array([0 if label is None else label for label in labels], np.int64)
        is_small = table.min() >= 0 and table.max() <= 255
        return table.astype(np.uint8) if is_small else table, np.array([label is None for label in labels])

    @staticmethod
    def _error(raw: npt.NDArray[Any], path: object) -> ValueError:
        found, counts = np.unique(raw, return_counts=True)
        value, count = int(found[counts.argmax()]), int(counts.max())
        more = f" (and {len(found) - 1} more such values)" if len(found) > 1 else ""
        return ValueError(
            f"mask {path} holds the value {value} in {count:,} pixels{more}, which data.values does not name: add "
            f"{value}: CLASS or {value}: void, or else: void for all that is not named."
        )

    def _pairs(self, key: Any, value: Any) -> list[tuple[int, int]]:
        raw = self._numbers(key)
        if raw is None:
            raise ValueError(f"data.values names {key}, which is neither an integer, a range (1-150), nor else.")
        labels = self._numbers(value) if len(raw) > 1 and isinstance(value, str) else None
        if labels is None or len(labels) == 1:
            return [(one, self._class(key, value)) for one in raw]
        if len(labels) != len(raw):
            raise ValueError(f"data.values has {key}: {value}, ranges of {len(raw)} and {len(labels)} numbers.")
        return [(one, self._class(key, label)) for one, label in zip(raw, labels, strict=True)]

    @staticmethod
    def _numbers(text: Any) -> range | None:
        if isinstance(text, int) and not isinstance(text, bool):
            return range(text, text + 1)
        if re.fullmatch(r"\s*-?\d+\s*", str(text)):
            return range(int(text), int(text) + 1)
        found = _RANGE.fullmatch(str(text))
        if found is None or not 0 <= int(found[2]) - int(found[1]) < _MOST:
            return None
        return range(int(found[1]), int(found[2]) + 1)

    def _class(self, key: Any, value: Any) -> int:
        if value == VOID:
            if self._ignore_index is None:
                raise ValueError(
                    f"data.values has {key}: void, which needs data.ignore_index, the value that void pixels get: "
                    "data.ignore_index=255, for instance."
                )
            return self._ignore_index
        label = self._names.get(value) if isinstance(value, str) else value
        if label is None and isinstance(value, str) and re.fullmatch(r"\s*\d+\s*", value):
            label = int(value)
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < self._num_values:
            raise ValueError(
                f"data.values has {key}: {value}, but classes are 0 to {self._num_values - 1}, their names, or void."
            )
        return label


def binarized(raw: npt.NDArray[Any], threshold: float) -> npt.NDArray[np.int64]:
    """1 where a value is `threshold` or more, else 0."""
    return (raw >= threshold).astype(np.int64)
