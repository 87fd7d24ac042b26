"""ONNX files that give fixed arrays whatever the image, for tests of what reads them."""

from onnx import TensorProto, helper, numpy_helper, save_model

FLOAT = TensorProto.FLOAT
KINDS = {"f": FLOAT, "i": TensorProto.INT64}


def save(path, nodes, inputs, outputs, constants=None, metadata=None):
    """A model file; inputs and outputs are (name, type, shape), constants by name become initialisers."""
    graph = helper.make_graph(
        nodes, "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    save_model(model, str(path))
    return path


def save_detector(path, outputs, shape=(1, 3, 64, 64), metadata=None, open_shapes=False, kind=FLOAT):
    """A detector whose outputs are arrays by name, float32 or int64; the first depends on the image, by nothing."""
    nodes = [
        helper.make_node("Cast", ["images"], ["single"], to=FLOAT),
        helper.make_node("ReduceMin", ["single"], ["least"], keepdims=0),
        helper.make_node("Mul", ["least", "zero"], ["nothing"]),
    ]
    values, constants = [], {"zero": numpy_helper.to_array(helper.make_tensor("zero", FLOAT, [], [0.0]))}
    for name, array in outputs.items():
        constants["of " + name] = array
        used = "nothing" if array.dtype.kind == "f" else "none"
        nodes.append(helper.make_node("Add", ["of " + name, used], [name]))
        declared = [f"{name}{axis}" for axis in range(array.ndim)] if open_shapes else array.shape
        values.append((name, KINDS[array.dtype.kind], declared))
    nodes.insert(3, helper.make_node("Cast", ["nothing"], ["none"], to=TensorProto.INT64))
    return save(path, nodes, [("images", kind, list(shape))], values, constants, metadata)
