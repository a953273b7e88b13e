"""Draws the most important results as bars, in SVG that is readable on white and on black."""

from collections.abc import Mapping
from xml.sax.saxutils import escape

from benchmarks.bench.figures import REFERENCE, Results, load_at

CONNECTIONS = 32
LIMIT = "nginx"
"""Its bar may be cut: at full length it would make the others invisible."""

_STYLE = """
text { font: 13px sans-serif; fill: #24292f }
.title { font-weight: bold }
rect { fill: #0969da }
.reference { fill: #8c959f }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  rect { fill: #4493f8 }
  .reference { fill: #7d8590 }
}
"""
_NAMES, _BARS, _NUMBERS = 170, 420, 90
"""Widths, in pixels."""

_ROW, _TITLE, _GAP = 24, 34, 6


def draw(results: Results) -> str:
    """Return the plot: CPU time a request, and requests a second."""
    measure = load_at(CONNECTIONS)
    names = results.contestants(measure)
    height = 2 * (_TITLE + _ROW * len(names))
    panels = (
        (f"CPU milliseconds a request, {measure}: less is better", "cpu_ms", ".2f"),
        (f"Requests a second, {measure}: more is better", "per_second", ",.0f"),
    )
    parts = [
        _panel(number * height // 2, title, {name: results.median(measure, name, figure) or 0 for name in names}, form)
        for number, (title, figure, form) in enumerate(panels)
    ]
    width = _NAMES + _BARS + _NUMBERS
    body = "\n".join([f"<style>{_STYLE}</style>", *parts])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height + _GAP}"'
        f' viewBox="0 0 {width} {height + _GAP}" role="img">\n{body}\n</svg>\n'
    )


def _panel(top: int, title: str, figures: Mapping[str, float], form: str) -> str:
    longest = max((value for name, value in figures.items() if name != LIMIT), default=0) or 1
    lines = [f'<text class="title" x="0" y="{top + 20}">{escape(title)}</text>']
    for number, (name, value) in enumerate(figures.items()):
        lines += _row(top + _TITLE + number * _ROW, name, value / longest, format(value, form))
    return "\n".join(lines)


def _row(top: int, name: str, length: float, figure: str) -> list[str]:
    """Draw a bar. Its length is a share of the longest; of a longer bar only both ends are drawn."""
    kind = "reference" if name in {LIMIT, REFERENCE} else "ours"
    height, middle = _ROW - _GAP, top + _ROW // 2 + 2
    end = _NAMES + _BARS * min(length, 1)
    pieces = [(_NAMES, end)] if length <= 1 else [(_NAMES, end - 24), (end - 18, end)]
    return [
        f'<text x="{_NAMES - 8}" y="{middle}" text-anchor="end">{escape(name)}</text>',
        *(
            f'<rect class="{kind}" x="{start:.1f}" y="{top}" width="{stop - start:.1f}" height="{height}"/>'
            for start, stop in pieces
        ),
        f'<text x="{end + 6:.1f}" y="{middle}">{escape(figure)}</text>',
    ]
