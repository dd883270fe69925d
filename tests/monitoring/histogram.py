#!/usr/bin/env python3
"""Draws the echo's latency and the injected delay as SVG, from a running server: histogram.py http://HOST:PORT/metrics.

The area of a bar is its share of the requests, as in any histogram with buckets of unequal width, so a uniform delay
comes out flat. Buckets narrower than a twentieth of a second are drawn together with their neighbours: the few requests
in them would make towers out of chance. Quantiles are interpolated inside a bucket as Prometheus does it.
"""
import re
import sys
import urllib.request

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 860, 380, 64, 56, 24, 56
SHOWN = 2.5  # seconds on the axis; what takes longer is counted in the legend
NARROWEST = 0.05
DASHED = 'stroke="#0969da" stroke-width="2" stroke-dasharray="6 3"'


def buckets(text, metric, label):
    """[(upper bound, requests at most that slow)], ascending, the last one without bound."""
    pattern = re.compile(rf'^{metric}_bucket{{{label}le="([^"]+)"}} (\S+)$', re.MULTILINE)
    found = sorted((float(le.replace("+Inf", "inf")), float(count)) for le, count in pattern.findall(text))
    if not found or not found[-1][1]:
        sys.exit(f"histogram: {metric} has no observations")
    return found


def quantile(share, cumulative):
    rank, low, below = share * cumulative[-1][1], 0.0, 0.0
    for high, count in cumulative:
        if count >= rank:
            return low if high == float("inf") else low + (high - low) * (rank - below) / (count - below)
        low, below = high, count
    return low


def bars(cumulative):
    """(from, to, share of the requests for each second of width)."""
    total, low, below = cumulative[-1][1], 0.0, 0.0
    for high, count in cumulative:
        if high > SHOWN or high - low < NARROWEST:
            continue
        yield low, high, (count - below) / total / (high - low)
        low, below = high, count


def x(seconds):
    return LEFT + seconds / SHOWN * (WIDTH - LEFT - RIGHT)


def axes(top, y):
    floor = HEIGHT - BOTTOM
    for step in range(int(SHOWN / 0.25) + 1):
        at = x(step * 0.25)
        yield f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{floor}" y2="{floor + 5}" stroke="#57606a"/>'
        yield f'<text x="{at:.1f}" y="{floor + 20}" text-anchor="middle">{step * 0.25:g}</text>'
    for step in range(int(top / 0.1) + 1):
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(step * 0.1):.1f}" y2="{y(step * 0.1):.1f}" stroke="#d0d7de"/>'
        yield f'<text x="{LEFT - 8}" y="{y(step * 0.1) + 4:.1f}" text-anchor="end">{step * 2.5:g} %</text>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">seconds</text>'
    middle = (TOP + floor) / 2
    yield f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">requests in each 0.25 s</text>'


def legend(latency):
    late = latency[-1][1] - max(count for bound, count in latency if bound <= SHOWN)
    text = f"latency of {latency[-1][1]:.0f} echo requests, {late:.0f} of them above {SHOWN} s"
    yield f'<rect x="{LEFT}" y="16" width="14" height="14" fill="#fb8f44"/><text x="{LEFT + 20}" y="28">{text}</text>'
    yield f'<line x1="{LEFT + 380}" x2="{LEFT + 410}" y1="23" y2="23" {DASHED}/>'
    yield f'<text x="{LEFT + 418}" y="28">injected delay, uniform between 0 and 2 s</text>'


def picture(latency, delay):
    drawn = list(bars(latency))
    outline = list(bars(delay))
    top = 1.2 * max(share for _, _, share in drawn + outline)
    floor = HEIGHT - BOTTOM

    def y(share):
        return floor - share / top * (floor - TOP)

    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" fill="#24292f">'
    yield f'<title>Distribution of the echo\'s latency</title><rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    yield from axes(top, y)
    for low, high, share in drawn:
        yield f'<rect x="{x(low):.1f}" y="{y(share):.1f}" width="{x(high) - x(low) - 1:.1f}" height="{floor - y(share):.1f}" fill="#fb8f44"/>'
    steps = "".join(f"L{x(low):.1f} {y(share):.1f}L{x(high):.1f} {y(share):.1f}" for low, high, share in outline)
    yield f'<path d="M{x(0):.1f} {floor}{steps}L{x(outline[-1][1]):.1f} {floor}" fill="none" {DASHED}/>'
    for share in (0.5, 0.9, 0.99):
        at = quantile(share, latency)
        yield f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{TOP - 6}" y2="{floor}" stroke="#24292f" stroke-dasharray="2 3"/>'
        yield f'<text x="{x(at) - 4:.1f}" y="{TOP + 8 if share != 0.99 else TOP + 24}" text-anchor="end">p{share * 100:g} {at:.2f} s</text>'
    yield from legend(latency)
    yield "</svg>"


def main():
    with urllib.request.urlopen(sys.argv[1], timeout=10) as answer:
        text = answer.read().decode()
    latency = buckets(text, "http_request_duration_seconds", 'route="echo",')
    delay = buckets(text, "http_injected_delay_seconds", "")
    print("\n".join(picture(latency, delay)))


if __name__ == "__main__":
    main()
