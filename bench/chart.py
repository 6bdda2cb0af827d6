# SPDX-License-Identifier: MIT
"""Horizontal bars as SVG, for bench/report.py: light or dark as the reader's system is, on a ground of its own."""
import dataclasses
import math
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 860, 250, 110  # the names stand left of the bars, the figures right of them
ROW, HEAD, TOP, BOTTOM = 18, 26, 56, 34
STYLE = """
  .ground { fill: #ffffff } text { fill: #1f2328; font: 12px sans-serif } .title { font-size: 15px; font-weight: bold }
  .head { font-weight: bold } .note, .tick { fill: #59636e } .grid { stroke: #d1d9e0 } .spread, .goal { stroke: #1f2328 }
  .ours { fill: #1a7f64 } .peer { fill: #8c959f } .missed { fill: #d1632a }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117 } text { fill: #e6edf3 } .note, .tick { fill: #9198a1 } .grid { stroke: #30363d }
    .spread, .goal { stroke: #e6edf3 } .ours { fill: #3fb68b } .peer { fill: #6e7681 } .missed { fill: #f0883e }
  }
"""


@dataclasses.dataclass
class Bar:
    label: str
    value: float | None  # None: no bar, but its text
    text: str
    look: str  # ours, peer, missed
    spread: tuple[float, float] | None = None
    goal: float | None = None


class Axis:
    """From values to the width of the bars. On a logarithmic one everything from 0 down begins at the left."""

    def __init__(self, values, scale):
        self.log = scale == "log"
        most = max(values, default=1) or 1
        self.ticks = log_ticks([value for value in values if value > 0] or [1]) if self.log else linear_ticks(most)

    def x(self, value):
        first, last = self.ticks[0], self.ticks[-1]
        if self.log:
            share = math.log(max(value, first) / first) / math.log(last / first)
        else:
            share = max(value, 0) / last
        return LEFT + share * (WIDTH - LEFT - RIGHT)


def log_ticks(values):
    """1, 2, 5, 10 ... around the values, or powers of ten where these would be many. The least value has a bar, too."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    steps = (1, 2, 5) if high - low <= 2 else (1,)
    ticks = [step * 10.0 ** power for power in range(low - 1, high + 1) for step in steps]
    first = max((i for i, tick in enumerate(ticks) if tick < min(values)), default=0)
    last = next((i for i, tick in enumerate(ticks) if tick >= max(values)), len(ticks) - 1)
    return ticks[first:last + 1]


def linear_ticks(most):
    power = 10.0 ** math.floor(math.log10(most))
    step = next(part * power for part in (0.2, 0.5, 1, 2) if most <= 5 * part * power)
    return [i * step for i in range(math.ceil(most / step - 1e-9) + 1)]


def text(x, y, words, look, anchor="start"):
    return f'<text class="{look}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1, y1, x2, y2, look):
    return f'<line class="{look}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def draw_bar(bar, y, axis):
    drawn = [text(LEFT - 8, y + 13, bar.label, "label", "end")]
    end = LEFT
    if bar.value is not None:
        end = axis.x(bar.value)
        drawn.append(f'<rect class="{bar.look}" x="{LEFT}" y="{y + 3}" width="{max(end - LEFT, 1):.1f}" height="{ROW - 6}"/>')
    if bar.spread:
        low, high = (axis.x(value) for value in bar.spread)
        drawn.append(line(low, y + ROW / 2, high, y + ROW / 2, "spread"))
        end = max(end, high)
    if bar.goal is not None:
        drawn.append(line(axis.x(bar.goal), y + 1, axis.x(bar.goal), y + ROW - 1, "goal"))
        end = max(end, axis.x(bar.goal))
    return drawn + [text(end + 6, y + 13, bar.text, "figure")]


def draw(title, note, groups, scale):
    """`groups`: (heading, bars) from top to bottom; no heading where it is empty. `scale`: linear or log."""
    bars = [bar for _, found in groups for bar in found]
    values = [value for bar in bars if bar.value is not None
              for value in (bar.value, *(bar.spread or ()), *([] if bar.goal is None else [bar.goal]))]
    axis = Axis(values, scale)
    height = TOP + sum(HEAD * bool(heading) + ROW * len(found) for heading, found in groups) + BOTTOM
    drawn = [text(12, 22, title, "title"), text(12, 42, note, "note")]
    for tick in axis.ticks:
        drawn += [line(axis.x(tick), TOP, axis.x(tick), height - BOTTOM + 4, "grid"),
                  text(axis.x(tick), height - BOTTOM + 18, f"{tick:,.12g}".replace(",", " "), "tick", "middle")]
    y = TOP
    for heading, found in groups:
        if heading:
            drawn.append(text(12, y + 18, heading, "head"))
            y += HEAD
        for bar in found:
            drawn += draw_bar(bar, y, axis)
            y += ROW
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
                      f'viewBox="0 0 {WIDTH} {height}" role="img">',
                      f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>",
                      f'<rect class="ground" width="{WIDTH}" height="{height}"/>', *drawn, "</svg>", ""])
