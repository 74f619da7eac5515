"""The paper's tables and figures beside ours, and a verdict on every claim.

    python recipes/paper/report.py --work recipes/paper/results/mini --out results/paper

Renders what the grid's work folder holds by now, complete or not, as report.html (self-contained)
and report.md; beside them, in a folder named by the size: metrics/<corpus>/<row>-<protocol>.json,
verdicts.json, commands.txt and the figures.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path

import report_facts
import report_verdicts
from claims import read_claims
from report_document import Code, Figure, Heading, Paragraph, Tiles, html, markdown
from report_tables import RELEASED_CODE, complexity_table, coverage_table, result_table
from rows import read_grid, read_targets
from verdicts import VERDICTS, judge

sys.path.append(str(Path(__file__).resolve().parents[1]))
import drawing

from vesper_lobes.run_metrics import write_metrics

ROOT = Path(__file__).resolve().parents[2]
COMPLEXITY = ROOT / "results" / "benchmarks" / "complexity.json"
TITLE = "Vesper's tables and figures, run again"


def render(work, out, complexity=COMPLEXITY):
    """Write the report of a work folder.

    Arguments
    ---------
    work, out : str or pathlib.Path
    complexity : pathlib.Path
        What benchmarks/complexity.py wrote.

    Returns
    -------
    dict
        The verdicts, as verdicts.json holds them.

    Raises
    ------
    ValueError
        There is no rows.json in ``work``.
    """
    out = Path(out)
    grid, targets = read_grid(work), read_targets()
    folder = out / grid.size
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(grid, folder / "metrics")
    judged = judge(grid, targets, read_claims())
    write_text(folder / "verdicts.json", json.dumps(judged, indent=1) + "\n")
    commands = "\n".join(grid.record.get("commands", {}).values())
    write_text(folder / "commands.txt", commands + "\n")
    blocks = page(grid, targets, judged, folder, Path(complexity))
    write_text(out / "report.html", html(TITLE, blocks, VERDICTS))
    write_text(out / "report.md", markdown(TITLE, blocks))
    return judged


def page(grid, targets, judged, folder, complexity):
    """All blocks of the report."""
    commands = grid.record.get("commands", {}).values()
    blocks = [
        *opening(grid, judged),
        Heading("Verdicts", "verdicts"),
        *verdict_blocks(judged, grid, folder),
        *report_verdicts.scale_section(judged, grid),
        Heading("What the paper's own tables do not bear out", "own"),
        *report_verdicts.paper_section(judged),
        Heading("Tables", "tables"),
        Paragraph(TABLES),
        *complexity_table(complexity, targets),
    ]
    for name in targets.tables:
        blocks += result_table(name, grid, targets)
        if name == "VI":
            blocks += [*coverage_table(grid), Paragraph(RELEASED_CODE)]
    blocks += [
        Heading("Figures", "figures"),
        *report_facts.figures(grid, folder, grid.size),
        Heading("What was run", "run"),
        *report_facts.run_section(grid, f"{grid.size}/commands.txt"),
        Paragraph("The whole grid, and this page from it:"),
        Code(f"{reproducing(grid)}\n{rendering(grid)}"),
    ]
    return blocks + ([Code("\n".join(commands), "Every command", only="html")] if commands else [])


def opening(grid, judged):
    """What this page is, and the figures to take away."""
    found = report_verdicts.counts(judged)
    rows = f"{len(grid.rows)} of {len(grid.planned)}"
    corpora = ", ".join(grid.corpora)
    tiles = [(str(found[name]), f"of the paper's claims {name} here") for name in VERDICTS]
    tiles.append((rows, f"rows run: {corpora}"))
    text = (
        "Tables II to VIII and Figures 5 and 6 of the Vesper paper (Chen, Xing, Chen, Xu, arXiv "
        f"2307.10757), with the paper's figures and those of a run of size **{grid.size}** on "
        f"{corpora}. Encoders are frozen; heads are trained on their states; intervals resample "
        "speakers. Every figure comes from a file that the run wrote."
    )
    return [Paragraph(text), Tiles(tiles)]


def verdict_blocks(judged, grid, folder):
    """Claims, their picture, and every pair."""
    text = (
        "A pair of rows is **supported** if the 95 % interval of its difference lies on the "
        "claimed side of zero, **contradicted** if it lies on the other, **undecided** if it "
        "holds zero. A claim is supported if all its pairs are, contradicted if one is."
    )
    blocks = [Paragraph(text), report_verdicts.claims_table(judged)]
    if not report_verdicts.distinct_pairs(judged):
        return blocks
    drawing.write_png(report_verdicts.draw(judged, drawing.LIGHT), folder / "verdicts.png")
    svg = drawing.svg_text(report_verdicts.draw(judged), "verdicts")
    caption = (
        "Every pair of rows: difference with its 95 % interval (dot: supported, square: "
        "contradicted, diamond: undecided). Cross: the paper's own difference, on its corpora and "
        "with its models, without an interval."
    )
    command, name = rendering(grid), f"{grid.size}/verdicts.png"
    return [
        *blocks,
        Figure("differences of all pairs with intervals", caption, command, name, svg),
        Heading("Every pair", level=3),
        report_verdicts.pairs_table(judged, grid.corpora),
    ]


def reproducing(grid):
    """The command that runs the grid; the inputs are those its commands name."""
    commands = " ".join(grid.record.get("commands", {}).values())
    names = dict.fromkeys(re.findall(r"{([a-z0-9_]+)}", commands))
    data = "".join(f" {name}=DIR" for name in names if name != "work")
    return f"{REPRODUCE} --size {grid.size}" + (f" --data{data}" if data else "")


def rendering(grid):
    """The command that makes this page."""
    return f"{RENDER} --work recipes/paper/results/{grid.size} --out results/paper"


REPRODUCE, RENDER = "python recipes/paper/reproduce.py", "python recipes/paper/report.py"
TABLES = (
    "The paper's columns are IEMOCAP, MELD and CREMA-D; ours are the corpora of this run. They are "
    "different speech, and differences between a paper's column and one of ours mean nothing; "
    'what can be compared is the order of the rows within a column. "Transductive": the '
    "encoder's pretraining, its teacher's included, heard the test speakers, without labels."
)


def write_rows(grid, folder):
    """metrics.json of every row; files of rows that are no longer there are removed."""
    written = set()
    for (key, corpus, protocol), row in grid.rows.items():
        path = folder / corpus / f"{key.slug()}-{protocol}.json"
        write_metrics(row.metrics, path)
        written.add(path)
    for path in folder.glob("*/*.json"):
        if path not in written:
            path.unlink()


def write_text(path, text):
    """A file, written in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def main(argv=None):
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="the grid's work folder")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "paper")
    parser.add_argument("--complexity", type=Path, default=COMPLEXITY, help="JSON for Table II")
    asked = parser.parse_args(argv)
    try:
        judged = render(asked.work, asked.out, asked.complexity)
    except ValueError as error:
        print(f"report: error: {error}", file=sys.stderr)
        return 2
    found = report_verdicts.counts(judged)
    print(", ".join(f"{number} claims {name}" for name, number in found.items()))
    print(asked.out / "report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
