"""The text of a figure: slim, with a description, as a file of its own or inside a page whose colours it takes."""

import re
from html import escape

from gcp.drawing.palette import COLOURS


def slim(svg: str) -> str:
    """Without metadata, with names only where they are used, and coordinates to a tenth of a point."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = svg.replace("font-family: 'DejaVu Sans'; ", "")
    svg = svg.replace("<svg ", """<svg font-family="'DejaVu Sans', Verdana, sans-serif" """, 1)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    svg = re.sub(r' (?:d|x|y|transform)="[^"]*"', _short, svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    while "<g>\n</g>" in svg or "<g/>" in svg:
        svg = svg.replace("<g>\n</g>\n", "").replace("<g/>\n", "")
    return svg


def _short(found: re.Match) -> str:
    """An attribute with rounded numbers, and in a path without the letter of lines after lines."""
    text = re.sub(r"\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), found[0])
    return re.sub(r"\s*\n(?:L )?", " ", text) if "C" not in text and "Q" not in text else text


def standalone(svg: str, alt: str) -> str:
    """The figure as a file: white paper, its description inside."""
    return '<?xml version="1.0" encoding="utf-8"?>\n' + _described(svg, alt, "")


def inline(svg: str, alt: str, name: str) -> str:
    """The figure inside a page, whose colours it takes."""
    for colour, (light, _) in COLOURS.items():
        svg = svg.replace(light, f"var(--{colour})")
    svg = (
        re.sub(r' (?:xmlns(?::xlink)?|version|width|height)="[^"]*"', "", svg[: svg.index(">")]) + svg[svg.index(">") :]
    )
    return _described(svg.replace("xlink:href", "href"), alt, name)


def _described(svg: str, alt: str, name: str) -> str:
    end = svg.index(">")
    key = f"alt-{name}" if name else "alt"
    return f'{svg[:end]} role="img" aria-labelledby="{key}"><title id="{key}">{escape(alt)}</title>{svg[end + 1 :]}'
