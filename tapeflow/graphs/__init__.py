"""A tape as people see it: the drawn graph, the page that steps through it, tables and summaries.

The methods of `Tape` are here, each a function of its name (see ``methods.provided_by``).
"""
