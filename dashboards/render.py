#!/usr/bin/env python3
"""Draws a dashboard of this folder as SVG, from the answers of a Prometheus: an approximation of what Grafana shows.

It reads the layout, the queries, the units and the colours from the JSON file. It needs nothing but Python 3.
Panels whose queries find nothing are drawn empty and named on standard error.

    render.py overview.json --prometheus http://127.0.0.1:9090 --minutes 15 > overview.svg
"""

import argparse
import json
import math
import re
import sys
import time
import urllib.parse
import urllib.request
from xml.sax.saxutils import escape

CELL, ROW, GAP, MARGIN, HEAD = 60, 32, 8, 12, 44  # pixels; a grid cell is CELL wide and ROW high
INK, DIM, FAINT, BACK, PANEL = "#d8d9da", "#9fa3a8", "#2c3036", "#111217", "#181b1f"
COLORS = {"green": "#73bf69", "yellow": "#fade2a", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2",
          "purple": "#b877d9", "super-light-green": "#c8f2c2"}
PALETTE = ["#73bf69", "#fade2a", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffcb7d", "#96d98d", "#ff7383",
           "#37872d", "#e0b400", "#1f60c4", "#fa6400", "#c4162a", "#8f3bb8"]


class Prometheus:
    """Asks it, with Grafana's variables replaced."""

    def __init__(self, arguments):
        self.base, self.end = arguments.prometheus.rstrip("/"), arguments.end or time.time()
        self.span = 60 * arguments.minutes
        self.start, self.step = self.end - self.span, max(0.25, self.span / 240)
        self.given = dict(item.split("=", 1) for item in arguments.var)
        self.rate = arguments.rate

    def fill(self, query):
        query = query.replace("$__rate_interval", self.rate).replace("$__range", f"{int(self.span)}s")
        return re.sub(r"\$(\w+)", lambda m: self.given.get(m[1], ".*"), query)

    def get(self, path, **parameters):
        with urllib.request.urlopen(f"{self.base}/api/v1/{path}?{urllib.parse.urlencode(parameters)}") as answer:
            return json.load(answer)["data"]["result"]

    def lines(self, query):
        """For each series its labels and its points; a gap is None."""
        found = []
        for series in self.get("query_range", query=self.fill(query), start=self.start, end=self.end, step=self.step):
            at = {round((t - self.start) / self.step): float(v) for t, v in series["values"]}
            points = [at.get(i) for i in range(int(self.span / self.step) + 1)]
            found.append((series["metric"], [None if p is None or math.isnan(p) else p for p in points]))
        return found

    def now(self, query):
        rows = self.get("query", query=self.fill(query), time=self.end)
        return [(row["metric"], float(row["value"][1])) for row in rows]


def scaled(value, base, units):
    power = 0
    while abs(value) >= base and power < len(units) - 1:
        value, power = value / base, power + 1
    return (f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}") + units[power]


def plain(value):
    return scaled(value, 1000, ["", " K", " Mil", " Bil"]) if abs(value) >= 1000 else f"{value:.3g}"


def show(value, unit, decimals=None):
    """The value with its unit, as Grafana writes it, more or less."""
    if value is None or math.isnan(value):
        return "–"
    if decimals is not None and abs(value) < 1000:
        value = round(value, decimals)
    if unit == "percentunit":
        return f"{100 * value:.3g}%" if abs(value) > 1e-5 else "0%"
    if unit == "s":
        for limit, factor, name in ((1e-3, 1e6, "µs"), (1, 1e3, "ms"), (120, 1, "s"), (7200, 1 / 60, "min")):
            if abs(value) < limit:
                return f"{value * factor:.3g} {name}" if value else "0 s"
        return f"{value / 3600:.3g} h"
    if unit == "bytes":
        return scaled(value, 1024, [" B", " KiB", " MiB", " GiB"])
    if unit == "Bps":
        return scaled(value, 1000, [" B/s", " kB/s", " MB/s", " GB/s"])
    if unit == "bool_yes_no":
        return "Yes" if value else "No"
    if unit == "dateTimeFromNow":
        return f"{show(time.time() - value / 1000, 's')} ago"
    return plain(value) + {"reqps": " req/s", "ops": " ops/s"}.get(unit, "")


def colour_of(value, thresholds):
    found = INK
    for step in (thresholds or {}).get("steps", []):
        if step["value"] is None or (value is not None and value >= step["value"]):
            found = COLORS[step["color"]]
    return found


def named(legend, labels):
    text = re.sub(r"{{(\w+)}}", lambda m: labels.get(m[1], ""), legend).strip()
    return text if text != "__auto" else ""


class Drawing:
    """SVG elements, and the words for them."""

    def __init__(self):
        self.out = []

    def box(self, x, y, w, h, fill, **more):
        extra = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in more.items())
        self.out.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(w, 0):.1f}" height="{max(h, 0):.1f}" fill="{fill}"{extra}/>')

    def text(self, x, y, words, size=12, fill=INK, anchor="start", weight=400):
        self.out.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}" '
                        f'font-weight="{weight}">{escape(str(words))}</text>')

    def path(self, points, stroke, width=1.5, fill="none", opacity=1.0, dash=""):
        if points:
            d = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            dash = f' stroke-dasharray="{dash}"' if dash else ""
            self.out.append(f'<path d="{d}" stroke="{stroke}" stroke-width="{width}" fill="{fill}" opacity="{opacity}"{dash}/>')


def runs(points):
    """The stretches without a gap, as (index, value)."""
    stretch = []
    for index, value in enumerate([*points, None]):
        if value is not None:
            stretch.append((index, value))
        elif stretch:
            yield stretch
            stretch = []


def ticks(top, unit):
    """Some round numbers from 0 to a little above `top`."""
    if unit == "bytes" and top > 1024:
        return [1024 * tick for tick in ticks(top / 1024, unit)]
    step = 10 ** math.floor(math.log10(top / 4))
    step = next(step * m for m in (1, 2, 5, 10) if top / (step * m) <= 5)
    return [step * i for i in range(math.ceil(top / step - 1e-9) + 1)]


class Plot:
    """The area of a graph: where a time and a value are drawn. With a lowest value its scale is logarithmic."""

    def __init__(self, drawing, source, x, y, w, h, top, unit, low=None):
        self.x, self.y, self.w, self.h = x, y, w, h
        self.marks = ticks(top, unit) if low is None else [10 ** p for p in range(*decades(low, top))]
        self.low, self.top, self.count = self.marks[0], self.marks[-1], max(1, int(source.span / source.step))
        self.log = low is not None
        for mark in self.marks:
            drawing.path([(x, self.at(mark)), (x + w, self.at(mark))], FAINT, 1)
            drawing.text(x - 6, self.at(mark) + 4, show(mark, unit), 10, DIM, "end")
        time_axis(drawing, source, x, y + h, w)

    def across(self, index):
        return self.x + self.w * index / self.count

    def at(self, value):
        if self.log:
            part = math.log(max(value, self.low) / self.low) / math.log(self.top / self.low)
        else:
            part = min(value, self.top) / self.top
        return self.y + self.h * (1 - part)


def decades(low, top):
    """The powers of ten from below one value to above another."""
    first = math.floor(math.log10(low) + 1e-9)
    return first, max(first + 1, math.ceil(math.log10(top) - 1e-9)) + 1


def time_axis(drawing, source, x, y, w):
    pieces = max(2, int(w / 110))
    for i in range(pieces + 1):
        drawing.text(x + w * i / pieces, y + 14, time.strftime("%H:%M:%S", time.localtime(source.start + source.span * i / pieces)),
                     10, DIM, "middle" if 0 < i < pieces else "start" if i == 0 else "end")


def series_of(panel, source):
    found = []
    for target in panel["targets"]:
        for labels, points in source.lines(target["expr"]):
            found.append((named(target["legendFormat"], labels), points))
    return sorted(found, key=lambda one: one[0]) if len(panel["targets"]) == 1 else found


def last(points):
    return next((p for p in reversed(points) if p is not None), None)


def values_of(points):
    return [p for p in points if p is not None]


# What a legend tells of a line.
CALCS = {
    "lastNotNull": ("Last", last),
    "max": ("Max", lambda points: max(values_of(points), default=None)),
    "min": ("Min", lambda points: min(values_of(points), default=None)),
}


def draw_lines(drawing, panel, source, marks, x, y, w, h):
    defaults = panel["fieldConfig"]["defaults"]
    unit, stacked = defaults["unit"], defaults["custom"]["stacking"]["mode"] == "normal"
    fixed = {o["matcher"]["options"]: o["properties"][0]["value"]["fixedColor"] for o in panel["fieldConfig"]["overrides"]}
    found = series_of(panel, source)
    shown, base = [], [0.0] * (int(source.span / source.step) + 1)
    for index, (name, points) in enumerate(found):
        color = COLORS[fixed[name]] if name in fixed else PALETTE[index % len(PALETTE)]
        drawn = points
        if stacked:
            drawn = [b + (p or 0) for b, p in zip(base, points)]
        shown.append((name, color, points, drawn, base))
        base = drawn if stacked else base
    legend = min(len(shown), 7) * 16 + 18
    top = max([p for *_, drawn, _ in shown for p in drawn if p is not None], default=1) or 1
    low = None
    if "scaleDistribution" in defaults["custom"]:
        low = min([p for *_, drawn, _ in shown for p in drawn if p], default=top / 10)
    plot = Plot(drawing, source, x + 62, y + 4, w - 74, h - legend - 28, top, unit, low)
    for at, until, color in marks:
        left, right = (plot.x + plot.w * (t - source.start) / source.span for t in (at, until))
        drawing.box(left, plot.y, max(right - left, 0), plot.h, color, opacity=0.12)
        drawing.path([(left, plot.y), (left, plot.y + plot.h)], color, 1, dash="3 3")
    if "thresholds" in defaults:
        for step in defaults["thresholds"]["steps"][1:]:
            if step["value"] <= plot.top:
                drawing.path([(plot.x, plot.at(step["value"])), (plot.x + plot.w, plot.at(step["value"]))],
                             COLORS[step["color"]], 1, opacity=0.6, dash="8 6")
    bars = defaults["custom"]["drawStyle"] == "bars"
    for name, color, points, drawn, under in shown:
        for index, value in enumerate(drawn if bars else []):
            if value:
                drawing.box(plot.across(index), plot.at(value), max(2, plot.w / plot.count), plot.y + plot.h - plot.at(value), color)
        for stretch in runs(drawn if not bars else []):
            line = [(plot.across(i), plot.at(v)) for i, v in stretch]
            floor = [(plot.across(i), plot.at(under[i] if stacked else 0)) for i, _ in reversed(stretch)]
            if not plot.log:
                drawing.path(line + floor, "none", 0, color, 0.4 if stacked else 0.08)
            drawing.path(line if len(line) > 1 else line * 2, color, 1.4)
    bottom = y + h - legend + 2
    calcs = [CALCS[name] for name in panel["options"]["legend"]["calcs"]]
    for place, (heading, _) in enumerate(reversed(calcs)):
        drawing.text(x + w - 14 - 82 * place, bottom + 8, heading, 10, DIM, "end")
    for index, (name, color, points, *_) in enumerate(shown[:7]):
        at = bottom + 12 + 16 * index
        drawing.box(x + 12, at + 3, 12, 4, color, rx=2)
        drawing.text(x + 30, at + 9, name if index < 6 or len(shown) == 7 else f"... and {len(shown) - 6} more", 11)
        for place, (_, calculate) in enumerate(reversed(calcs)):
            drawing.text(x + w - 14 - 82 * place, at + 9, show(calculate(points), unit), 11, INK, "end")
    return bool(found)


def draw_stat(drawing, panel, source, marks, x, y, w, h):
    defaults = panel["fieldConfig"]["defaults"]
    found = series_of(panel, source)
    for index, (name, points) in enumerate(found):
        left, width, value = x + w * index / len(found), w / len(found), last(points)
        color = colour_of(value, defaults["thresholds"])
        top = max([p for p in points if p is not None], default=1) or 1
        area = [(left + 4 + (width - 8) * i / (len(points) - 1), y + h - 4 - (h * 0.35) * (p or 0) / top) for i, p in enumerate(points)]
        drawing.path([(left + 4, y + h - 4), *area, (left + width - 4, y + h - 4)], "none", 0, color, 0.15)
        drawing.path(area, color, 1, opacity=0.7)
        if name:
            drawing.text(left + width / 2, y + 14, name, 12, DIM, "middle")
        drawing.text(left + width / 2, y + h * 0.52, show(value, defaults["unit"], defaults.get("decimals")), 26 if len(found) == 1 else 24, color, "middle", 500)
    return bool(found)


def mapped(value, mappings):
    """The name of a range of values."""
    for options in (m["options"] for m in mappings if m["type"] == "range"):
        if options["from"] <= value <= options["to"]:
            return options["result"]["text"]
    return show(value, "short")


def draw_states(drawing, panel, source, marks, x, y, w, h):
    defaults, found = panel["fieldConfig"]["defaults"], series_of(panel, source)
    height = (h - 24) / max(len(found), 1)
    for index, (name, points) in enumerate(found):
        top, wide = y + index * height, w - 180
        drawing.text(x + 150, top + height / 2 + 4, name, 11, INK, "end")
        start = 0
        for i in range(1, len(points) + 1):
            if i == len(points) or points[i] != points[start]:
                if points[start] is not None:
                    left, long = x + 160 + wide * start / len(points), wide * (i - start) / len(points)
                    drawing.box(left, top + 2, long, height - 4, colour_of(points[start], defaults["thresholds"]), opacity=0.75)
                    if long > 60:
                        drawing.text(left + 6, top + height / 2 + 4, mapped(points[start], defaults["mappings"]), 11, BACK)
                start = i
    time_axis(drawing, source, x + 160, y + h - 22, w - 180)
    return bool(found)


def draw_heat(drawing, panel, source, marks, x, y, w, h):
    rows = sorted(((float(labels["le"]), points) for labels, points in source.lines(panel["targets"][0]["expr"])), key=lambda r: r[0])
    cells = [(high[0], [(b or 0) - (a or 0) for a, b in zip(low, high[1])])
             for low, high in zip([[0.0] * len(rows[0][1]), *(r[1] for r in rows)], rows)] if rows else []
    used = [i for i, (_, row) in enumerate(cells) if max(row) > 0]
    cells = cells[min(used):max(used) + 1] if used else []
    most = max([v for _, row in cells for v in row], default=1) or 1
    left, wide, high = x + 62, w - 74, (h - 28) / max(len(cells), 1)
    for index, (bound, row) in enumerate(cells):
        at = y + 4 + high * (len(cells) - 1 - index)
        if index % max(1, len(cells) // 8) == 0:
            drawing.text(left - 6, at + 4, show(bound, panel["options"]["yAxis"]["unit"]) if bound < 1e9 else "∞", 10, DIM, "end")
        for i in range(0, len(row) - 3, 4):
            value = sum(row[i:i + 4]) / 4
            if value > 0:
                drawing.box(left + wide * i / len(row), at, wide * 4 / len(row) - 0.5, high - 0.5, COLORS["orange"],
                            opacity=f"{0.1 + 0.9 * math.sqrt(value / most):.2f}")
    time_axis(drawing, source, left, y + h - 22, wide)
    return bool(cells)


def draw_table(drawing, panel, source, marks, x, y, w, h):
    rename = panel["transformations"][-1]["options"]["renameByName"]
    labels = {k: v for k, v in rename.items() if not k.startswith("Value")}
    values = [v for k, v in rename.items() if k.startswith("Value")]
    rows = {}
    for heading, target in zip(values, panel["targets"]):
        for metric, value in source.now(target["expr"]):
            # Rows that share the labels they have in common are merged.
            key = tuple(metric.get(label, "") for label in labels)
            same = next((k for k in rows if all(a == b or not b for a, b in zip(k, key))), key)
            rows.setdefault(same, {})[heading] = value
    settings = {o["matcher"]["options"]: {p["id"]: p["value"] for p in o["properties"]} for o in panel["fieldConfig"]["overrides"]}
    columns, wide = [*labels.values(), *values], w / (len(labels) + len(values))
    for index, name in enumerate(columns):
        right = index >= len(labels)
        at = x + wide * (index + right) + (-14 if right else 14)
        drawing.text(at, y + 14, name, 12, COLORS["blue"], "end" if right else "start", 500)
    sort = panel["options"]["sortBy"][0]["displayName"]
    for line, (key, cells) in enumerate(sorted(rows.items(), key=lambda r: -r[1].get(sort, 0))[:int((h - 24) / 24)]):
        at = y + 38 + 24 * line
        drawing.path([(x + 8, at - 16), (x + w - 8, at - 16)], FAINT, 1)
        for index, words in enumerate(key):
            linked = "links" in settings.get(columns[index], {})
            drawing.text(x + wide * index + 14, at, words, 12, COLORS["blue"] if linked else INK)
        for index, name in enumerate(values, len(labels)):
            how, value = settings.get(name, {}), cells.get(name)
            drawing.text(x + wide * (index + 1) - 14, at, show(value, how.get("unit"), how.get("decimals")), 12, colour_of(value, how.get("thresholds")), "end")
    return bool(rows)


DRAW = {"timeseries": draw_lines, "stat": draw_stat, "state-timeline": draw_states, "heatmap": draw_heat, "table": draw_table}


def marks_of(board, source):
    """The annotations: from, until, colour."""
    for annotation in board["annotations"]["list"]:
        for _, points in source.lines(annotation["expr"]):
            for stretch in runs(points):
                yield source.start + stretch[0][0] * source.step, source.start + stretch[-1][0] * source.step, COLORS[annotation["iconColor"]]


def render(board, source, rows):
    drawing, marks = Drawing(), list(marks_of(board, source))
    heads = [p["gridPos"]["y"] for p in board["panels"] if p["type"] == "row"] + [10_000]
    panels = [p for p in board["panels"] if p["gridPos"]["y"] < heads[min(rows, len(heads) - 1)]]
    width = 24 * CELL + 2 * MARGIN
    height = HEAD + ROW * max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels) + MARGIN
    drawing.box(0, 0, width, height, BACK)
    drawing.text(MARGIN + 4, 28, board["title"], 18, INK, weight=500)
    chosen = "    ".join(f"{v['label']}: {source.given.get(v['name'], 'All')}" for v in board["templating"]["list"] if v["type"] == "query")
    drawing.text(width - MARGIN - 4, 28, chosen, 12, DIM, "end")
    for panel in panels:
        grid = panel["gridPos"]
        x, y = MARGIN + grid["x"] * CELL, HEAD + grid["y"] * ROW
        w, h = grid["w"] * CELL - GAP, grid["h"] * ROW - GAP
        if panel["type"] == "row":
            drawing.text(x + 4, y + 18, panel["title"], 14, INK, weight=500)
            continue
        drawing.box(x, y, w, h, PANEL, rx=3, stroke=FAINT)
        drawing.text(x + 10, y + 20, panel["title"], 13, INK, weight=500)
        if not DRAW[panel["type"]](drawing, panel, source, marks, x, y + 28, w, h - 28):
            drawing.text(x + w / 2, y + h / 2 + 10, "No data", 14, DIM, "middle")
            print(f"no data: {panel['title']}", file=sys.stderr)
    family = "Inter, Roboto, 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="{family}">\n' + "\n".join(drawing.out) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dashboard", help="overview.json or one of the others")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="its address")
    parser.add_argument("--minutes", type=float, default=60, help="how much time to draw")
    parser.add_argument("--end", type=float, help="until when, in seconds since 1970; otherwise until now")
    parser.add_argument("--rate", default="1m", help="what $__rate_interval is: four times the scrape interval")
    parser.add_argument("--rows", type=int, default=99, help="only so many rows of panels")
    parser.add_argument("--var", action="append", default=[], help="name=value of a variable, a regular expression; otherwise all")
    arguments = parser.parse_args()
    with open(arguments.dashboard, encoding="utf-8") as file:
        board = json.load(file)
    sys.stdout.write(render(board, Prometheus(arguments), arguments.rows))


main()
