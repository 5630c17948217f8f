import os
import pickle
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import checkpoint
from torch.distributed.checkpoint.filesystem import _StorageInfo

from lightning_seg.runs.plain import PlainUnpickler, check_plain

PARTS = {
    "epoch": 1,
    "global_step": 3,
    "pytorch-lightning_version": "2.6.0",
    "loops": {},
    "callbacks": {"a": [1.5, None]},
}
WHOLE = {**PARTS, "state_dict": {"a": torch.zeros(2)}, "optimizer_states": [], "lr_schedulers": []}


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
    torch.save(PARTS, path / "meta.pt")
    return path


def test_what_torch_writes_is_read(tmp_path: Path, sharded: Path) -> None:
    check_plain(sharded)
    torch.save(WHOLE, tmp_path / "whole.ckpt")
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


def edit_metadata(sharded: Path, edit: Callable[[Any], None]) -> None:
    metadata = pickle.loads((sharded / ".metadata").read_bytes())
    edit(metadata)
    (sharded / ".metadata").write_bytes(pickle.dumps(metadata))


def test_a_value_in_a_shard_that_holds_code_is_refused_and_not_run(tmp_path: Path, sharded: Path) -> None:
    made, shard = tmp_path / "made", sharded / "__0_0.distcp"
    torch.save(Harmful(made), tmp_path / "value")
    value, size = (tmp_path / "value").read_bytes(), shard.stat().st_size
    shard.write_bytes(shard.read_bytes() + value)

    def point_at_it(metadata: Any) -> None:
        place = next(index for index in metadata.storage_data if index.fqn == "text")
        metadata.storage_data[place] = _StorageInfo(shard.name, size, len(value))

    edit_metadata(sharded, point_at_it)
    with pytest.raises(ValueError, match="Weights only load failed"):
        check_plain(sharded)
    assert not made.exists()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (_StorageInfo("../secret", 0, 10), "'../secret', which is not one of its parts"),
        (_StorageInfo("/dev/zero", 0, 10), "'/dev/zero', which is not one of its parts"),
        (_StorageInfo("__0_0.distcp", 0, 10**15), "__0_0.distcp is shorter than .metadata says"),
        (_StorageInfo("__0_0.distcp", -5, 10), "__0_0.distcp is shorter than .metadata says"),
        (_StorageInfo("pipe", 0, 10), "pipe is a named pipe, not a file"),
        (_StorageInfo("nowhere", 0, 10), "nowhere does not exist"),
        (_StorageInfo("__0_0.distcp", 0, 10, ("zstd",)), "'__0_0.distcp', which is not one of its parts"),
    ],
)
def test_metadata_names_nothing_but_its_parts(sharded: Path, place: _StorageInfo, reason: str) -> None:
    os.mkfifo(sharded / "pipe")
    edit_metadata(sharded, lambda metadata: metadata.storage_data.update(dict.fromkeys(metadata.storage_data, place)))
    with pytest.raises(ValueError, match=reason):
        check_plain(sharded)


def test_metadata_asks_for_no_more_memory_than_its_parts_hold(sharded: Path) -> None:
    edit_metadata(
        sharded, lambda metadata: setattr(metadata.state_dict_metadata["model.a"], "size", torch.Size([10**9]))
    )
    with pytest.raises(ValueError, match="asks for more than its parts hold"):
        check_plain(sharded)


@pytest.mark.parametrize("name", [".metadata", "meta.pt"])
def test_a_named_pipe_is_not_waited_for(sharded: Path, name: str) -> None:
    (sharded / name).unlink()
    os.mkfifo(sharded / name)
    with pytest.raises(ValueError, match="is a named pipe, not a file"):
        check_plain(sharded)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"PK", b"\x80\x04.", b"\x80\x04}]K\x01s.", b"\x80\x04\x8c\x02\xff\xfe.", b"I" + b"9" * 5000 + b"\n."),
        b"\x80\x05\x96" + (6 * 2**30).to_bytes(8, "little") + b".",  # would make room for as much
    ],
)
def test_what_is_damaged_is_one_line(tmp_path: Path, sharded: Path, content: bytes) -> None:
    (sharded / ".metadata").write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.ckpt cannot be read as a checkpoint"):
        check_plain(sharded)
    (tmp_path / "whole.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"whole\.ckpt cannot be read as a checkpoint"):
        check_plain(tmp_path / "whole.ckpt")


def test_a_pickle_cannot_change_a_class() -> None:
    change = b"\x80\x04cpathlib\nPath\nN}\x8c\x07is_filecbuiltins\nset\ns\x86b."  # Path.is_file = set
    with pytest.raises(pickle.UnpicklingError, match="it changes a class"):
        PlainUnpickler(BytesIO(change), {"pathlib": {"Path"}, "builtins": {"set"}}).load()


@pytest.mark.parametrize(
    ("name", "value"), [("loops", None), ("epoch", "x"), ("optimizer_states", {}), ("callbacks", 5)]
)
def test_a_checkpoint_that_lacks_what_a_training_resumes_from_is_refused(
    tmp_path: Path, name: str, value: object
) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({**WHOLE, name: value}, path)
    with pytest.raises(ValueError, match=rf"last\.ckpt cannot be resumed from: it has no {name}, as"):
        check_plain(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="it has no epoch"):
        check_plain(path)
