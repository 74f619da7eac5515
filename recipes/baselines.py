"""The floor of a table by itself: a ridge classifier on MFCC statistics, on a corpus's own folds.

    python recipes/baselines.py --manifest OUT/manifest.csv --folds OUT/folds/B --data_root CORPUS

Every emotion recipe computes the same figure in its run (``mfcc_ridge`` in metrics.json); this
command needs no encoder. OUT is what the corpus's preparer wrote.
"""

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from data_prep.manifest import read_manifest
from vesper_lobes.bootstrap import bootstrap_ci
from vesper_lobes.emotion_cells import SETS, Corpus, prediction_table, read_folds
from vesper_lobes.metrics import scores
from vesper_lobes.mfcc_ridge import corpus_statistics, fit_fold


def fold_files(folder):
    """(train, dev, test) paths of every fold in ``OUT/folds/<protocol>``, in order."""
    names = sorted(Path(folder).glob("fold*_test.csv"), key=lambda path: int(path.stem[4:-5]))
    return [[path.with_name(path.name.replace("test", name)) for name in SETS] for path in names]


def floor(manifest, folds, data_root, classes=None, metric="WA", groups="speaker", crop=None):
    """Scores of the ridge classifier, folds pooled.

    Arguments
    ---------
    manifest, folds, data_root : str or pathlib.Path
    classes : list of str, optional
        Default: the manifest's emotions, sorted.
    metric : str
        What picks the penalty on dev: WA, WF1, WA+UA.
    groups : str
        What the interval resamples: speaker or dialogue.
    crop : float, optional
        Seconds of each clip that are heard; None: all.

    Returns
    -------
    dict
        classes, n, the pooled scores, ci (95 %) and the penalty of each fold.
    """
    rows = read_manifest(manifest, data_root=data_root)
    classes = classes or sorted(set(rows["emotion"]))
    corpus = Corpus(rows, classes, read_folds(fold_files(folds)))
    features = corpus_statistics(rows, crop)
    tables, alphas = [], []
    for fold in corpus.folds:
        probabilities, best = fit_fold(features, corpus, fold, metric)
        tables.append(prediction_table(corpus, fold, probabilities))
        alphas.append(best["alpha"])
    table = pd.concat(tables, ignore_index=True)
    numbers = [[classes.index(name) for name in table[c]] for c in ("target", "prediction")]
    found = {"classes": classes, "n": len(table), **scores(*numbers, len(classes))}
    return {**found, "ci": bootstrap_ci([table], classes, groups), "alphas": alphas}


def main(arguments):
    """Parses, computes, prints JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--folds", required=True, help="folder of fold<k>_{train,dev,test}.csv")
    parser.add_argument("--data_root", required=True, help="what $data_root stands for")
    parser.add_argument("--classes", nargs="+", help="fixed order; default: sorted emotions")
    parser.add_argument("--metric", default="WA", help="picks the penalty on dev")
    parser.add_argument("--groups", default="speaker", choices=["speaker", "dialogue"])
    parser.add_argument("--crop", type=float, help="seconds of each clip; default: all")
    print(json.dumps(floor(**vars(parser.parse_args(arguments))), indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
