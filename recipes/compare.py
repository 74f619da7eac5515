"""Is run A better than run B? Differences of two runs with paired bootstrap intervals.

    python recipes/compare.py RUN_A RUN_B [--json]

A run is an emotion recipe's output folder (``metrics.json`` and ``seed<s>/fold<k>``), or a baseline
in it, such as ``RUN_A/baselines/teacher``. Both runs are resampled together, by speaker (MELD: by
dialogue), so what makes a speaker easy for both cancels: a difference can be sure where the runs'
own intervals overlap. Runs that were not tested on the same utterances are refused.
"""

import argparse
import json
import sys
from pathlib import Path

from vesper_lobes.bootstrap import DRAWS, paired_bootstrap
from vesper_lobes.run_metrics import pool_folds, read_metrics, read_predictions

GROUPS = {"MELD": "dialogue"}  # its six leads are in every split
SAME = ("corpus", "classes")
NOTED = ("protocol", "ssl_saw_test_audio")


def read_run(folder):
    """A run's metrics and the pooled predictions of each of its seeds.

    Arguments
    ---------
    folder : str or pathlib.Path
        A run, or ``RUN/baselines/<name>``, which shares the run's metrics.json.

    Returns
    -------
    metrics : dict
    tables : list of pandas.DataFrame
        One a seed. Cells of seeds or folds that the run did not report are left alone.

    Raises
    ------
    ValueError
        No metrics.json, or cells that it reports are not there.
    """
    folder = Path(folder)
    own = (folder / "metrics.json").is_file()
    run = folder if own else folder.parent.parent
    if not own and (folder.parent.name != "baselines" or not (run / "metrics.json").is_file()):
        raise ValueError(f"{folder}: no metrics.json; this is no run, or it has not ended")
    metrics = read_metrics(run / "metrics.json")
    predictions = read_predictions(folder)
    cells = [(cell["seed"], cell["fold"]) for cell in metrics["folds"]]
    folds = {fold for _, fold in cells}
    if own:
        missing = [(s, k) for s, k in cells if k not in predictions.get(s, {})]
    else:  # the floor has one seed only
        missing = [(s, k) for s in predictions for k in folds if k not in predictions[s]]
    if missing:
        raise ValueError(f"{folder}: the predictions of (seed, fold) {missing[0]} are missing")
    seeds = metrics["seeds"] if own else [s for s in predictions if s in metrics["seeds"]]
    return metrics, pool_folds({s: {k: predictions[s][k] for k in sorted(folds)} for s in seeds})


def compare(run_a, run_b, groups=None, draws=DRAWS):
    """Differences A minus B.

    Arguments
    ---------
    run_a, run_b : str or pathlib.Path
    groups : str, optional
        "speaker" or "dialogue"; default: dialogue for MELD, speaker else.
    draws : int

    Returns
    -------
    dict
        corpus, groups, n (utterances), seeds [of A, of B], notes, and ``scores``: for each score
        ``difference``, ``ci`` [low, high] and ``share_above_zero`` (see
        :func:`vesper_lobes.bootstrap.paired_bootstrap`).

    Raises
    ------
    ValueError
        Other corpora, classes, utterances, targets or speakers.
    """
    (first, tables_a), (second, tables_b) = read_run(run_a), read_run(run_b)
    for name in SAME:
        if first[name] != second[name]:
            raise ValueError(f"not comparable: {name} is {first[name]} and {second[name]}")
    groups = groups or GROUPS.get(first["corpus"], "speaker")
    return {
        "corpus": first["corpus"],
        "groups": groups,
        "n": len(tables_a[0]),
        "seeds": [len(tables_a), len(tables_b)],
        "notes": [
            f"{name} differs: {first[name]} and {second[name]}"
            for name in NOTED
            if first[name] != second[name]
        ],
        "scores": paired_bootstrap(tables_a, tables_b, first["classes"], groups, draws),
    }


def as_text(found):
    """The table a person reads, in points of per cent."""
    seeds = " and ".join(str(count) for count in found["seeds"])
    lines = [
        f"{found['corpus']}: A minus B in points, {found['n']} utterances, {seeds} seeds, "
        f"95 % interval over {found['groups']}s",
        *(f"note: {note}" for note in found["notes"]),
        f"{'':<9}{'A - B':>7}  {'interval':<16}  {'A better in':<11}",
    ]
    for name, row in found["scores"].items():
        low, high = (100 * end for end in row["ci"])
        sure = "sure" if low > 0 or high < 0 else "within noise"
        span = f"[{low:+.1f}, {high:+.1f}]"
        share = f"{100 * row['share_above_zero']:.0f} % of draws"
        lines.append(f"{name:<9}{100 * row['difference']:>+7.1f}  {span:<16}  {share}, {sure}")
    return "\n".join(lines)


def main(arguments):
    """Parses, compares, prints; the process's exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_a")
    parser.add_argument("run_b")
    parser.add_argument("--groups", choices=["speaker", "dialogue"], help="what is resampled")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    asked = parser.parse_args(arguments)
    try:
        found = compare(asked.run_a, asked.run_b, asked.groups)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(found, indent=1) if asked.json else as_text(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
