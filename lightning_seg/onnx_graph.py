"""What an ONNX file may not hold, told from its bytes, since prediction needs ONNX Runtime alone and not `onnx`.

A file is a protocol buffer: fields, each a key (its number and kind), and a number or so many bytes, which may be
fields again. Only the few that lead to control flow are followed, as `onnx.proto` numbers them.
"""

from collections.abc import Iterator

# ModelProto.graph and functions, GraphProto.node, NodeProto.attribute, AttributeProto.g and graphs.
_GRAPH, _FUNCTIONS, _NODE, _ATTRIBUTE, _INNER = 7, 25, 1, 5, (6, 11)
# GraphProto.initializer and sparse_initializer, AttributeProto.t, tensors, sparse_tensor and sparse_tensors, whose own
# fields of bytes are tensors and dims, and TensorProto.external_data.
_WEIGHTS, _SPARSE, _VALUES, _SPARSES, _EXTERNAL = (5,), (15,), (5, 10), (22, 23), 13
_NUMBER, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # kinds


def has_control_flow(content: bytes) -> bool:
    """Whether a model has graphs within its graph, as of Loop, Scan and If, or functions, which may call each other.

    Raises:
        ValueError: it is not a protocol buffer.
    """
    for number, part in _fields(memoryview(content)):
        if number == _FUNCTIONS:
            return True
        nodes = _within(part, _NODE) if number == _GRAPH else ()
        for attribute in (attribute for node in nodes for attribute in _within(node, _ATTRIBUTE)):
            if any(inner in _INNER for inner, _ in _fields(attribute)):
                return True
    return False


def refers_elsewhere(content: bytes) -> bool:
    """Whether a tensor of a model lies in another file.

    Raises:
        ValueError: it is not a protocol buffer.
    """
    return any(number == _EXTERNAL for tensor in _tensors(memoryview(content)) for number, _ in _fields(tensor))


def _tensors(content: memoryview) -> Iterator[memoryview]:
    """Those of the graph and of its nodes' attributes, the parts of sparse ones included."""
    for graph in _within(content, _GRAPH):
        attributes = (one for node in _within(graph, _NODE) for one in _within(node, _ATTRIBUTE))
        for holder, dense, sparse in [(graph, _WEIGHTS, _SPARSE), *((one, _VALUES, _SPARSES) for one in attributes)]:
            for number, part in _fields(holder):
                if number in dense:
                    yield part
                elif number in sparse:
                    yield from (inner for _, inner in _fields(part))


def _within(content: memoryview, wanted: int) -> Iterator[memoryview]:
    return (part for number, part in _fields(content) if number == wanted)


def _fields(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The number and the bytes of each field that has bytes."""
    place = 0
    while place < len(content):
        key, place = _number(content, place)
        kind = key & 7
        if kind == _NUMBER:
            _, place = _number(content, place)
        elif kind in (_FOUR, _EIGHT):
            place += 4 if kind == _FOUR else 8
        elif kind == _BYTES:
            size, place = _number(content, place)
            yield (key & 0xFFFFFFFF) >> 3, content[place : place + size]
            place += size
        else:
            raise ValueError("it is malformed")
    if place > len(content):
        raise ValueError("it breaks off")


def _number(content: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where what follows begins."""
    value = 0
    for index, byte in enumerate(content[place : place + 10]):
        value |= (byte & 127) << (7 * index)
        if byte < 128:
            return value, place + index + 1
    raise ValueError("it is malformed")
