"""Tapes in other languages: C, JAX and ONNX, each from the rules that the library itself runs."""
