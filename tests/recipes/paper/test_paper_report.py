"""The report: complete, self-contained, honest about what was not run, at any stage of a run."""

import importlib.util
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import pytest

matplotlib.use("Agg")
from matplotlib import pyplot as plt

sys.path.append(str(Path(__file__).resolve().parents[3] / "recipes" / "paper"))
import report_document as document
import report_facts
import report_tables
from invented_grid import write_grid
from rows import HERE, key_of, read_grid, read_targets
from verdicts import VERDICTS

from vesper_lobes.run_metrics import read_metrics

VOID = {"meta", "br", "link", "img", "input", "hr"}
ROWS = [
    ({"model": "base"}, 0.5, 1),
    ({"model": "v4"}, 0.6, 2),
    ({"model": "v4", "masking": "random"}, 0.58, 2),
    ({"model": "v4", "masking": "random_matched"}, None, 2),
    ({"model": "v12", "head": "speechformer"}, 0.6, 1),
    ({"model": "v12", "compression": "averaging"}, None, 1),
]
ZONES = ("high", "low", "noise")
COMPLEXITY = [
    ("WavLM Base", 94381936, (45152562176, 31231896576, 20791397376)),
    ("WavLM Large", 315451072, (116753492992, 80734907392, 53720968192)),
    ("Vesper-4", 63515872, (35163139072, 24326761472, 16199478272)),
]


@pytest.fixture(scope="module")
def report():
    """recipes/paper/report.py; another recipe has a module of that name."""
    spec = importlib.util.spec_from_file_location("paper_report", HERE / "report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work folder half done, with both figures, one of them without its numbers."""
    folder = write_grid(tmp_path_factory.mktemp("work"), ROWS, protocols=("B", "A"))
    (folder / "figures").mkdir()
    for name in ("figure5", "figure6"):
        figure = plt.figure(figsize=(1, 1))
        figure.savefig(folder / "figures" / f"{name}.png", dpi=20)
        plt.close(figure)
    shares = {f"{level}_of_{z}": 0.5 for level in ("phoneme", "word") for z in ZONES}
    facts = {"file": "a.wav", "command": "python recipes/paper/figure5.py --wav /path/to/a.wav"}
    facts |= {"seconds": 2.0, "strategy": "guided", "phoneme_centres": 8, "word_centres": 2}
    facts |= {"seed": 1, "epoch": 1, "shares": {**shares, "phoneme": 0.5, "word": 0.4}}
    (folder / "figures" / "figure5.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="module")
def grid(work):
    """The work folder, read."""
    return read_grid(work)


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """What benchmarks/complexity.py writes, without Vesper-12."""
    rows = [
        {"model": m, "params": p, "seconds": s, "macs_paper": macs, "macs_true": macs + 10**9}
        for m, p, counts in COMPLEXITY
        for s, macs in zip((6.5, 4.5, 3.0), counts, strict=True)
    ]
    path = tmp_path_factory.mktemp("counted") / "complexity.json"
    path.write_text(json.dumps({"rows": rows}))
    return path


@pytest.fixture(scope="module")
def out(report, work, counted, tmp_path_factory):
    """The rendered report."""
    out = tmp_path_factory.mktemp("out")
    assert report.main(["--work", f"{work}", "--out", f"{out}", "--complexity", f"{counted}"]) == 0
    return out


@pytest.fixture(scope="module")
def pages(out):
    """HTML and Markdown."""
    return [(out / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md")]


class Checker(HTMLParser):
    """Open tags, ids, links, and everything that could be fetched."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.fetched = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "data"):
                self.fetched.append(value)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


def test_the_page_is_well_formed_and_fetches_nothing(pages):
    checker = Checker()
    checker.feed(pages[0])
    assert checker.open == [] and len(checker.ids) == len(set(checker.ids))
    links = [url[1:] for url in checker.fetched if url.startswith("#")]
    assert set(links) <= set(checker.ids) and "table-VI" in links
    assert all(url.startswith(("#", "data:")) for url in checker.fetched)
    outside = re.sub(r'xmlns(:\w+)?="[^"]*"', "", pages[0])
    assert "http://" not in outside and "https://" not in outside and "<script" not in pages[0]
    assert "@media print" in pages[0] and "prefers-color-scheme: dark" in pages[0]


def test_both_pages_show_every_table_claim_and_the_size_of_the_heads(pages):
    for page in pages:
        for table in ("II", "III", "IV", "V", "VI", "VII", "VIII"):
            assert f"Table {table}. " in page
        assert page.count("SpeechFormer-S 37.63 / 66.85") >= 7  # in every table
        assert "Vesper-12 surpasses WavLM Large" in page.replace('<span class="w">', "").replace(
            "</span>", ""
        )
        assert "not run" in page and "transductive" in page.casefold()
        assert "Whether that code made the paper's Table VI is unknown" in page
        assert "What this scale can and cannot tell" in page and "94,000 hours" in page


def test_paper_and_ours_stand_side_by_side(pages, out):
    text = pages[1].replace("\N{NO-BREAK SPACE}", " ")
    line = next(row for row in text.splitlines() if row.startswith("| Vesper-4<br>ours: mini"))
    assert "68.4 / 69.3 / 68.3 | 50.1 / 25.0 / 45.7 | 73.4 / 73.7 / 73.3" in line
    metrics = read_metrics(
        out / "mini/metrics/EmoDB/v4-extraction-guided-lhx-superb-weighted_sum-B.json"
    )
    low, high = (f"{100 * end:.1f}" for end in metrics["ci"]["UA"])
    assert f"**{100 * metrics['pooled']['UA']:.1f}**" in line and f"[{low}, {high}]" in line
    fold = read_metrics(
        out / "mini/metrics/EmoDB/v4-extraction-guided-lhx-superb-weighted_sum-A.json"
    )
    assert f"A: {100 * fold['mean_of_folds']['WA']:.1f} /" in line
    assert "2 seeds, 2 pretrainings" in line and "1.39 + 0.05" in line


def test_table_two_matches_to_the_last_digit(pages):
    text = pages[1].replace("\N{NO-BREAK SPACE}", " ")
    assert "9 of 12 equal the paper's" in text  # all that were counted: Vesper-12 was not
    assert "80.74 · 80.735" in text and "| 63.52 | 63.52 |" in text


def test_coverage_of_the_masks_is_shown_against_guided(grid):
    head, rows, *_ = report_tables.coverage_table(grid)[0]
    assert [row[1] for row in rows] == ["guided", "random, as many positions"]
    assert rows[0][2] == "44.0" and rows[1][3] == "+16.0"
    speech = 0.44 * (0.2 * 1.4 + 0.3 * 1.2) / 0.5
    assert rows[0][4] == f"{100 * speech:.1f}" and rows[0][5] == "26.4"


def test_figures_come_with_their_command_or_not_at_all(pages, out):
    for page in pages:
        assert "figure5.py --wav /path/to/a.wav" in page
        assert "Not drawn in this run; the command:" in page  # figure 6 has no numbers
    assert (out / "mini/figure5.png").is_file() and not (out / "mini/figure6.png").exists()
    assert (out / "mini/verdicts.png").stat().st_size < 300_000
    assert "data:image/png;base64," in pages[0] and "(mini/figure5.png)" in pages[1]


def test_figures_may_lie_beside_the_report_already(grid, out, tmp_path):
    for path in (grid.work / "figures").glob("figure5.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    bare = grid._replace(work=tmp_path / "none")
    kinds = [type(block).__name__ for block in report_facts.figures(bare, tmp_path, "mini")]
    assert kinds == ["Heading", "Figure", "Heading", "Paragraph", "Code"]


def test_nothing_names_this_machine(out, work):
    for path in out.rglob("*"):
        if path.suffix in (".html", ".md", ".json", ".txt"):
            text = path.read_text(encoding="utf-8")
            assert str(work) not in text and str(out) not in text and "/home/" not in text


def test_rendering_again_changes_nothing_and_old_rows_are_removed(
    report, work, counted, out, pages
):
    stale = out / "mini" / "metrics" / "EmoDB" / "v4-gone-B.json"
    stale.write_text("{}")
    report.render(work, out, counted)
    assert not stale.exists()
    again = [(out / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md")]
    assert again == pages


def test_verdicts_are_written_and_read_back(out):
    judged = json.loads((out / "mini/verdicts.json").read_text())
    assert {claim["verdict"] for claim in judged["claims"]} <= set(VERDICTS)
    assert len(judged["claims"]) == 22


def test_a_grid_that_has_not_begun(report, tmp_path, capsys):
    write_grid(tmp_path, [(row, None, seeds) for row, _, seeds in ROWS])
    arguments = ["--work", f"{tmp_path}", "--out", f"{tmp_path / 'out'}"]
    assert report.main([*arguments, "--complexity", f"{tmp_path / 'none.json'}"]) == 0
    assert "20 claims not run" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "No pair of rows has been run yet" in page and "Not counted yet" in page
    assert "no pretraining has been run yet" in page


def test_no_work_folder(report, tmp_path, capsys):
    assert report.main(["--work", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "reproduce.py" in capsys.readouterr().err


def test_baselines_and_chance_stand_below_table_three(grid):
    place = (key_of({"model": "base"}), "EmoDB", "B")
    grid.rows[place].metrics["baselines"]["mfcc_ridge"] = {"UA": 0.51, "ci": [0.4, 0.6]}
    table = report_tables.result_table("III", grid, read_targets())[1]
    names = [row[0] for row in table.rows]
    assert names[-2:] == ["floor: ridge on MFCC statistics", "chance"]
    assert "**51.0**" in table.rows[-2][4] and "**20.0**" in table.rows[-1][5]


def test_markup_of_the_document():
    table = document.Table(["a|b", "n"], ["group", ["x\ny", "**1** < `2`"]], "end", (1,))
    page = document.html("t", [document.Heading("One. Two", "one"), table], ("x\ny",))
    assert '<td class="verdict v0">x<br>y</td>' in page and 'href="#one">One</a>' in page
    assert "<strong>1</strong> &lt; <code>2</code>" in page and 'colspan="2"' in page
    text = document.markdown("t", [table, document.Code("c", "s", only="html")])
    assert "| a\\|b | n |" in text and "| **group** |  |" in text and "| x<br>y |" in text
    assert "    c" not in text
