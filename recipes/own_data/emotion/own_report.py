"""``report.md`` of a run on your own data: what a person needs to judge the model, on one page.

    python own_report.py RUN

Every number comes from the run's ``metrics.json``, ``run.json`` and ``manifest/summary.json``.
"""

import json
import sys
from pathlib import Path

from vesper_lobes.run_metrics import read_metrics

SCORES = {
    "UA": "mean recall of the classes",
    "WA": "accuracy",
    "WF1": "F1, weighted by class size",
    "macroF1": "mean F1 of the classes",
}
BASELINES = {
    "mfcc_ridge": "floor: ridge on MFCC statistics, no network",
    "random_init": "same network, untrained",
    "teacher": "its teacher",
    "extraction": "teacher's layers, not pretrained",
}
SHOWN = 20  # names of left-out clips


def as_markdown(run):
    """The report's text.

    Arguments
    ---------
    run : str or pathlib.Path
        The recipe's output folder, after a whole run.
    """
    run = Path(run)
    metrics = read_metrics(run / "metrics.json")
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    summary = json.loads((run / "manifest" / "summary.json").read_text(encoding="utf-8"))
    parts = [_title(metrics, facts), _scores(metrics), _classes(metrics), _confusion(metrics)]
    parts += [_folds(metrics), _data(summary, metrics["protocol"]), _model(run)]
    return "\n".join(parts)


def _title(metrics, facts):
    folds = len({fold["fold"] for fold in metrics["folds"]})
    text = (
        f"# {metrics['corpus']}: {len(metrics['classes'])} emotions from {facts['encoder']}\n\n"
        f"{metrics['n']} utterances, each tested once for each of {len(metrics['seeds'])} seeds in "
        f"{folds} fold(s), protocol {metrics['protocol']}"
    )
    if any(fold.get("selected_on_test") for fold in metrics["folds"]):
        return text + ", **the epoch was picked on the test fold: these scores flatter**.\n"
    return text + "; the epoch was picked on dev speakers, never on the test fold.\n"


def _scores(metrics):
    rows = [["score", "%", "95 % interval", ""]]
    for name, meaning in SCORES.items():
        rows.append([name, _percent(metrics["pooled"][name]), _ends(metrics["ci"][name]), meaning])
    comparison = [["UA of", "%", "95 % interval"]]
    comparison.append(
        ["**this model**", _percent(metrics["pooled"]["UA"]), _ends(metrics["ci"]["UA"])]
    )
    for name, entry in metrics["baselines"].items():
        comparison.append([BASELINES.get(name, name), _percent(entry["UA"]), _ends(entry["ci"])])
    comparison.append(["chance", _percent(metrics["chance"]["UA"]), ""])
    low = metrics["ci"]["UA"][0]
    floor = metrics["baselines"].get("mfcc_ridge", {}).get("UA")
    if low <= metrics["chance"]["UA"]:
        verdict = "The interval reaches down to chance: this is no working model yet."
    elif floor is not None and low <= floor:
        verdict = (
            "Better than chance, but the interval reaches down to the floor without a network."
        )
    else:
        verdict = "The whole interval lies above " + (
            "the floor." if floor is not None else "chance."
        )
    heard = (
        "\nTransductive: the encoder's pretraining heard these speakers unlabelled, or nothing "
        "tells that it did not. If it did not: `--ssl_saw_test_audio False`.\n"
        if metrics["ssl_saw_test_audio"]
        else ""
    )
    return f"## Scores\n\n{_table(rows)}\n{_table(comparison)}\n{verdict}\n{heard}"


def _classes(metrics):
    rows = [["class", "utterances", "recall", "precision", "F1"]]
    for name, entry in metrics["per_class"].items():
        shares = [_percent(entry[key]) for key in ("recall", "precision", "F1")]
        rows.append([name, str(entry["support"]), *shares])
    return f"## Classes\n\n{_table(rows)}"


def _confusion(metrics):
    rows = [["true \\ said", *metrics["classes"]]]
    for name, counts in zip(metrics["classes"], metrics["confusion"], strict=True):
        total = sum(counts) or 1
        rows.append([name, *(_percent(count / total) for count in counts)])
    return f"## Confusions, % of each true class\n\n{_table(rows)}"


def _folds(metrics):
    rows = [["seed", "fold", "utterances", "UA", "WA", "ECE", "epoch"]]
    for fold in metrics["folds"]:
        shares = [_percent(fold[name]) if name in fold else "" for name in ("UA", "WA", "ECE")]
        place = [fold["seed"], fold["fold"], fold["n"]]
        rows.append([str(value) for value in (*place, *shares, fold.get("epoch", ""))])
    return f"## Folds\n\n{_table(rows)}"


def _data(summary, protocol):
    speakers = len(summary["speakers"].keys() - {"(unknown)"})
    counts = ", ".join(f"{name} {count}" for name, count in summary["classes"].items())
    lines = [f"{summary['clips']} clips, {speakers} speakers, {summary['hours']:.2f} h: {counts}."]
    lines += [f"- warning: {text}" for text in summary["protocols"][protocol]["warnings"]]
    left_out = summary["left_out"]
    if left_out:
        lines.append(f"\nLeft out, {len(left_out)} (all in manifest/summary.json):\n")
        lines += [f"- `{entry['name']}`: {entry['reason']}" for entry in left_out[:SHOWN]]
    return "## Data\n\n" + "\n".join(lines) + "\n"


def _model(run):
    if not (run / "model").is_dir():
        return (
            "## Model\n\nNot in this folder: `--export` says where it goes, null switches it off.\n"
        )
    return (
        "## Model\n\n`model/` holds the head with the best dev score, with its encoder:\n\n"
        "    python -m vesper_lobes.classify clip.wav --model model\n"
    )


def _percent(value):
    return f"{100 * value:.1f}"


def _ends(ends):
    return f"[{_percent(ends[0])}, {_percent(ends[1])}]"


def _table(rows):
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def write(run):
    """Write ``report.md`` into a run's folder; its path."""
    path = Path(run) / "report.md"
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(as_markdown(run), encoding="utf-8")
    temporary.replace(path)
    return path


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(write(sys.argv[1]))
