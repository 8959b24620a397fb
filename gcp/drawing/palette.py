"""Colours of figures and pages, each for light and for dark paper.

All but that of lines of a grid have a contrast of at least 4.5 to their paper (WCAG 2.1, level AA for text).
"""

COLOURS = {
    "paper": ("#ffffff", "#14171b"),
    "ink": ("#1b1f24", "#e6e9ed"),
    "mute": ("#5d6570", "#9aa4b0"),
    "line": ("#d6dade", "#363d46"),
    "blue": ("#2a6099", "#6fb0ee"),
    "green": ("#1e7040", "#5cc486"),
    "red": ("#b0303f", "#f58a97"),
    "gold": ("#856200", "#dcb441"),
    "violet": ("#7a4499", "#c79be6"),
}
LIGHT = {name: pair[0] for name, pair in COLOURS.items()}
SERIES = tuple(LIGHT[name] for name in ("blue", "red", "green", "gold", "violet", "ink"))
# colour and marker by standing, so that neither has to be seen
STANDING = {
    "reference": (LIGHT["ink"], "D"),
    "better": (LIGHT["green"], "^"),
    "equal": (LIGHT["blue"], "d"),
    "undecided": (LIGHT["blue"], "o"),
    "worse": (LIGHT["red"], "v"),
    "untested": (LIGHT["mute"], "s"),
    "failed": (LIGHT["mute"], "x"),
}


def variables(dark: bool) -> str:
    """The colours as CSS variables, `--ink: #1b1f24; ...`."""
    return " ".join(f"--{name}: {pair[dark]};" for name, pair in COLOURS.items())
