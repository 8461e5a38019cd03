"""Nodes that are added to the graph of a network."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

OURS = "holotype_"  # what the names of all that is added to a network of others begin with
_SUMS, _REDUCES = 13, 18  # versions of ONNX's operators: from there on axes are inputs of a sum, and of others


class Nodes:
    """What is added behind the last node of `model`."""

    def __init__(self, model: "onnx.ModelProto") -> None:
        self._graph = model.graph
        self.opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)

    def constant(self, name: str, value: Any, dtype: Any = np.int64) -> str:
        """Add a constant, and return its name."""
        from onnx import numpy_helper

        self._graph.initializer.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def then(self, operator: str, out: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, and return what its output is called."""
        from onnx import helper

        self._graph.node.append(helper.make_node(operator, list(inputs), [out], name=out, **attributes))
        return out

    def reduce(self, operator: str, out: str, of: str, axes: list[int]) -> str:
        """Add a node that takes `axes` away. Until a version of its own, each operator has them as an attribute."""
        if self.opset < (_SUMS if operator == "ReduceSum" else _REDUCES):
            return self.then(operator, out, of, axes=axes, keepdims=0)
        return self.then(operator, out, of, self.constant(f"{out}_axes", axes), keepdims=0)

    def split(self, of: str, parts: list[str]) -> list[str]:
        """Add a node that splits along the first axis into equal parts, and return what they are called."""
        from onnx import helper

        counted: dict[str, Any] = {"num_outputs": len(parts)} if self.opset >= _REDUCES else {}
        self._graph.node.append(helper.make_node("Split", [of], parts, name=f"{of}_parts", axis=0, **counted))
        return parts

    def column(self, out: str, of: str, axes: int = 2) -> str:
        """Add a node that gives numbers (n,) so many `axes`, each but the first of length 1."""
        return self.then("Reshape", out, of, self.constant(f"{out}_shape", [-1, *[1] * (axes - 1)]))
