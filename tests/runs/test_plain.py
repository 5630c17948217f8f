import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import checkpoint

from lightning_seg.runs.plain import check_plain


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    state = {"model": {"a": torch.zeros(3, dtype=torch.bfloat16), "b": torch.zeros(2, 2)}, "n": 1, "text": "x"}
    checkpoint.save(state, checkpoint_id=path, no_dist=True)
    torch.save({"epoch": 1, "callbacks": {"a": [1.5, None]}}, path / "meta.pt")
    return path


def test_what_torch_writes_is_read(tmp_path: Path, sharded: Path) -> None:
    check_plain(sharded)
    torch.save({"state_dict": {"a": torch.zeros(2)}, "epoch": 0}, tmp_path / "whole.ckpt")
    check_plain(tmp_path / "whole.ckpt")


@pytest.mark.parametrize("name", [".metadata", "meta.pt"])
def test_code_in_a_sharded_checkpoint_is_refused_and_not_run(tmp_path: Path, sharded: Path, name: str) -> None:
    made = tmp_path / "made"
    if name == "meta.pt":
        torch.save(Harmful(made), sharded / name)
    else:
        (sharded / name).write_bytes(pickle.dumps(Harmful(made)))
    with pytest.raises(ValueError, match="cannot be read as a checkpoint without running code"):
        check_plain(sharded)
    assert not made.exists()


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x04."])
def test_what_is_damaged_is_one_line(tmp_path: Path, sharded: Path, content: bytes) -> None:
    (sharded / ".metadata").write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.ckpt cannot be read as a checkpoint"):
        check_plain(sharded)
    (tmp_path / "whole.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"whole\.ckpt cannot be read as a checkpoint"):
        check_plain(tmp_path / "whole.ckpt")
