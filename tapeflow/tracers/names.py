"""Names of functions: an array's methods that are NumPy's, and what errors recommend."""

import re

# SciPy's functions in Python make plain arrays of their arguments.
_OURS = {
    "special": "logsumexp|softmax|log_softmax|polygamma",
    "linalg": "solve_triangular|cho_solve|cho_factor|expm",
}

METHODS = {
    name: name
    for name in (
        "sum", "mean", "prod", "var", "std", "max", "min", "argmax", "argmin", "argsort",
        "cumsum", "cumprod", "clip", "round", "swapaxes", "squeeze", "repeat", "take",
        "diagonal", "trace", "dot", "all", "any", "searchsorted", "choose", "partition", "ptp",
        "nonzero", "compress",
    )
} | {"conj": "conjugate", "conjugate": "conjugate"}  # fmt: skip


def instead_of_plain(line: str) -> str:
    """What to do where the user's line would make a traced array plain."""
    for module, functions in _OURS.items():
        call = re.search(rf"\b({functions})\(", line)
        if call:
            return f"use tpf.{module}.{call[1]}, which takes traced arrays"
    if re.search(r"\]\s*[-+*/]?=[^=]", line):
        return "make the array that it is put in with np.zeros_like of a traced one"
    if re.search(r"\bin\b", re.sub(r"\bfor\b.*?\bin\b", "", line)):
        return "use np.any(array == x) in place of `x in array`, or a list"
    return "use it as it is: NumPy's functions take it; np.stack joins several"
