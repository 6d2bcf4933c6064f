"""The colours of pictures, pages and tables: one table for light and dark, and who uses it how.

Green and red are the lecture's, as shades that people who confuse green with red tell apart (the
green is bluish and the red orange, after Okabe and Ito, "Color universal design", 2008); values
stand above a wire and gradients below it as well, so that nothing hangs on the colour alone.
"""

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1f2933",
    "faint": "#5f6b76",
    "wire": "#8794a1",
    "gate": "#f4f7fb",
    "edge": "#4a5b6d",
    "value": "#00755c",
    "gradient": "#b93c00",
    "accent": "#0b62b3",
    "lit": "#fff1c4",
}
"""Each role's colour on light paper."""

DARK = {
    "paper": "#14181d",
    "ink": "#e6ebf0",
    "faint": "#9aa7b4",
    "wire": "#66727e",
    "gate": "#222a33",
    "edge": "#94a5b6",
    "value": "#45d0a8",
    "gradient": "#ff9a62",
    "accent": "#78b8f5",
    "lit": "#54481a",
}
"""Each role's colour on dark paper."""

TEXT = ("ink", "faint", "value", "gradient", "accent")
"""The roles that text is written in."""

FONT = '"DejaVu Sans", Verdana, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
"""The widest first: widths are measured for DejaVu Sans, and no other here is wider."""

MONO = 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace'

RICH = {"heading": "bold", "title": "bold", "value": "green", "gradient": "red"}
"""The styles of columns on a terminal, whose own colours fit it."""


def variables(colours: dict[str, str]) -> str:
    """Colours as CSS variables."""
    return "".join(f"--{role}:{colour};" for role, colour in colours.items())


def html_style() -> str:
    """The style of tables in a notebook."""
    return (
        "<style>"
        f".tapeflow{{{variables(LIGHT)}}}"
        f"@media (prefers-color-scheme:dark){{.tapeflow{{{variables(DARK)}}}}}"
        f".tapeflow table{{font-family:{MONO};font-size:13px;border-collapse:collapse;"
        "background:var(--paper);color:var(--ink);margin:0 0 1em}"
        ".tapeflow caption{text-align:left;font-weight:bold;padding:4px 8px}"
        ".tapeflow th,.tapeflow td{padding:2px 10px;text-align:right;border:0;"
        "white-space:nowrap;font-variant-numeric:tabular-nums}"
        ".tapeflow th{border-bottom:1px solid var(--wire)}"
        ".tapeflow .text{text-align:left}"
        ".tapeflow td.value{color:var(--value)}.tapeflow td.gradient{color:var(--gradient)}"
        "</style>"
    )
