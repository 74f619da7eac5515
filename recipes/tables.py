"""README tables from committed ``results/<corpus>/<config>/metrics.json``: never typed by hand.

    python recipes/tables.py            # rewrite every table
    python recipes/tables.py --check    # exit 1 and name the files whose tables are out of date

A table stands in any Markdown file between two comments, and is replaced as a whole:

    <!-- results: emodb -->
    <!-- end results -->

``results: emodb`` takes all configs of a corpus, ``results: emodb/vesper_mini`` one;
``results: benchmarks`` makes the table of speed from ``results/benchmarks/*.json``, which
``make bench`` writes, ``results: benchmarks/finetune`` the lines of one benchmark;
``results: paper/mini`` the verdicts on the paper's claims.
"""

import argparse
import json
import re
import sys
from pathlib import Path

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
SPEED = ("measured", "", "median", "ratio to the peer [min, max]")
SPEED_HEAD = f"| {' | '.join(SPEED)} |\n|{'---|' * len(SPEED)}\n"
CLAIMS = ("table", "claim", "verdict", "difference in UA, points [95 % interval]")
NO_GPU = "The GPU benchmark (`benchmarks/gpu.py`) has not been run: no GPU was at hand.\n"


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
        return speed_table(what, results)
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


def speed_table(what, results):
    """The table of benchmarks, and what it was measured on."""
    _, _, name = what.partition("/")
    paths = sorted((results / "benchmarks").glob(f"{name or '*'}.json"))
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    lines = [line for stem, result in found.items() for line in speed_lines(stem, result)]
    if not lines:
        return NOTHING
    text = SPEED_HEAD + "".join(f"| {' | '.join(line)} |\n" for line in lines)
    machines = {
        machine_words(result["machine"]): None for result in found.values() if "machine" in result
    }
    text += "".join(f"\nMeasured on {words}.\n" for words in machines)
    return text if name or "gpu" in found else f"{text}\n{NO_GPU}"


def speed_lines(stem, result):
    """Lines of one benchmark: those of its own, else every list of candidates beside a peer."""
    return SPEED_LINES.get(stem, ratio_lines)(stem, result)


def ratio_lines(title, result):
    """What `benchmarks/timing.py` calls ratio rows, wherever they stand in a result."""
    if isinstance(result, list):
        lines = []
        for part in result:
            if isinstance(part, dict) and {"name", "seconds", "ratio"} <= part.keys():
                times = time_words(part["seconds"]["median"]), ratio_words(part["ratio"])
                lines.append([title, part["name"], *times])
            elif isinstance(part, dict):
                named = f"{title}, batch {part['batch']}" if "batch" in part else title
                lines += ratio_lines(named, part)
        return lines
    parts = result.items() if isinstance(result, dict) else ()
    plain = ("rows", "cases")  # names that tell a reader nothing
    return [
        line
        for name, part in parts
        for line in ratio_lines(title if name in plain else f"{title}, {name}", part)
    ]


def ratio_words(ratio):
    """``2.10 [2.00, 2.30]``, and "peer" for the one all are compared with."""
    low, mid, high = (ratio[key] for key in ("min", "median", "max"))
    return "peer" if low == mid == high == 1 else f"{mid:.2f} [{low:.2f}, {high:.2f}]"


def time_words(seconds):
    """Seconds with a fitting unit: ``3.2 ms``, ``1.8 s``, ``2.5 h``."""
    for limit, factor, unit in ((1, 1000, "ms"), (600, 1, "s"), (36000, 1 / 60, "min")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds / 3600:.3g} h"


def pretrain_lines(title, result):
    """Steps beside the straightforward one; what a store of targets takes and is off by."""
    store = result["store"]
    lines = ratio_lines(f"{title}: {result['setting']}", result)
    for precision, hours in store["fill_hours_lssed"].items():
        epochs = store["break_even_epochs"].get(precision)
        paid = f"paid after {epochs:.1f} epochs" if epochs else ""
        words = f"filling it for LSSED, {precision} (extrapolated)"
        lines.append(["store", words, time_words(3600 * hours), paid])
    for dtype, gigabytes in store["lssed_gb"].items():
        parts = store["errors"][dtype]["8 outlier dimensions"].values()
        worst = max(part["rms"] for part in parts)
        words = f"{dtype}: {gigabytes:.0f} GB for LSSED, rms error {100 * worst:.2g} %"
        lines.append(["store", words, "", ""])
    return lines


def finetune_lines(title, result):
    """One pass and all heads, beside the encoder run every time."""
    encoder, total = result["encoder_pass_seconds"]["extrapolated"], result["total_seconds"]
    peer = total["encoder_every_time_extrapolated"]
    title = f"{title}: {result['setting']}"
    return [
        [title, "encoder on every use (computed)", time_words(peer), "peer"],
        [
            title,
            "encoder once and all heads",
            time_words(total["cached"]),
            f"{result['ratio']:.0f}",
        ],
        [title, "of it the encoder (from a sample)", time_words(encoder), ""],
        [title, "of it the heads (in full)", time_words(result["heads_seconds"]), ""],
    ]


def growth_lines(title, result):
    """The longest whole utterance and the longest in windows, of each model."""
    longest = {}
    for row in result["rows"]:
        if row["kind"] in ("length", "windows"):
            longest[row["kind"], row["model"]] = row  # rows grow
    names = {"length": "whole", "windows": "in windows"}
    return [
        [
            title,
            f"{model}, {row['seconds']:g} s of audio {names[kind]}, {row['memory_mb']:.0f} MB",
            time_words(row["seconds_taken"]),
            "",
        ]
        for (kind, model), row in longest.items()
    ]


def headers_lines(title, result):
    """Files a second."""
    ours, peer = (row["files_per_second"]["median"] for row in result["rows"])
    return [
        [title, "soundfile", f"{peer:,} files/s", "peer"],
        [title, "ours", f"{ours:,} files/s", f"{result['ratio']:.1f}"],
    ]


def machine_words(facts):
    """What a figure depends on, in words."""
    words = f"{facts['processor']}, {facts['threads']} of {facts['cores']} cores"
    card = f", {facts['accelerator']}" if "accelerator" in facts else ""
    return f"{words}{card}, {facts['capability']}, torch {facts['torch']}"


SPEED_LINES = {
    "complexity": lambda title, result: [],  # counts, not times
    "finetune": finetune_lines,
    "growth": growth_lines,
    "headers": headers_lines,
    "pretrain_step": pretrain_lines,
}


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
    """Every Markdown file of the checkout but those of runs and environments."""
    hidden = (".venv", ".git", "results", "node_modules")
    return sorted(
        path
        for path in Path(root).rglob("*.md")
        if not any(part in hidden for part in path.relative_to(root).parts)
    )


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
