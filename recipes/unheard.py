"""The clean part of a transductive run: its scores on test speakers that no pretraining heard.

    python recipes/unheard.py RUN ENCODER

RUN is an emotion recipe's output folder, ENCODER the folder of its encoder, whose pretraining.json
names the speakers heard, the teacher's included. The heads stay as they are; predictions for heard
speakers are left out. Writes ``RUN/unheard/metrics.json``, ready for

    python recipes/publish.py RUN/unheard --config vesper_mini_unheard
"""

import argparse
import sys
from pathlib import Path

from vesper_lobes.cross_corpus_run import heard_speakers, only_speakers
from vesper_lobes.run_metrics import build_metrics, read_metrics, read_predictions, write_metrics

GROUPS = {"MELD": "dialogue"}  # its six leads are in every split


def unheard_metrics(run, encoder):
    """``metrics.json`` of a run's unheard test speakers.

    Arguments
    ---------
    run, encoder : str or pathlib.Path

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        Nothing tells what was heard, some of it is without names, or fewer than two test speakers
        are left.
    """
    run = Path(run)
    metrics = read_metrics(run / "metrics.json")
    corpus, folds = metrics["corpus"], {cell["fold"] for cell in metrics["folds"]}
    heard = heard_speakers(encoder, corpus)
    if not heard or "" in heard:
        why = "names no speaker of" if not heard else "holds clips without a speaker of"
        raise ValueError(f"{encoder}: its pretraining.json {why} {corpus}")

    def predictions(folder):
        found = read_predictions(folder)
        seeds = [seed for seed in metrics["seeds"] if seed in found]
        return {seed: {k: found[seed][k] for k in sorted(folds)} for seed in seeds}

    own = predictions(run)
    speakers = {s for seed in own.values() for table in seed.values() for s in table["speaker"]}
    unheard = speakers - heard
    if len(unheard) < 2:
        raise ValueError(f"of {len(speakers)} test speakers {len(unheard)} were not heard: too few")
    baselines = {name: predictions(run / "baselines" / name) for name in metrics["baselines"]}
    kept = ("epoch", "dev", "selected_on_test")
    return build_metrics(
        only_speakers(own, unheard),
        corpus=corpus,
        protocol=metrics["protocol"],
        classes=metrics["classes"],
        ssl_saw_test_audio=False,
        params=metrics["params"],
        trainable_params=metrics["trainable_params"],
        seconds=metrics["seconds"],
        groups=GROUPS.get(corpus, "speaker"),
        baselines={name: only_speakers(table, unheard) for name, table in baselines.items()},
        fold_details={
            (cell["seed"], cell["fold"]): {name: cell[name] for name in kept if name in cell}
            for cell in metrics["folds"]
        },
        git=metrics["git"],
    )


def main(arguments):
    """Parses, scores, writes, prints; the process's exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("encoder")
    asked = parser.parse_args(arguments)
    try:
        metrics = unheard_metrics(asked.run, asked.encoder)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    path = asked.run / "unheard" / "metrics.json"
    write_metrics(metrics, path)
    low, high = (100 * end for end in metrics["ci"]["UA"])
    value = 100 * metrics["pooled"]["UA"]
    print(f"UA {value:.1f} [{low:.1f}, {high:.1f}] on {metrics['n']} utterances\n{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
