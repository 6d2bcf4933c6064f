"""Graphs in the language of Graphviz, for those who would draw them with that."""

from tapeflow.graphs.graph import Graph, Node
from tapeflow.graphs.theme import LIGHT

_SHAPES = {"input": "plaintext", "output": "plaintext", "gate": "circle", "group": "box"}


def dot_of(graph: Graph) -> str:
    """The graph as a digraph, its labels on the edges."""
    lines = [
        f"digraph {_quoted(graph.name)} {{",
        "  rankdir=LR;",
        '  node [fontname="DejaVu Sans", fontsize=12];',
        '  edge [fontname="DejaVu Sans", fontsize=9, arrowsize=0.6];',
    ]
    for k, node in enumerate(graph.nodes):
        text = "\n".join([node.text, *node.lines])
        tip = "\n".join(node.details)
        lines.append(
            f"  n{k} [shape={_SHAPES[node.kind]}, label={_quoted(text)}, tooltip={_quoted(tip)}];"
        )
        for j, port in enumerate(node.ports):
            if port.source is None:
                lines.append(f"  c{k}_{j} [shape=plaintext, label={_quoted(port.text)}];")
                lines.append(f"  c{k}_{j} -> n{k};")
                continue
            source = graph.nodes[port.source]
            label = _label(source, port.text, port.gradient or source.gradient)
            lines.append(f"  n{port.source} -> n{k}{label};")
    return "\n".join([*lines, "}", ""])


def _label(source: Node, part: str, gradient: str) -> str:
    """An edge's label in HTML: the value in green, and the gradient in red below it."""
    above = " ".join(text for text in (source.shape, source.value, part) if text)
    rows = [
        f'<font color="{LIGHT[role]}">{_escaped(text)}</font>'
        for role, text in (("value", above), ("gradient", gradient))
        if text
    ]
    return f" [label=<{'<br/>'.join(rows)}>]" if rows else ""


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
