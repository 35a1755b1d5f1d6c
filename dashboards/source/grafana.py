"""Grafana's classic dashboard model, as far as these dashboards use it: panels, variables, annotations, layout.

In a query `<proxy>`, `<pool>` and `<server>` stand for the label matchers of the dashboard's variables.
"""

import re

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

MATCHERS = {
    "<proxy>": 'job=~"$job", instance=~"$instance"',
    "<pool>": 'job=~"$job", instance=~"$instance", pool=~"$pool"',
    "<server>": 'job=~"$job", instance=~"$instance", pool=~"$pool", server=~"$server"',
}

GREEN, YELLOW, ORANGE, RED, BLUE = "green", "yellow", "orange", "red", "blue"

WIDTH = 24  # of a dashboard, in Grafana's grid


def expand(query):
    """One line, with the matchers of the variables."""
    for mark, matchers in MATCHERS.items():
        query = query.replace(mark, matchers)
    return re.sub(r"\s+", " ", query).replace("( ", "(").replace(" )", ")").strip()


def ratio(part, whole):
    """A share; nothing, rather than 0 / 0, when there is no whole."""
    return f"{part} / ({whole} > 0)"


def quantile(q, histogram, matchers, by=""):
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{{{matchers}}}[$__rate_interval])))"


def average(histogram, matchers, by=""):
    group = f" by ({by})" if by else ""
    total, count = (f"sum{group} (rate({histogram}_{end}{{{matchers}}}[$__rate_interval]))" for end in ("sum", "count"))
    return ratio(total, count)


def thresholds(*steps):
    """`thresholds(GREEN, (0.01, RED))`: green, and red from 0.01."""
    first, *more = steps
    return {"mode": "absolute", "steps": [{"color": first, "value": None}] + [{"color": c, "value": v} for v, c in more]}


NOT_A_NUMBER = {"type": "special", "options": {"match": "nan", "result": {"text": "–", "index": 0}}}


def mapping(**states):
    """`mapping(live=(1, 1, GREEN))`: from 1 to 1 is shown as `live`, in green."""
    return [
        {"type": "range", "options": {"from": low, "to": high, "result": {"text": text, "color": color, "index": index}}}
        for index, (text, (low, high, color)) in enumerate(states.items())
    ]


class Panel:
    """One panel. `queries` is a query, or a mapping from legend to query."""

    kind = None
    size = (8, 8)  # width and height
    instant = False

    def __init__(self, title, description, unit, queries, *, width=None, height=None, **options):
        self.title, self.description, self.unit = title, description, unit
        self.queries = queries if isinstance(queries, dict) else {"": queries}
        self.width, self.height = width or self.size[0], height or self.size[1]
        self.set = options

    def json(self, number, x, y):
        panel = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "datasource": DATASOURCE,
            "targets": [self.target(index, legend, query) for index, (legend, query) in enumerate(self.queries.items())],
            "fieldConfig": {"defaults": self.defaults(), "overrides": self.overrides()},
            "options": self.options(),
        }
        transformations = self.transformations()
        return panel | ({"transformations": transformations} if transformations else {})

    def target(self, index, legend, query):
        return {
            "refId": chr(ord("A") + index),
            "datasource": DATASOURCE,
            "editorMode": "code",
            "expr": expand(query),
            "legendFormat": legend or "__auto",
            "instant": self.instant,
            "range": not self.instant,
        }

    def defaults(self):
        defaults = {"unit": self.unit, "min": 0}
        for name in ("max", "decimals", "thresholds"):
            if name in self.set:
                defaults[name] = self.set[name]
        defaults["mappings"] = self.set.get("mappings", [])
        return defaults

    def overrides(self):
        return []

    def transformations(self):
        return []


class Stat(Panel):
    """A number, coloured by its thresholds, over a small graph of its course."""

    kind = "stat"
    size = (3, 4)

    def defaults(self):
        defaults = super().defaults()
        defaults["mappings"] = [*defaults["mappings"], NOT_A_NUMBER]
        defaults.setdefault("thresholds", thresholds(BLUE))
        return defaults | {"color": {"mode": "thresholds"}, "noValue": "–"}

    def options(self):
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": "auto" if len(self.queries) == 1 else "value_and_name",
        }


class Lines(Panel):
    """Lines over time. `stack=True` for parts of a whole, `bars=True` for counts of rare events, `log=True` for what
    spans powers of ten, `colors` by legend; `legend` is what the legend's table says of each."""

    kind = "timeseries"

    def defaults(self):
        stack = self.set.get("stack", False)
        custom = {
            "drawStyle": "bars" if self.set.get("bars") else "line",
            "lineInterpolation": "linear",
            "lineWidth": 1,
            "fillOpacity": 40 if stack else 8,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if stack else "none", "group": "A"},
            "axisSoftMin": 0,
        }
        if "thresholds" in self.set:
            custom["thresholdsStyle"] = {"mode": "dashed"}
        defaults = super().defaults() | {"color": {"mode": "palette-classic"}, "custom": custom}
        if self.set.get("log"):
            custom |= {"scaleDistribution": {"type": "log", "log": 10}, "fillOpacity": 0}
            del defaults["min"], custom["axisSoftMin"]
        return defaults

    def overrides(self):
        return [
            {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}]}
            for name, color in self.set.get("colors", {}).items()
        ]

    def options(self):
        return {
            "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": self.set.get("legend", ["lastNotNull", "max"])},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }


class States(Panel):
    """What state each thing was in, over time."""

    kind = "state-timeline"
    size = (24, 8)

    def defaults(self):
        return super().defaults() | {"color": {"mode": "thresholds"}, "custom": {"fillOpacity": 75, "lineWidth": 0}}

    def options(self):
        return {
            "mergeValues": True,
            "showValue": "auto",
            "alignValue": "left",
            "rowHeight": 0.85,
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "single", "sort": "none"},
        }


class Heat(Panel):
    """A histogram over time; its query is grouped by `le`."""

    kind = "heatmap"

    def target(self, index, legend, query):
        return super().target(index, "{{le}}", query) | {"format": "heatmap"}

    def defaults(self):
        return {"custom": {"scaleDistribution": {"type": "linear"}}}

    def options(self):
        return {
            "calculate": False,
            "cellGap": 1,
            "cellValues": {"unit": "short", "decimals": 1},
            "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "fill": "dark-orange", "scale": "exponential", "exponent": 0.5, "reverse": False},
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": False},
            "yAxis": {"axisPlacement": "left", "reverse": False, "unit": self.unit},
        }


class Column:
    """One query of a table: a name, a unit, and perhaps thresholds that colour its cells."""

    def __init__(self, query, unit, **properties):
        self.query, self.unit, self.properties = query, unit, properties


class Table(Panel):
    """One row for each combination of `labels`, a mapping from label to heading; `columns` from heading to `Column`.
    `links` maps a heading to the query string of a link."""

    kind = "table"
    size = (24, 9)
    instant = True

    def __init__(self, title, description, labels, columns, *, sort, links=None, **more):
        self.labels, self.columns, self.sort, self.links = labels, columns, sort, links or {}
        super().__init__(title, description, "short", {name: column.query for name, column in columns.items()}, **more)

    def target(self, index, legend, query):
        return super().target(index, "", query) | {"format": "table"}

    def defaults(self):
        return {
            "unit": self.unit,
            "mappings": [NOT_A_NUMBER],
            "noValue": "–",
            "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True, "inspect": False},
        }

    def overrides(self):
        return [self.column_override(name, column) for name, column in self.columns.items()] + [
            override(name, {"links": [{"title": title, "url": url}]}) for name, (title, url) in self.links.items()
        ]

    def column_override(self, name, column):
        properties = {"unit": column.unit} | column.properties
        if "thresholds" in properties:
            properties |= {"custom.cellOptions": {"type": "color-text"}, "color": {"mode": "thresholds"}}
        return override(name, properties)

    def transformations(self):
        values = {f"Value #{chr(ord('A') + i)}": name for i, name in enumerate(self.columns)}
        if len(values) == 1:
            values = {"Value": name for name in values.values()}
        order = {name: place for place, name in enumerate([*self.labels, *values])}
        return [
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": self.labels | values},
            },
        ]

    def options(self):
        return {
            "showHeader": True,
            "cellHeight": "sm",
            "footer": {"show": False, "reducer": ["sum"], "countRows": False, "enablePagination": True},
            "sortBy": [{"displayName": self.sort, "desc": True}],
        }


def override(name, properties):
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }


def row(title, *panels):
    return title, panels


def layout(rows):
    """The panels from left to right and from top to bottom, each row of them under its heading."""
    number, y, placed = 0, 0, []
    for title, panels in rows:
        number += 1
        placed.append({"id": number, "type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}})
        x, y, height = 0, y + 1, 0
        for panel in panels:
            if x + panel.width > WIDTH:
                x, y, height = 0, y + height, 0
            number += 1
            placed.append(panel.json(number, x, y))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return placed


def variable(name, label, query, all_value):
    found = {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,  # when the time range changes, too
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "hide": 0,
    }
    return found | ({"allValue": all_value} if all_value else {})


VARIABLES = {
    # Without a value of its own "All" stands for the jobs that were found, not for every job of the Prometheus.
    "job": variable("job", "Job", "label_values(outrigger_build_info, job)", None),
    "instance": variable("instance", "Instance", 'label_values(outrigger_build_info{job=~"$job"}, instance)', ".*"),
    "pool": variable("pool", "Pool", expand("label_values(outrigger_pool_info{<proxy>}, pool)"), ".*"),
    "server": variable("server", "Server", expand("label_values(outrigger_server_info{<pool>}, server)"), ".*"),
}

CHOICE_OF_DATASOURCE = {
    "type": "datasource",
    "name": "datasource",
    "label": "Data source",
    "query": "prometheus",
    "current": {},
    "refresh": 1,
    "hide": 0,
}


def annotation(name, color, query, title, text, tags):
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "expr": expand(query),
        "step": "60s",
        "titleFormat": title,
        "textFormat": text,
        "tagKeys": tags,
    }


ANNOTATIONS = [
    annotation(
        "Reloads", BLUE,
        'sum by (job) (increase(outrigger_config_reloads_total{<proxy>, result="changed"}[$__rate_interval])) > 0',
        "Reload", "{{job}} has a new configuration in force", "job",
    ),
    annotation(
        "Failed reloads", RED,
        'sum by (job) (increase(outrigger_config_reloads_total{<proxy>, result="failed"}[$__rate_interval])) > 0',
        "Reload failed", "{{job}} refused a configuration and serves on with the old one", "job",
    ),
]


def ejections(matchers):
    """A region for as long as a server is away; a mark if that was shorter than a scrape."""
    return annotation(
        "Ejections", ORANGE,
        f"""sum by (pool, server) (1 - outrigger_server_up{{{matchers}}}) > 0
            or sum by (pool, server) (increase(outrigger_server_ejections_total{{{matchers}}}[$__rate_interval])) > 0""",
        "{{server}} ejected", "of pool {{pool}}", "pool,server",
    )


def dashboard(uid, title, description, variables, rows):
    annotations = [*ANNOTATIONS, ejections("<pool>" if "pool" in variables else "<proxy>")]
    return {
        "id": None,
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["outrigger", "redis", "memcached"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "links": [{
            "type": "dashboards",
            "title": "Outrigger",
            "tags": ["outrigger"],
            "asDropdown": False,
            "includeVars": True,
            "keepTime": True,
            "targetBlank": False,
            "icon": "external link",
            "tooltip": "",
            "url": "",
        }],
        "templating": {"list": [CHOICE_OF_DATASOURCE, *(VARIABLES[name] for name in variables)]},
        "annotations": {"list": annotations},
        "panels": layout(rows),
    }
