"""A curve over a growing size, as SVG: both axes logarithmic, so that a constant factor is a constant distance."""

import math
from html import escape

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 72, 24, 48, 48
# The colours of `ringload report`. What shows drawings without style sheets takes the light ones.
PAPER, INK, SOFT, GRID, LINE = "#FCFCFB", "#0B0B0B", "#52514E", "#E1E0D9", "#2A78D6"
DARK = {PAPER: "#1A1A19", INK: "#F4F4F2", SOFT: "#C3C2B7", GRID: "#2C2C2A", LINE: "#3987E5"}
STYLE = "@media (prefers-color-scheme:dark){" + "".join(
    f'[fill="{light}"]{{fill:{dark}}}[stroke="{light}"]{{stroke:{dark}}}' for light, dark in DARK.items()) + "}"


def svg(title, axis, points, text):
    """`points`: a number that is not negative, a positive one, and whether it can be trusted, ascending; `text` writes a value
    of y. What cannot be trusted is hollow."""
    # Zero has no logarithm: it stands where a tenth of the first other value would.
    zero = min((x for x, *_ in points if x > 0), default=1) / 10
    x_low, x_high = bounds([x or zero for x, *_ in points])
    y_low, y_high = bounds([y for _, y, _ in points])

    def at(x, y):
        across = (math.log10(x or zero) - x_low) / (x_high - x_low)
        up = (math.log10(y) - y_low) / (y_high - y_low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
             f'<style>{STYLE}</style><rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>', label(LEFT, 26, title, INK, size=15)]
    for power in range(math.ceil(y_low), math.floor(y_high) + 1):
        _, y = at(10**x_low, 10**power)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
        parts.append(label(LEFT - 8, y + 4, text(10**power), SOFT, "end"))
    places = [(*at(x, y), x, y, trusted) for x, y, trusted in points]
    parts.append(f'<polyline fill="none" stroke="{LINE}" stroke-width="2" points="'
                 + " ".join(f"{px:.1f},{py:.1f}" for px, py, *_ in places) + '"/>')
    for px, py, x, y, is_trusted in places:
        fill = LINE if is_trusted else PAPER
        parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{fill}" stroke="{LINE}" stroke-width="1.5"/>')
        parts.append(label(px, py - 10, text(y), INK, "middle"))
        parts.append(label(px, HEIGHT - BOTTOM + 18, f"{x:,}", SOFT, "middle"))
    parts.append(label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, axis, SOFT, "middle"))
    return "\n".join([*parts, "</svg>", ""])


def bounds(values):
    """A little more than the values take, and a factor of ten at least."""
    low, high = math.log10(min(values)), math.log10(max(values))
    room = max(0.1, (1 - (high - low)) / 2)
    return low - room, high + room


def label(x, y, text, color, anchor="start", size=12):
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
