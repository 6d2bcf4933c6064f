"""Settings of the test run."""

from hypothesis import settings

# The first example that meets an op compiles its kernel, and takes as long as that takes.
settings.register_profile("tapeflow", deadline=None)
settings.load_profile("tapeflow")
