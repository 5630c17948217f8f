"""Damaged checkpoints end in a module or in one line, never in another error."""

import io
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_seg.checkpoint import CONFIG_KEY, load_module
from lightning_seg.module import SegmentationModule
from tests.test_checkpoint import MODULE

NETWORK = {"backbone.weight": torch.zeros(2, 3, 3, 3), "backbone.bias": torch.zeros(2)}
DATA = {"_target_": "lightning_seg.data.ShapesDataModule", "scale": 1.0, "palette": [[0, 0, 0], [1, 2, 3]]}
CONTENT: dict[str, Any] = {
    "state_dict": NETWORK,
    "epoch": 3,
    CONFIG_KEY: {"config": {"module": MODULE, "data": DATA}, "version": "0"},
}
# Of characters that are listed: all of Unicode takes a worker seconds to list.
TEXT = st.text("aZ09_ .:/\\~${}\"'\n\t\0é語😀", max_size=8)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    TEXT,
    st.sampled_from(["torch.nn.Linear", "os.system", "${oc.env:HOME}", "lightning_seg.losses.DiceLoss", "../x"]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.sampled_from(["_target_", "_args_", "defaults", "loss"]), TEXT, max_size=2),
    st.builds(torch.zeros, st.integers(0, 3)),
)


def written(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def loads_or_says_why(path: Path) -> None:
    try:
        found: Any = load_module(path)
    except ValueError as error:
        found = str(error)
    assert isinstance(found, SegmentationModule) or (str(path) in found and "\n" not in found)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_bytes_that_changed(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(written(CONTENT))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    path = tmp_path / "a.ckpt"
    path.write_bytes(bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))]))
    loads_or_says_why(path)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_values_that_changed(tmp_path: Path, data: st.DataObject) -> None:
    content = deepcopy(CONTENT)
    for _ in range(data.draw(st.integers(1, 3))):
        node: Any = content
        while True:
            key = data.draw(st.sampled_from(sorted(node)))
            if isinstance(node[key], dict) and node[key] and data.draw(st.booleans()):
                node = node[key]
                continue
            if data.draw(st.booleans()):
                node[key] = data.draw(VALUES)
            elif len(node) > 1:
                del node[key]
            break
    path = tmp_path / "a.ckpt"
    path.write_bytes(written(content))
    loads_or_says_why(path)
