#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""bench/report.py on figures made here: report_test.py SOURCE"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

SOURCE = pathlib.Path(sys.argv.pop(1)).resolve()
PROGRAM = SOURCE / "bench" / "report.py"
sys.dont_write_bytecode = True
sys.path.insert(0, str(PROGRAM.parent))
import report  # noqa: E402
DOCUMENT = """before
<!-- results: begin -->
old results
<!-- results: end -->
between
<!-- peers: begin -->
old peers
<!-- peers: end -->
after
"""


def result(name, ratio, goal, status="met", **members):
    made = {"name": name, "value": 300.0 * ratio, "unit": "ns", "floor": "cache-line round trip", "floor_value": 300.0,
            "ratio": ratio, "direction": "down", "goal": goal, "met": status == "met", "p10": ratio - 0.02, "p50": ratio,
            "p90": ratio + 0.02, "runs": 101, "cpu_pair": [0, 1], "commit": "abc", "status": status}
    return made | members


def not_run(made, reason):
    nothing = dict.fromkeys(("value", "floor_value", "ratio", "p10", "p50", "p90"))
    return made | nothing | {"runs": 0, "met": False, "status": "not_run", "reason": reason}


def row(what, peer, ratio, status="measured", **members):
    return result(f"peers_{what}_{peer}", ratio, None, status, what=what, peer=peer) | members


def ours(what, ratio, goal, status, best_peer, **members):
    return row(what, "holdfast", ratio, status, goal=goal, best_peer=best_peer) | members


COUNT = {"unit": "B", "floor": "limit", "runs": 1}
RESULTS = [
    result("roundtrip_spin_32", 1.08, 1.15),
    result("throughput_32_single", 0.7, 0.9, "missed", direction="up", unit="M/s"),
    result("fanout_4k_64", 1.1, 1, allowance=40, value_most=330),
    result("footprint_memory", 0.5, 1, value=4096, floor_value=8192, **COUNT),
    not_run(result("roundtrip_spin_1g", 1, 1.25), "/dev/shm has less than\n4096 MiB | to give"),
]
PEERS = [
    ours("roundtrip_spin_32", 1.1, 1.6, "met", "aeron"), row("roundtrip_spin_32", "aeron", 1.6),
    not_run(row("roundtrip_spin_32", "nng", 1), "is not installed"),
    ours("roundtrip_sleep_32", 1.21, 1.32, "met", "aeron"), row("roundtrip_sleep_32", "aeron", 1.2),
    ours("throughput_32_single", 0.5, 1.0, "missed", "aeron", direction="up"),
    row("throughput_32_single", "aeron", 1.0, direction="up"),
    ours("footprint_files", 1, 1, "met", "aeron", unit="", floor="none"),
    row("footprint_files", "aeron", 1, unit="", floor="none"),
]


class Report(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.document = self.folder / "benchmarks.md"
        self.document.write_text(DOCUMENT, encoding="utf-8")

    def files(self, *files):
        paths = []
        for number, results in enumerate(files):
            paths.append(self.folder / f"{number}.json")
            paths[-1].write_text("".join(json.dumps(one) + "\n" for one in results), encoding="utf-8")
        return paths

    def made(self, *files):
        report.report(self.files(*files), self.document)
        return self.document.read_text(encoding="utf-8").splitlines()

    def refused(self, why, *files):
        with self.assertRaises(report.Unusable) as raised:
            report.report(self.files(*files), self.document)
        self.assertIn(why, str(raised.exception))
        self.assertEqual(self.document.read_text(encoding="utf-8"), DOCUMENT)
        self.assertFalse((self.folder / "charts").exists())

    def status(self, *arguments):
        run = subprocess.run([sys.executable, "-B", PROGRAM, *arguments], capture_output=True, text=True, check=False)
        return run.returncode, run.stderr

    def charts(self):
        return {path.name: "".join(xml.etree.ElementTree.parse(path).getroot().itertext())
                for path in (self.folder / "charts").iterdir()}

    def test_results_become_a_table(self):
        lines = self.made(RESULTS)
        for line in (
                "Commit abc, CPUs 0 and 1. 5 results: 3 met, 1 missed, 1 not_run.",
                "| Name | Value | Floor | Ratio | Goal | p10–p90 | Runs | Status |",
                "| `roundtrip_spin_32` | 324 ns | 300 ns, cache-line round trip | 1.08 | ≤ 1.15 | 1.06–1.1 | 101 | met |",
                "| `throughput_32_single` | 210 M/s | 300 M/s, cache-line round trip | 0.7 | ≥ 0.9 | 0.68–0.72 | 101 | **missed** |",
                "| `fanout_4k_64` | 330 ns | 300 ns, cache-line round trip | 1.1 | ≤ 1 and 40 ns more, and ≤ 330 ns | 1.08–1.12"
                " | 101 | met |",
                "| `footprint_memory` | 4 096 B | 8 192 B, limit | 0.5 | ≤ 8 192 B | – | 1 | met |",
                "| `roundtrip_spin_1g` | – | cache-line round trip | – | ≤ 1.25 | – | – | not_run: /dev/shm has less than 4096 MiB"
                " \\| to give |"):
            self.assertIn(line, lines)

    def test_peers_become_a_table_that_says_where_holdfast_is(self):
        lines = self.made(PEERS)
        for line in (
                "| Row | Floor | holdfast | aeron | nng | Holdfast is |",
                "| `roundtrip_spin_32` | cache-line round trip | **1.1** | 1.6 | – | ahead |",
                "| `roundtrip_sleep_32` | cache-line round trip | 1.21 | **1.2** | – | within 1.1 × of aeron (1.01 ×) |",
                "| `throughput_32_single` | cache-line round trip | 0.5 | **1** | – | **behind aeron** (2 ×) |",
                "| `footprint_files` | count | **1** | **1** | – | level with aeron |",
                "- nng: is not installed (`roundtrip_spin_32`)"):
            self.assertIn(line, lines)

    def test_a_row_that_the_harness_did_not_judge_says_so(self):
        alone = [row("open", "holdfast", 1.0), row("open", "aeron", 2.0)]
        self.assertIn("| `open` | cache-line round trip | **1** | 2 | not judged: measured without its peers |", self.made(alone))

    def test_charts_are_drawn_and_shown(self):
        lines = self.made(RESULTS, PEERS)
        charts = self.charts()
        self.assertEqual(sorted(charts), ["peers-footprint_files.svg", "peers-roundtrip_sleep_32.svg", "peers-roundtrip_spin_32.svg",
                                          "peers-throughput_32_single.svg", "results-rate.svg", "results-time.svg"])
        for name in charts:
            self.assertTrue(any(line.endswith(f"](charts/{name})") for line in lines), name)
        self.assertIn("roundtrip_spin_32", charts["results-time.svg"])
        self.assertIn("0.7 missed", charts["results-rate.svg"])
        self.assertIn("not_run", charts["peers-roundtrip_spin_32.svg"])

    def test_bars_are_as_long_as_their_figures_say(self):
        self.made([row("open", "holdfast", 1.0), row("open", "aeron", 10.0), row("open", "nng", 100.0)])
        root = xml.etree.ElementTree.parse(self.folder / "charts" / "peers-open.svg").getroot()
        widths = [float(bar.get("width")) for bar in root.iter("{http://www.w3.org/2000/svg}rect") if bar.get("x")]
        self.assertEqual(len(widths), 3)
        self.assertAlmostEqual(widths[2] - widths[1], widths[1] - widths[0], delta=0.2)  # logarithmic

    def test_the_rest_of_the_document_stays(self):
        lines = self.made(RESULTS)
        for line in ("before", "between", "old peers", "after"):
            self.assertIn(line, lines)
        self.assertNotIn("old results", lines)

    def test_made_again_it_is_the_same(self):
        self.assertEqual(self.made(RESULTS, PEERS), self.made(RESULTS, PEERS))

    def test_charts_of_before_go(self):
        self.made(PEERS)
        self.made(PEERS[-2:])
        self.assertEqual(list(self.charts()), ["peers-footprint_files.svg"])

    def test_of_two_the_later_one_counts(self):
        lines = self.made(RESULTS, [result("roundtrip_spin_32", 1.02, 1.15, commit="def")])
        self.assertIn("Commits def, abc, CPUs 0 and 1. 5 results: 3 met, 1 missed, 1 not_run.", lines)
        self.assertEqual(sum(line.startswith("| `roundtrip_spin_32` | 306 ns") for line in lines), 1)

    def test_what_lacks_a_member_is_refused(self):
        whole = RESULTS[0]
        for name in whole.keys() - {"met"}:
            with self.subTest(name):
                self.refused(f"0.json:2: has no member {name}", [RESULTS[1], {k: v for k, v in whole.items() if k != name}])
        self.refused("1.json:1: has no member best_peer", RESULTS, [row("open", "holdfast", 1.0, "met", goal=2.0)])
        self.refused("has no member reason", [result("open", 1, 8, "not_run")])

    def test_what_is_no_figure_is_refused(self):
        self.refused("has a member ratio of the wrong type", [RESULTS[0] | {"ratio": None}])
        self.refused("has an unknown status good", [RESULTS[0] | {"status": "good"}])
        self.refused("has an unknown direction left", [RESULTS[0] | {"direction": "left"}])
        self.refused("0.json:1: is not an object", [[]])
        self.refused("the files hold no results", [])

    def test_a_document_without_marks_is_refused(self):
        self.document.write_text("nothing\n", encoding="utf-8")
        with self.assertRaisesRegex(report.Unusable, "has no marks"):
            report.report(self.files(RESULTS), self.document)

    def test_the_status_says_how_it_went(self):
        good, bad = self.files(RESULTS, [[]])
        self.assertEqual(self.status(good, "--document", self.document), (0, ""))
        self.assertIn("| met |", self.document.read_text(encoding="utf-8"))
        self.assertEqual(self.status(bad, "--document", self.document), (1, f"bench/report.py: {bad}:1: is not an object\n"))
        self.assertEqual(self.status()[0], 2)


if __name__ == "__main__":
    unittest.main()
