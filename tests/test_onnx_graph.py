"""The walk over a file's bytes finds what `onnx` finds."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from lightning_seg.onnx_graph import has_control_flow, refers_elsewhere

FLOAT = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])


WEIGHT = onnx.numpy_helper.from_array(np.ones(2, np.float32), "w")


def model(*nodes: onnx.NodeProto, functions: tuple[onnx.FunctionProto, ...] = ()) -> onnx.ModelProto:
    weight = onnx.numpy_helper.from_array(np.full(1000, 0.1), "w")
    graph = helper.make_graph(nodes, "g", [FLOAT], [FLOAT], [weight])
    return helper.make_model(graph, functions=functions, producer_name="p" * 300)


BODY = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "body", [FLOAT], [FLOAT])
PLAIN = helper.make_node("Conv", ["x", "w"], ["y"], strides=[1, 2], group=3, auto_pad="VALID", alpha=0.5)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (model(PLAIN, PLAIN), False),
        (model(PLAIN, helper.make_node("Loop", ["x"], ["y"], body=BODY)), True),
        (model(helper.make_node("If", ["x"], ["y"], then_branch=BODY, else_branch=BODY)), True),
        (model(helper.make_node("Own", ["x"], ["y"], parts=[BODY, BODY])), True),
        (model(functions=(helper.make_function("d", "f", ["x"], ["y"], [PLAIN], []),)), True),
        (model(), False),
    ],
)
def test_graphs_within_a_graph_and_functions_are_found(file: onnx.ModelProto, expected: bool) -> None:
    assert has_control_flow(file.SerializeToString()) is expected


def test_graphs_that_are_written_in_parts_are_one_graph() -> None:
    loop = model(helper.make_node("Loop", ["x"], ["y"], body=BODY)).SerializeToString()
    assert has_control_flow(model(PLAIN).SerializeToString() + loop)  # which protocol buffers merge
    onnx.load_model_from_string(model(PLAIN).SerializeToString() + loop)


def elsewhere() -> onnx.TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../weights.bin")
    return tensor


def test_weights_in_another_file_are_found_wherever_they_are() -> None:
    assert not refers_elsewhere(model(PLAIN, helper.make_node("Constant", [], ["y"], value=WEIGHT)).SerializeToString())
    assert refers_elsewhere(model(helper.make_node("Constant", [], ["y"], value=elsewhere())).SerializeToString())
    for sparse in (False, True):
        file = model(PLAIN)
        if sparse:
            file.graph.sparse_initializer.add(values=elsewhere(), indices=WEIGHT, dims=[2, 2])
        else:
            file.graph.initializer.append(elsewhere())
        assert refers_elsewhere(file.SerializeToString())


@pytest.mark.parametrize("content", [b"no model", b"\x3a\xff", b"\xff" * 20, b"\x0b"])
def test_what_is_no_protocol_buffer_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"it is malformed|it breaks off"):
        has_control_flow(content)
