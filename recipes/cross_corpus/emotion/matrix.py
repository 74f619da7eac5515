"""The cross-corpus matrix as table and picture, from ``matrix/<train>_to_<test>/metrics.json``.

    python matrix.py RUN              # RUN/matrix.md and RUN/matrix.png anew
    python matrix.py RUN --publish    # and metrics and picture to the repository's results/, tables
                                      # in README.md from there
    python matrix.py --check          # exit 1 if README.md's tables are out of date

A table stands in README.md between ``<!-- matrix: CONFIG -->`` and ``<!-- end matrix -->``.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path

from vesper_lobes.run_metrics import read_metrics

HERE = Path(__file__).resolve().parent
PUBLISHED = HERE.parents[2] / "results" / "cross_corpus"
README = HERE / "README.md"
BLOCK = re.compile(
    r"(?P<start><!-- matrix: (?P<config>\S+) -->\n).*?(?P<end><!-- end matrix -->)", re.S
)
NOTHING = "No results are published yet.\n"
FILES = {"all": "metrics.json", "unheard": "unheard_speakers.json"}
BASELINES = {
    "mfcc_ridge": "floor: ridge on MFCC statistics",
    "random_init": "same network, untrained",
    "teacher": "its teacher",
    "extraction": "teacher's layers, not pretrained",
}


def read_matrix(folder, which="all"):
    """(train, test) -> metrics of every cell in a folder of ``<train>_to_<test>/`` folders."""
    paths = sorted(Path(folder).glob(f"*_to_*/{FILES[which]}"))
    return {tuple(path.parent.name.split("_to_")): read_metrics(path) for path in paths}


def cell_text(metrics, within):
    """``51.2 [44.0, 58.3] t``: UA in %, its interval, t where transductive."""
    low, high = (100 * end for end in metrics["ci"]["UA"])
    text = f"{100 * metrics['pooled']['UA']:.1f} [{low:.1f}, {high:.1f}]"
    text += " t" if metrics["ssl_saw_test_audio"] else ""
    return f"*{text}*" if within else text


def as_markdown(folder):
    """The matrix of a folder as Markdown tables; ends with a line break.

    Raises
    ------
    ValueError
        There is no cell in it.
    """
    cells = read_matrix(folder)
    if not cells:
        raise ValueError(f"{folder}: no <train>_to_<test>/metrics.json in it")
    first = next(iter(cells.values()))
    names = sorted({name for pair in cells for name in pair}, key=str.lower)
    chance = 100 * first["chance"]["UA"]
    marks = (
        " t: transductive, the encoder's pretraining heard these test speakers unlabelled, or "
        "nothing tells that it did not."
    )
    text = (
        f"UA in % over {', '.join(first['classes'])} (chance {chance:.1f}), "
        f"{len(first['seeds'])} seeds, 95 % intervals over speakers (MELD: dialogues). "
        "Protocol D; the diagonal, in italics, is protocol B within the corpus."
        + (marks if any(m["ssl_saw_test_audio"] for m in cells.values()) else "")
        + "\n\n"
    )
    text += _table(
        names, cells, lambda pair: cell_text(cells[pair], pair[0] == pair[1]), "train \\ test"
    )
    unheard = read_matrix(folder, "unheard")
    if unheard:
        text += "\nThe same heads on the test speakers that no pretraining heard:\n\n"
        text += _table(names, unheard, lambda pair: _clean_text(unheard[pair]), "train \\ test")
    for baseline in first["baselines"]:
        text += f"\nBaseline, {BASELINES.get(baseline, baseline)}:\n\n"
        text += _table(
            names, cells, lambda pair, b=baseline: _baseline_text(cells[pair], b), "train \\ test"
        )
    return text


def _clean_text(metrics):
    return f"{cell_text(metrics, False)} (n = {metrics['n']})"


def _baseline_text(metrics, name):
    entry = metrics["baselines"][name]
    low, high = (100 * end for end in entry["ci"])
    return f"{100 * entry['UA']:.1f} [{low:.1f}, {high:.1f}]"


def _table(names, cells, text_of, corner):
    lines = [[corner, *names], ["---"] * (len(names) + 1)]
    for train in names:
        row = [text_of((train, test)) if (train, test) in cells else "" for test in names]
        lines.append([train, *row])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def draw(folder, path):
    """The matrix as a picture: colour and number are UA in %, below it the interval."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    cells = read_matrix(folder)
    names = sorted({name for pair in cells for name in pair}, key=str.lower)
    chance = 100 * next(iter(cells.values()))["chance"]["UA"]
    values = [[100 * cells[a, b]["pooled"]["UA"] for b in names] for a in names]
    figure, axes = plt.subplots(figsize=(2.2 + 1.5 * len(names), 1.4 + 1.1 * len(names)))
    image = axes.imshow(values, cmap="viridis", vmin=chance, vmax=100)
    for y, train in enumerate(names):
        for x, test in enumerate(names):
            metrics, value = cells[train, test], values[y][x]
            low, high = (100 * end for end in metrics["ci"]["UA"])
            mark = " t" if metrics["ssl_saw_test_audio"] else ""
            text = f"{value:.1f}{mark}\n[{low:.1f}, {high:.1f}]"
            dark = value < (chance + 100) / 2
            style = "italic" if train == test else "normal"
            colour = "white" if dark else "black"
            axes.text(x, y, text, ha="center", va="center", color=colour, style=style, size=9)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="tested on", ylabel="trained on")
    figure.colorbar(image, label="UA (%), from chance to 100")
    figure.text(0.01, 0.01, "t: transductive; diagonal: protocol B within the corpus", size=7)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    temporary = Path(path).with_name(f".{Path(path).name}.tmp.png")
    figure.savefig(temporary, dpi=150)
    plt.close(figure)
    temporary.replace(path)


def write(run):
    """``matrix.md`` and ``matrix.png`` of a run; the table's text."""
    run = Path(run)
    text = as_markdown(run / "matrix")
    _write_text(run / "matrix.md", text)
    draw(run / "matrix", run / "matrix.png")
    return text


def publish(run, config=None, results=PUBLISHED):
    """Copy metrics, run.json and picture, never predictions or weights; what was written.

    Arguments
    ---------
    run : str or pathlib.Path
    config : str, optional
        Default: the run folder's name.
    results : pathlib.Path
    """
    run = Path(run).resolve()
    write(run)
    target = Path(results) / (config or run.name)
    shutil.rmtree(target, ignore_errors=True)  # no cell of an older matrix stays
    sources = [path for name in FILES.values() for path in run.glob(f"matrix/*_to_*/{name}")]
    pairs = [(path, target / path.relative_to(run / "matrix")) for path in sorted(sources)]
    pairs += [(run / name, target / name) for name in ("run.json", "matrix.png")]
    for source, copy in pairs:
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    return [copy for _, copy in pairs]


def renewed(text, results=PUBLISHED):
    """A Markdown text with its matrices made anew from what is published."""

    def table(match):
        folder = Path(results) / match["config"]
        body = as_markdown(folder) if folder.is_dir() else NOTHING
        return match["start"] + body + match["end"]

    return BLOCK.sub(table, text)


def _write_text(path, text):
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def main(arguments):
    """Parses, writes, publishes or checks; the process's exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?")
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--config", help="name of the published folder")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if stale")
    asked = parser.parse_args(arguments)
    if asked.run is None and not asked.check:
        parser.error("give a run, or --check")
    try:
        if asked.run:
            print(write(asked.run))
        if asked.run and asked.publish:
            print(*publish(asked.run, asked.config), sep="\n")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = README.read_text(encoding="utf-8")
    new = renewed(text)
    if asked.check:
        print("stale: README.md" if new != text else "up to date")
        return int(new != text)
    if new != text:
        _write_text(README, new)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
