"""Checkpoints are data: what a training resumes from is looked at before anything unpickles it without limits.

Lightning's strategy for sharded training reads a checkpoint with all that pickle allows, whatever `weights_only` says,
and torch does so with the metadata of one that lies in several files.
"""

import pickle
from pathlib import Path
from typing import Any, BinaryIO

_SHARDS = ".metadata"  # of torch's distributed checkpoints
_REST = "meta.pt"  # what Lightning writes beside them
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


class PlainUnpickler(pickle.Unpickler):
    """Reads a pickle that names nothing but what is listed.

    Args:
        file: the pickle.
        allowed: names by module.
    """

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


def check_plain(path: Path) -> None:
    """Refuses a checkpoint, a file or a folder of shards, that holds more than data.

    Raises:
        ValueError: it does, or cannot be read.
    """
    import torch  # takes seconds, which a run that begins anew spends later

    dtypes = {name for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
    try:
        if path.is_dir():
            with (path / _SHARDS).open("rb") as file:
                PlainUnpickler(file, {**_ALLOWED, "torch": {"Size", *dtypes}}).load()
            path = path / _REST
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, AttributeError, ImportError, IndexError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} cannot be read as a checkpoint without running code from it: {reason}.") from None
