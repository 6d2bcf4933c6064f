"""Functions that branch: the tree of their paths, and which of them each sample takes."""
