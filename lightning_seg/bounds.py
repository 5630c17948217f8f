"""How much a file may ask for: the values of a configuration, and the tensors and bytes of what is built from it."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

MOST_VALUES = 200_000
DEEPEST = 48
LONGEST = 4096


def check_values(config: Any, source: str, most: int = MOST_VALUES) -> None:
    """Refuses a configuration that is not plain data of a bounded size, shared parts counted each time they occur.

    Raises:
        ValueError: it is not.
    """
    count = 0
    pending: list[tuple[Any, str, int]] = [(config, "config", 0)]
    while pending:
        node, key, depth = pending.pop()
        count += len(node) if isinstance(node, dict | list | tuple) else 0
        if count > most or depth > DEEPEST:
            amount = f"over {most} values" if count > most else f"over {DEEPEST} levels"
            raise ValueError(f"{source} holds more than any configuration of lightning_seg: {amount}, met in {key}.")
        if isinstance(node, dict):
            for name in node:
                if type(name) is not str or len(name) > LONGEST:
                    raise ValueError(f"{source} has a key of type {type(name).__name__} in {key}: expected short text.")
            pending.extend((value, f"{key}.{name}"[:200], depth + 1) for name, value in node.items())
        elif isinstance(node, list | tuple):
            pending.extend((value, key, depth + 1) for value in node)
        elif type(node) is str:
            if len(node) > LONGEST:
                raise ValueError(f"{source} holds a text of {len(node)} characters as {key}; expected {LONGEST}.")
            if "${" in node:
                # A stored configuration is resolved. OmegaConf would compute this, and could make a new target of it.
                raise ValueError(
                    f"{source} holds {key}={node!r}, a computed value, which a stored configuration never has."
                )
        elif type(node) is int:
            if abs(node) >= 2**63:
                raise ValueError(f"{source} holds an integer of more than 63 bits as {key}.")
        elif node is not None and type(node) not in (bool, float):
            raise ValueError(f"{source} holds a {type(node).__name__} as {key}, which is not plain data.")


class Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses to make many more tensors, or many more bytes of them, than the weights of a file are.

    What an operation gives is known by its shape before there is memory for it.
    """

    def __init__(self, tensors: int | None, memory: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = math.inf if tensors is None else 50 * tensors + 5_000
        self.bytes = math.inf if memory is None else 4 * memory + 2**28

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.calls -= 1
        if not func._schema.is_mutable and self.bytes != math.inf:
            self.bytes -= sum(tensor.numel() * tensor.element_size() for tensor in _shapes(func, args, kwargs))
        if self.calls < 0 or self.bytes < 0:
            raise MemoryError("it asks for far more memory or layers than the file's weights need.")
        return func(*args, **kwargs)


def _shapes(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """What an operation would give, without its values; nothing where that depends on values."""
    if any(alias for alias in (result.alias_info for result in func._schema.returns)):
        return
    args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
    if "device" in kwargs or any(argument.name == "device" for argument in func._schema.arguments):
        kwargs = {**kwargs, "device": torch.device("meta"), "pin_memory": None}
        if not any(argument.name == "pin_memory" for argument in func._schema.arguments):
            del kwargs["pin_memory"]
    try:
        results = func(*args, **kwargs)
    except (RuntimeError, NotImplementedError, TypeError):
        return
    yield from (result for result in tree_leaves(results) if isinstance(result, Tensor))
