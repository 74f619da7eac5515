"""The floor of every emotion table: a ridge classifier on statistics of MFCCs.

No network and no pretraining, so whatever a learned encoder does not add to this figure it did not
learn. Mean and standard deviation over time of 13 MFCCs and their two differences (the features
whose clusters the mini teacher predicts, :func:`vesper_lobes.clusters.mfcc`), standardised with the
training set, then scikit-learn's RidgeClassifier, its penalty chosen on the dev set alone.
"""

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from vesper_lobes.audio import crop_or_keep, read_audio
from vesper_lobes.clusters import mfcc
from vesper_lobes.emotion_brain import selection_score
from vesper_lobes.lengths import FIELD
from vesper_lobes.metrics import scores

ALPHAS = tuple(10.0**power for power in range(-1, 6))  # ours; standardised inputs, 78 of them


def mfcc_statistics(wav):
    """Mean and standard deviation over time of MFCCs with first and second differences.

    Arguments
    ---------
    wav : torch.Tensor
        (S,) samples at 16 kHz, at least 400.

    Returns
    -------
    numpy.ndarray
        (78,) float32.

    Example
    -------
    >>> mfcc_statistics(torch.randn(16000)).shape
    (78,)
    """
    if len(wav) < FIELD:
        raise ValueError(f"{len(wav)} samples are shorter than one frame ({FIELD} samples)")
    features = mfcc(wav[None], torch.tensor([len(wav)]))[0][0]  # (T, 39)
    spread = features.std(0, correction=0)
    return torch.cat([features.mean(0), spread]).numpy().astype(np.float32)


def corpus_statistics(manifest, crop_seconds=None, progressbar=True):
    """Statistics of every row of a manifest whose `wav` are real paths: (N, 78)."""
    rows = manifest[["wav", "start", "stop"]].itertuples(index=False)
    bar = tqdm(rows, total=len(manifest), desc="MFCC statistics", disable=not progressbar)
    wavs = (crop_or_keep(read_audio(row.wav, row.start, row.stop), crop_seconds) for row in bar)
    return np.stack([mfcc_statistics(wav) for wav in wavs])


def fit_ridge(features, targets, dev_features, dev_targets, num_classes, metric="WA"):
    """The ridge classifier whose penalty does best on the dev set.

    Arguments
    ---------
    features, dev_features : numpy.ndarray
        (n, F).
    targets, dev_targets : numpy.ndarray
        (n,) class numbers.
    num_classes : int
    metric : str
        As in :func:`vesper_lobes.emotion_brain.selection_score`. Of equal penalties, the stronger.

    Returns
    -------
    model : sklearn.pipeline.Pipeline
        Fitted on `features` alone.
    best : dict
        alpha and score on dev.
    """
    best, chosen = None, None
    for alpha in ALPHAS:
        model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=alpha))
        model.fit(features, targets)
        predictions = torch.as_tensor(model.predict(dev_features))
        values = scores(torch.as_tensor(dev_targets), predictions, num_classes)
        score = selection_score(values, metric)
        if best is None or score >= best["score"]:
            best, chosen = {"alpha": alpha, "score": score}, model
    return chosen, best


def predicted_classes(model, features, num_classes):
    """Predictions as (n, C) rows of 0 and 1: a ridge classifier gives no probabilities."""
    return np.eye(num_classes)[model.predict(features)]


def fit_fold(features, corpus, fold, metric):
    """Trains on a fold, chooses on its dev set, predicts its test set.

    Arguments
    ---------
    features : numpy.ndarray
        (N, F), rows as in the corpus's manifest.
    corpus : vesper_lobes.emotion_cells.Corpus
    fold : vesper_lobes.emotion_cells.Fold
    metric : str

    Returns
    -------
    probabilities : numpy.ndarray
        (n, C) rows of 0 and 1, of the fold's test utterances in their order.
    best : dict
        alpha and score on dev.
    """
    train, dev, test = (corpus.take(ids) for ids in (fold.train, fold.dev, fold.test))
    targets, size = corpus.targets.numpy(), len(corpus.classes)
    sets = features[train], targets[train], features[dev], targets[dev]
    model, best = fit_ridge(*sets, size, metric)
    return predicted_classes(model, features[test], size), best
