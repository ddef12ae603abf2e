"""A program that makes PNG and PDF of charts: ``python draw_files.py FOLDER NAME...`` reads FOLDER/NAME.json.

For NAME "library.js" it writes the JavaScript that draws charts in a page.

It is run by its path, beside the program that writes the page: vl-convert holds the interpreter while it draws, and
what else a study needs takes longer to import than a chart to draw. Hence it imports nothing of this package.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import vl_convert

LIBRARY = "library.js"
PIXELS = 3e6
"""Pixels of a PNG, at most: half of the time for a large one goes into its compression."""
SCALE = 1.5
"""Pixels of the PNG for a pixel of the chart, at most."""


def scale_of(svg: str) -> float:
    """The scale at which a chart has no more than :data:`PIXELS`."""
    size = ElementTree.fromstring(svg).attrib
    return min(SCALE, (PIXELS / (float(size["width"]) * float(size["height"]))) ** 0.5)


def draw(folder: Path, name: str) -> None:
    svg = vl_convert.vegalite_to_svg((folder / f"{name}.json").read_text(encoding="utf-8"), allowed_base_urls=[])
    (folder / f"{name}.png").write_bytes(vl_convert.svg_to_png(svg, scale=scale_of(svg)))
    (folder / f"{name}.pdf").write_bytes(vl_convert.svg_to_pdf(svg))


if __name__ == "__main__":
    for each in sys.argv[2:]:
        if each == LIBRARY:
            library = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub forgets the default
            Path(sys.argv[1], LIBRARY).write_text(library, encoding="utf-8")
        else:
            draw(Path(sys.argv[1]), each)
