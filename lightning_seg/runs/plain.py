"""Checkpoints are data: what a training resumes from is looked at before anything unpickles it without limits.

Lightning's strategy for sharded training reads a checkpoint with all that pickle allows, whatever `weights_only` says,
and torch does so with the metadata of one that lies in several files, and with each value in them that is no tensor.
"""

import math
import pickle
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from lightning_seg.reading import open_regular, read_bytes

SHARDS = ".metadata"  # of torch's distributed checkpoints
IN_PARTS = (
    "lies in parts, from which only its own training can go on: with trainer.strategy.state_dict_type=full FSDP writes "
    "checkpoints of one file."
)
_REST = "meta.pt"  # what Lightning writes beside them
_MOST = 2**28  # bytes of the metadata
# All that torch writes into the metadata.
_ALLOWED = {
    "torch.distributed.checkpoint.metadata": {
        *("BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta"),
        *("TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING"),
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "pathlib": {"Path", "PosixPath", "PurePosixPath"},
    "collections": {"OrderedDict"},
    "builtins": {"set", "frozenset"},
}
# What Lightning resumes from. Of a sharded checkpoint weights and optimizers are in the shards.
_PARTS = {"epoch": int, "global_step": int, "pytorch-lightning_version": str, "loops": dict, "callbacks": dict}
_WHOLE = {"state_dict": Mapping, "optimizer_states": list, "lr_schedulers": list}


class PlainUnpickler(pickle._Unpickler):  # the one in Python, a step of which is replaced
    """Reads a pickle that names nothing but what is listed, and changes none of it.

    Args:
        file: the pickle.
        allowed: names by module.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: BinaryIO, allowed: dict[str, set[str]]) -> None:
        super().__init__(file)
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        """Called for each name in the pickle.

        Raises:
            pickle.UnpicklingError: it is not listed.
        """
        if name not in self._allowed.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)

    def load_build(self) -> None:
        """Called where a state is given to an object: a class would keep it for the whole process."""
        if callable(self.stack[-2]):  # type: ignore[attr-defined]
            raise pickle.UnpicklingError("it changes a class")
        super().load_build()  # type: ignore[misc]

    dispatch[pickle.BUILD[0]] = load_build
    del dispatch[pickle.BYTEARRAY8[0]]  # which makes room for as much as it says


def check_plain(path: Path) -> None:
    """Refuses a checkpoint, a file or a folder of shards, that holds more than data, or cannot be resumed from.

    Raises:
        ValueError: it does, or cannot be read.
    """
    import torch  # takes seconds, which a run that begins anew spends later

    parts = _PARTS if path.is_dir() else {**_PARTS, **_WHOLE}
    try:
        if path.is_dir():
            _check_shards(path)
            path = path / _REST
        with open_regular(path):
            pass
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever pickle and torch make of a damaged or a hostile file
        reason = next(iter(str(error).splitlines()), "").rstrip(".") or type(error).__name__
        raise ValueError(f"{path} cannot be read as a checkpoint without running code from it: {reason}.") from None
    for name, kind in parts.items():
        if not isinstance(content, dict) or not isinstance(content.get(name), kind):
            raise ValueError(
                f"{path} cannot be resumed from: it has no {name}, as a checkpoint of a training has. Choose another "
                "run=NAME, or remove it to start again."
            )


def _check_shards(folder: Path) -> None:
    """Refuses shards that are not as their metadata says, or that hold more than data.

    Raises:
        ValueError: they are.
    """
    import torch
    from torch.distributed.checkpoint.filesystem import _StorageInfo
    from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata, TensorStorageMetadata

    dtypes = {name for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
    file = BytesIO(read_bytes(folder / SHARDS, _MOST))
    metadata = PlainUnpickler(file, {**_ALLOWED, "torch": {"Size", *dtypes}}).load()
    if not isinstance(metadata, Metadata):
        raise ValueError(f"{SHARDS} holds something else")
    sizes: dict[str, int] = {}
    values = stored = 0
    for index, place in metadata.storage_data.items():
        name, offset, length = place.relative_path, place.offset, place.length
        if type(place) is not _StorageInfo or Path(name).name != name or getattr(place, "transform_descriptors", None):
            raise ValueError(f"{SHARDS} names {name!r:.80}, which is not one of its parts")
        with open_regular(folder / name) as shard:
            sizes[name] = shard.seek(0, 2)
            if not (offset >= 0 and length >= 0 and offset + length <= sizes[name]):
                raise ValueError(f"{name} is shorter than {SHARDS} says")
            stored += length
            kind = metadata.state_dict_metadata[index.fqn]
            if isinstance(kind, BytesStorageMetadata):
                shard.seek(offset)
                torch.load(BytesIO(shard.read(length)), map_location="cpu", weights_only=True)
            elif not isinstance(kind, TensorStorageMetadata):
                raise ValueError(f"{SHARDS} has a {type(kind).__name__} as {index.fqn!r:.80}")
    for kind in metadata.state_dict_metadata.values():
        values += math.prod(kind.size) if isinstance(kind, TensorStorageMetadata) else 0
    if max(values, stored) > sum(sizes.values()):
        raise ValueError(f"{SHARDS} asks for more than its parts hold")
