#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the figures of docs/benchmarks.md: bench/report.py FILE... [--document PATH]

Each FILE was written by scripts/bench --json FILE, with or without --only peers. Results and peers' rows are told apart by
their members. Of a name that comes twice, the later one counts. The tables go between the marks in the document; the charts
into the folder charts beside it. What no FILE speaks of stays as it is.

Status 0: written; 1: a FILE is not what the benchmarks write, and nothing was written; 2: usage.
"""
import json
import pathlib
import sys

import chart

DOCUMENT = pathlib.Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
NOT_RUN = "not_run"
NUMBER = (int, float)
# Of every object: which members, and of which types.
MEMBERS = {"name": str, "unit": str, "floor": str, "direction": str, "commit": str, "status": str, "runs": int}
FIGURES = ("value", "floor_value", "ratio", "p10", "p50", "p90")  # null only where it did not run
STATES = {"results": ("met", "missed", NOT_RUN), "peers": ("met", "missed", "measured", NOT_RUN)}


class Unusable(Exception):
    pass


def ran(result):
    return result["status"] != NOT_RUN


def kind_of(result):
    return "peers" if "peer" in result else "results"


def complaint(result):
    """What is wrong with one object; None where nothing is."""
    if not isinstance(result, dict):
        return "is not an object"
    kinds = dict(MEMBERS)
    if kind_of(result) == "peers":
        kinds.update(what=str, peer=str)
    if result.get("status") == NOT_RUN:
        kinds["reason"] = str
    else:
        kinds.update({name: NUMBER for name in FIGURES})
        if kind_of(result) == "results" or result.get("status") in ("met", "missed"):
            kinds["goal"] = NUMBER
        if kind_of(result) == "peers" and result.get("status") in ("met", "missed"):
            kinds["best_peer"] = str
    for name, kind in kinds.items():
        if name not in result:
            return f"has no member {name}"
        if not isinstance(result[name], kind) or isinstance(result[name], bool):
            return f"has a member {name} of the wrong type"
    if "cpu_pair" not in result:
        return "has no member cpu_pair"
    if result["status"] not in STATES[kind_of(result)]:
        return f"has an unknown status {result['status']}"
    if result["direction"] not in ("down", "up"):
        return f"has an unknown direction {result['direction']}"
    return None


def read(paths):
    """Results and peers' rows of all files, by name, in order."""
    found = {"results": {}, "peers": {}}
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line:
                continue
            try:
                result = json.loads(line)
            except ValueError as error:
                raise Unusable(f"{path}:{number}: is no JSON: {error}") from error
            wrong = complaint(result)
            if wrong:
                raise Unusable(f"{path}:{number}: {wrong}")
            found[kind_of(result)][result["name"]] = result
    if not any(found.values()):
        raise Unusable("the files hold no results")
    return {kind: list(results.values()) for kind, results in found.items()}


def number(value):
    """Three figures, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def quantity(value, unit):
    return f"{number(value)} {unit}".strip()


def in_cell(text):
    return " ".join(text.split()).replace("|", "\\|")


def where(results):
    commits = list(dict.fromkeys(result["commit"] for result in results))
    cpus = next((result["cpu_pair"] for result in results if result["cpu_pair"]), None)
    said = ("Commit " if len(commits) == 1 else "Commits ") + ", ".join(commits)
    return said + (f", CPUs {cpus[0]} and {cpus[1]}." if cpus else ".")


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


# What is ours: a row for each result.

def is_count(result):
    return result["floor"] == "limit"


def goal(result):
    sign = "≤" if result["direction"] == "down" else "≥"
    if result.get("goal") is None:
        return "–"
    if is_count(result):
        return f"≤ {quantity(result['floor_value'], result['unit'])}" if ran(result) else "≤ limit"
    said = f"{sign} {number(result['goal'])}"
    if "allowance" in result:
        said += f" and {quantity(result['allowance'], result['unit'])} more"
    if "value_most" in result:
        said += f", and {sign} {quantity(result['value_most'], result['unit'])}"
    return said


def result_row(result):
    name = f"`{result['name']}`"
    if not ran(result):
        return [name, "–", in_cell(result["floor"]), "–", goal(result), "–", "–",
                f"{NOT_RUN}: {in_cell(result['reason'])}"]
    floor = f"{quantity(result['floor_value'], result['unit'])}, {in_cell(result['floor'])}"
    spread = "–" if result["runs"] == 1 else f"{number(result['p10'])}–{number(result['p90'])}"
    status = "**missed**" if result["status"] == "missed" else result["status"]
    return [name, quantity(result["value"], result["unit"]), floor, number(result["ratio"]), goal(result), spread,
            str(result["runs"]), status]


def logarithmic(scale):
    return ", logarithmic" if scale == "log" else ""


def result_bar(result):
    met = result["status"] == "met"
    goal_ratio = result["goal"] + result.get("allowance", 0) / (result["floor_value"] or 1)
    return chart.Bar(result["name"], result["ratio"], number(result["ratio"]) + ("" if met else " missed"),
                     "ours" if met else "missed", spread=(result["p10"], result["p90"]), goal=goal_ratio)


def results_charts(results):
    charts = {}
    for direction, said, scale in (("down", "less is better", "log"), ("up", "more is better", "linear")):
        chosen = [one for one in results if ran(one) and not is_count(one) and one["direction"] == direction]
        if not chosen:
            continue
        what = "time" if direction == "down" else "rate"
        title = f"Holdfast beside its floors, {what}: {said}"
        note = "Ratio to the floor, median; thin line: p10 to p90; upright mark: the goal" + logarithmic(scale)
        charts[f"results-{what}"] = (title, chart.draw(title, note, [("", [result_bar(one) for one in chosen])], scale))
    return charts


def results_text(results, charts):
    states = [result["status"] for result in results]
    counts = ", ".join(f"{states.count(state)} {state}" for state in STATES["results"])
    heads = ["Name", "Value", "Floor", "Ratio", "Goal", "p10–p90", "Runs", "Status"]
    return "\n\n".join([f"{where(results)} {len(results)} results: {counts}.", *pictures(charts),
                        table(heads, [result_row(result) for result in results])])


# Other systems: a row for each measurement, a column for each system.

def by_row(results):
    rows = {}
    for result in results:
        rows.setdefault(result["what"], {})[result["peer"]] = result
    return rows


def best_of(results):
    choose = max if results and results[0]["direction"] == "up" else min
    return choose((result["ratio"] for result in results), default=None)


def verdict(row):
    """Where Holdfast stands in a row, in words. Who is met is the harness's to say: here only how far off it is."""
    ours = row.get("holdfast")
    others = [result for peer, result in row.items() if peer != "holdfast" and ran(result)]
    if ours is None or not ran(ours):
        return NOT_RUN
    if ours["status"] == "measured":
        return "not judged: measured without its peers" if others else "alone"
    best = next((result for result in others if result["peer"] == ours["best_peer"]), None)
    if best is None:
        return f"not judged: {ours['best_peer']} is not there"
    if ours["ratio"] == best["ratio"]:
        return f"level with {best['peer']}"
    ahead = (ours["ratio"] > best["ratio"]) == (ours["direction"] == "up")
    if ahead:
        return "ahead"
    worse, better = sorted((ours["ratio"], best["ratio"]), reverse=True)
    by = f" ({number(worse / better)} ×)" if better > 0 else ""
    return f"within 1.1 × of {best['peer']}{by}" if ours["status"] == "met" else f"**behind {best['peer']}**{by}"


def peer_cell(result, best):
    if result is None or not ran(result):
        return "–"
    text = number(result["ratio"])
    return f"**{text}**" if result["ratio"] == best else text


def peer_row(what, row, peers):
    first = next(iter(row.values()))
    floor = (first["unit"] or "count") if first["floor"] == "none" else in_cell(first["floor"])
    best = best_of([result for result in row.values() if ran(result)])
    return [f"`{what}`", floor, *[peer_cell(row.get(peer), best) for peer in peers], verdict(row)]


def reasons(results):
    """One line per peer and reason, with the rows it concerns."""
    found = {}
    for result in results:
        if not ran(result):
            found.setdefault((result["peer"], " ".join(result["reason"].split())), []).append(f"`{result['what']}`")
    return [f"- {peer}: {reason} ({', '.join(whats)})" for (peer, reason), whats in found.items()]


def families(rows):
    """Rows that one chart can show: of one thing, one unit and one floor. Named by the words that their names share."""
    found = {}
    for what, row in rows.items():
        words = what.split("_")
        first = next(iter(row.values()))
        key = tuple(words[:2] if words[0] == "roundtrip" else words[:1]), first["unit"], first["floor"]
        found.setdefault(key, {})[what] = row
    for family in found.values():
        shared = []
        for words in zip(*(what.split("_") for what in family)):
            if len(set(words)) > 1:
                break
            shared.append(words[0])
        yield "_".join(shared), family


def peer_bar(peer, result):
    if not ran(result):
        return chart.Bar(peer, None, NOT_RUN, "peer")
    return chart.Bar(peer, result["ratio"], number(result["ratio"]), "ours" if peer == "holdfast" else "peer")


def peers_charts(rows):
    charts = {}
    for name, family in families(rows):
        groups = [(what, [peer_bar(peer, result) for peer, result in row.items()]) for what, row in family.items()]
        if not any(bar.value is not None for _, bars in groups for bar in bars):
            continue
        first = next(iter(next(iter(family.values())).values()))
        counted = first["floor"] == "none"
        up = first["direction"] == "up"
        title = f"{name}: {'more' if up else 'less'} is better"
        note = (first["unit"] or "Count") + " per topic" if counted else f"Ratio to the floor ({first['floor']})"
        scale = "linear" if counted or up else "log"
        charts[f"peers-{name}"] = (title, chart.draw(title, note + logarithmic(scale), groups, scale))
    return charts


def peers_text(results, charts):
    rows = by_row(results)
    peers = list(dict.fromkeys(result["peer"] for result in results))
    lines = [peer_row(what, row, peers) for what, row in rows.items()]
    said = reasons(results)
    return "\n\n".join([where(results), table(["Row", "Floor", *peers, "Holdfast is"], lines),
                        *(["Not run:", "\n".join(said)] if said else []), *pictures(charts)])


def pictures(charts):
    return [f"![{title}](charts/{name}.svg)" for name, (title, _) in charts.items()]


# Writing.

def between_marks(document, kind, text):
    begin, end = f"<!-- {kind}: begin -->", f"<!-- {kind}: end -->"
    before, first, rest = document.partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise Unusable(f"the document has no marks {begin} and {end}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def write_charts(folder, kind, charts):
    folder.mkdir(exist_ok=True)
    for old in folder.glob(f"{kind}-*.svg"):
        old.unlink()
    for name, (_, drawing) in charts.items():
        (folder / f"{name}.svg").write_text(drawing, encoding="utf-8")


def report(paths, document):
    found = read(paths)
    text = document.read_text(encoding="utf-8")
    made = {}
    if found["results"]:
        made["results"] = results_charts(found["results"])
        text = between_marks(text, "results", results_text(found["results"], made["results"]))
    if found["peers"]:
        made["peers"] = peers_charts(by_row(found["peers"]))
        text = between_marks(text, "peers", peers_text(found["peers"], made["peers"]))
    document.write_text(text, encoding="utf-8")
    for kind, charts in made.items():
        write_charts(document.parent / "charts", kind, charts)


def main():
    arguments = sys.argv[1:]
    document = DOCUMENT
    if "--document" in arguments:
        at = arguments.index("--document")
        document = pathlib.Path(*arguments[at + 1:at + 2])
        del arguments[at:at + 2]
    if not arguments or any(argument.startswith("-") for argument in arguments):
        print("usage: bench/report.py FILE... [--document PATH]", file=sys.stderr)
        return 2
    try:
        report([pathlib.Path(argument) for argument in arguments], document)
    except (Unusable, OSError) as error:
        print(f"bench/report.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
