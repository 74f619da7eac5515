"""README tables from committed ``results/<corpus>/<config>/metrics.json``: never typed by hand.

    python recipes/tables.py            # rewrite every table
    python recipes/tables.py --check    # exit 1 and name the files whose tables are out of date

A table stands in any Markdown file between two comments, and is replaced as a whole:

    <!-- results: emodb -->
    <!-- end results -->

``results: emodb`` takes all configs of a corpus, ``results: emodb/vesper_mini`` one;
``results: benchmarks`` makes the table of speed from ``results/benchmarks/*.json``, which
``make bench`` writes, ``results: benchmarks/finetune+growth`` the lines of some benchmarks;
``results: paper/mini`` the verdicts on the paper's claims.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path

from speed_tables import speed_table

from vesper_lobes.run_metrics import read_metrics

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(
    r"(?P<start><!-- results: (?P<what>\S+) -->\n).*?(?P<end><!-- end results -->)", re.S
)
COLUMNS = ("", "protocol", "WA", "UA [95 % interval]", "WF1", "seeds", "remarks")
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
NAMES = {
    "mfcc_ridge": "floor: ridge on MFCC statistics",
    "random_init": "same network, untrained",
    "teacher": "its teacher",
    "extraction": "teacher's layers, not pretrained",
}
HEARD_SPEECH = ("teacher", "extraction")  # baselines that share the encoder's pretraining speech
NOTHING = "No results are published yet.\n"
CLAIMS = ("table", "claim", "verdict", "difference in UA, points [95 % interval]")


def table(what, results=ROOT / "results"):
    """One Markdown table.

    Arguments
    ---------
    what : str
        ``corpus`` or ``corpus/config``.
    results : pathlib.Path

    Returns
    -------
    str
        Ends with a line break. Scores in %; UA of baselines only, as metrics.json holds no more.
    """
    results = Path(results)
    if what.split("/")[0] == "benchmarks":
        return speed_table(what, results) or NOTHING
    if what.split("/")[0] == "paper":
        return claims_table(results / what / "verdicts.json")
    pattern = f"{what}/metrics.json" if "/" in what else f"{what}/*/metrics.json"
    paths = sorted(results.glob(pattern))
    if not paths:
        return NOTHING
    return HEAD + "".join(rows(path.parent.name, read_metrics(path)) for path in paths)


def claims_table(path):
    """Verdicts on the paper's claims, from the ``verdicts.json`` of a run of its grid."""
    if not path.is_file():
        return NOTHING
    text = f"| {' | '.join(CLAIMS)} |\n|{'---|' * len(CLAIMS)}\n"
    for claim in json.loads(path.read_text(encoding="utf-8"))["claims"]:
        found = "; ".join(pair_words(pair) for pair in claim["pairs"] if pair.get("mean"))
        words = claim["claim"] + ("" if claim["of_paper"] else " (our control)")
        text += f"| {claim['table']} | {words} | {claim['verdict']} | {found} |\n"
    return text


def pair_words(pair):
    """A difference with its interval; a star where another pretraining could as well make it."""
    found = pair["mean"]["UA"]
    low, high = (100 * end for end in found["ci"])
    star = " \\*" if "within pretraining noise" in pair.get("notes", ()) else ""
    return f"{100 * found['difference']:+.1f} [{low:+.1f}, {high:+.1f}]{star}"


def rows(config, metrics):
    """The lines of one run: the encoder, its baselines, chance."""
    seeds, protocol = str(len(metrics["seeds"])), metrics["protocol"]
    size = f"{config} ({metrics['params'] / 1e6:.2f} M)"
    pooled = {name: f"{100 * value:.1f}" for name, value in metrics["pooled"].items()}
    remarks = remarks_of(metrics)
    own = interval(metrics["pooled"]["UA"], metrics["ci"]["UA"])
    headline = ", ".join(remarks + mean_of_folds(metrics))
    lines = [[f"**{size}**", protocol, pooled["WA"], own, pooled["WF1"], seeds, headline]]
    for name, entry in metrics["baselines"].items():
        heard = ["transductive"] if name in HEARD_SPEECH and metrics["ssl_saw_test_audio"] else []
        on_test = [r for r in remarks if r != "transductive"]
        count = "1" if name == "mfcc_ridge" else seeds
        label, score = NAMES.get(name, name), interval(entry["UA"], entry["ci"])
        lines.append([label, protocol, "", score, "", count, ", ".join(heard + on_test)])
    lines.append(["chance", protocol, "", f"{100 * metrics['chance']['UA']:.1f}", "", "", ""])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def remarks_of(metrics):
    """What a reader must know before comparing: heard speakers, epochs picked on test."""
    remarks = ["transductive"] if metrics["ssl_saw_test_audio"] else []
    if any(fold.get("selected_on_test") for fold in metrics["folds"]):
        remarks.append("epoch selected on test")
    return remarks


def mean_of_folds(metrics):
    """The headline of protocols A and C, whose published figures are means over folds."""
    if metrics["protocol"] not in ("A", "C"):
        return []
    shown = (f"{name} {100 * metrics['mean_of_folds'][name]:.1f}" for name in ("WA", "UA", "WF1"))
    return [f"mean of folds {' / '.join(shown)}"]


def interval(value, ends):
    """``85.1 [80.2, 89.0]`` from fractions."""
    return f"{100 * value:.1f} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def renewed(text, results=ROOT / "results"):
    """A Markdown text with its tables made anew."""
    return BLOCK.sub(lambda m: m["start"] + table(m["what"], results) + m["end"], text)


def markdown_files(root=ROOT):
    """Every Markdown file of the checkout, results and hidden folders not looked into."""
    found = []
    for folder, inside, names in os.walk(root):
        inside[:] = [name for name in inside if name != "results" and name[0] != "."]
        found += [Path(folder, name) for name in names if name.endswith(".md")]
    return sorted(found)


def main(arguments, root=ROOT):
    """Rewrites or checks all tables; the process's exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if stale")
    check = parser.parse_args(arguments).check
    stale = []
    for path in markdown_files(root):
        text = path.read_text(encoding="utf-8")
        new = renewed(text, Path(root) / "results")
        if new != text:
            stale.append(path)
            if not check:
                temporary = path.with_name(f".{path.name}.tmp")
                temporary.write_text(new, encoding="utf-8")
                temporary.replace(path)
    for path in stale:
        print("stale:" if check else "rewritten:", path.relative_to(root))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
