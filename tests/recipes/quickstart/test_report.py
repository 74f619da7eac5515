"""The quickstart's report: self-contained, complete, and honest about what did not come out."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "recipes" / "quickstart"))

import findings
import report
from evidence import EvidenceError, gather, mask_utterance
from invented_run import SEEDS, make_run

from vesper_lobes.run_metrics import read_metrics

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Checker(HTMLParser):
    """Open tags, ids and everything that could be fetched."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.fetched, self.words = [], [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "action", "data"):
                self.fetched.append(value)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """An invented quickstart with its report."""
    folder = make_run(tmp_path_factory.mktemp("quickstart"))
    report.write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(run_folder):
    """The report's text."""
    return (run_folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def checker(page):
    """The report, parsed."""
    parsed = Checker()
    parsed.feed(page)
    return parsed


def test_is_well_formed_and_ids_are_unique(checker):
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))


def test_fetches_nothing(page, checker):
    assert all(url.startswith(("data:", "#")) for url in checker.fetched)
    style = re.search(r"<style>(.*?)</style>", page, re.S)[1]
    assert "@import" not in style and "url(" not in style
    outside = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert "http://" not in outside and "https://" not in outside
    assert "<script" not in page


def test_svg_references_resolve(page, checker):
    named = set(re.findall(r"url\(#([^)]+)\)", page))
    named |= {url[1:] for url in checker.fetched if url.startswith("#")}
    assert named <= set(checker.ids)


def test_figures_follow_the_pages_colours(page):
    for stand_in in report.figures.COLOURS:
        assert stand_in not in page
    assert page.count("<svg") == 6
    assert page.count('role="img"') == 6


def test_says_at_the_top_that_it_is_synthetic(checker):
    text = " ".join(" ".join(checker.words).split())
    start = text.index("The speech is synthetic and the model a demonstration.")
    assert start < text.index("What was done")
    assert "should not be used on it" in text


def test_every_baseline_stands_beside_the_model(run_folder, page):
    metrics = read_metrics(run_folder / "metrics.json")
    for name, entry in metrics["baselines"].items():
        assert findings.NAMES[name] in page
        assert report.percent(entry["UA"]) in page
        assert report.interval(entry["ci"]) in page
    assert report.interval(metrics["ci"]["UA"]) in page
    assert report.percent(metrics["chance"]["UA"]) in page


def test_orderings_are_printed_as_they_are(run_folder, page):
    found = {f.claim: f for f in gather(run_folder).findings}
    bad = found["Vesper-mini above extraction, not pretrained"]
    assert bad.verdict == "does not hold"  # the invented run was made so
    assert found["Vesper-mini above random weights"].verdict == "holds"
    assert found["Vesper-mini above teacher"].verdict == "within noise"
    assert bad.sentence in page and 'v1">does not hold<' in page
    assert len(found) == len(findings.ORDERINGS) + 1


def test_orderings_leave_out_what_was_not_run(run_folder):
    evidence = gather(run_folder)
    found = findings.orderings({}, evidence.metrics["classes"], evidence.metrics)
    assert [f.claim for f in found] == ["Vesper-mini above chance"]


def test_at_chance_is_not_called_above_it():
    assert findings.above_chance("encoder", 0.24, 0.31, 0.25).verdict == "within noise"
    assert "does not lie above" in findings.above_chance("encoder", 0.24, 0.31, 0.25).sentence


def test_text_from_files_is_escaped(page):
    assert "what &lt;it&gt; does &amp; why" in page and "<it>" not in page


def test_stages_and_seconds_are_shown(page):
    assert ">17<" in page and ">234<" in page and "3 min 54 s" in page


def test_confusion_rows_are_shares(run_folder, page):
    metrics = read_metrics(run_folder / "metrics.json")
    row = metrics["confusion"][0]
    for count in row:
        assert f'title="{count} of {sum(row)}"' in page
    assert sum(row) == metrics["per_class"]["angry"]["support"] * len(SEEDS)


def test_masks_are_those_of_the_masker(run_folder):
    evidence = gather(run_folder)
    masked = evidence.masked
    arrays = masked.arrays
    assert set(arrays["word_centres"]) <= set(arrays["phoneme_centres"])
    frames = len(arrays["energy"])
    assert len(arrays["phoneme_centres"]) == max(1, round(20 * frames / 249))
    assert arrays["phoneme"].shape == arrays["zones"].shape == (frames,)
    path = next((run_folder / "work" / "corpus").glob(f"*/*/{masked.name}.wav"))
    again = mask_utterance(masked.name, path)
    assert again.arrays["phoneme_centres"] == arrays["phoneme_centres"]


def test_transductive_runs_say_so(run_folder):
    evidence = gather(run_folder)
    told = evidence._replace(metrics={**evidence.metrics, "ssl_saw_test_audio": True})
    assert "transductive" in report.render(told)
    assert "transductive" not in report.render(evidence)


def test_short_histories_and_a_head_without_mix_still_make_a_page(run_folder):
    evidence = gather(run_folder)
    short = evidence._replace(
        teacher=evidence.teacher[:1],
        vesper=evidence.vesper[:1],
        run={**evidence.run, "layer_weights": []},
    )
    text = report.render(short)
    assert text.count("<svg") == 5 and "Which layers" not in text


def test_a_missing_stage_is_named(run_folder, tmp_path):
    with pytest.raises(EvidenceError, match="make quickstart"):
        gather(tmp_path)


def test_metrics_are_copied_whole(run_folder):
    inner = json.loads((run_folder / "work" / "emotion" / "metrics.json").read_text())
    assert json.loads((run_folder / "metrics.json").read_text()) == inner


def test_nothing_temporary_is_left(run_folder):
    assert not list(run_folder.glob(".*tmp"))
