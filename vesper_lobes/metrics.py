"""Scores of a classifier: WA, UA, WF1, macro-F1, per-class figures, confusion, calibration.

Every score is a function of a confusion matrix and works on stacks of them, so a headline figure
and its bootstrap interval come from one formula. Averages over classes take the classes that occur
among the *targets*: a class that is only predicted has no recall to average, and counting it as
zero (as library defaults and the published code do) lowers a score by the choice of test set.
"""

import numpy as np
import torch

METRICS = ("WA", "UA", "WF1", "macroF1")
CALIBRATION_BINS = 15  # Guo et al. 2017, "On Calibration of Modern Neural Networks"


def scores(targets, predictions, num_classes):
    """The four figures every table prints.

    Arguments
    ---------
    targets, predictions : sequence, array or tensor of int (N,)
        Class numbers, 0 to ``num_classes - 1``.
    num_classes : int

    Returns
    -------
    dict of float
        WA (accuracy), UA (mean recall), WF1 (support-weighted F1), macroF1 (plain mean of F1).
        Plain Python floats: a checkpoint's meta that holds others saves and never loads again.

    Raises
    ------
    ValueError
        No utterances, unequal lengths, or class numbers out of range.

    Example
    -------
    >>> scores([0, 0, 0, 1], [0, 0, 1, 1], num_classes=3)
    {'WA': 0.75, 'UA': 0.833..., 'WF1': 0.766..., 'macroF1': 0.733...}
    """
    stacked = scores_of(confusion(targets, predictions, num_classes))
    return {name: float(value) for name, value in stacked.items()}


def confusion(targets, predictions, num_classes):
    """Counts, row = target, column = prediction: integer array (C, C)."""
    targets, predictions = _classes(targets, num_classes), _classes(predictions, num_classes)
    if len(targets) != len(predictions):
        raise ValueError(f"{len(targets)} targets, but {len(predictions)} predictions")
    if len(targets) == 0:
        raise ValueError("no utterances to score")
    cells = np.bincount(targets * num_classes + predictions, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def scores_of(confusions):
    """WA, UA, WF1 and macro-F1 of each confusion matrix of a stack.

    Arguments
    ---------
    confusions : array (..., C, C)
        Counts, row = target; weights instead of counts will do.

    Returns
    -------
    dict of array (...)
    """
    recall, _, f1, support = per_class_of(confusions)
    occurs = support > 0  # (..., C)
    total = support.sum(-1)
    classes = np.maximum(occurs.sum(-1), 1)
    return {
        "WA": np.trace(confusions, axis1=-2, axis2=-1) / total,
        "UA": np.where(occurs, recall, 0).sum(-1) / classes,
        "WF1": (f1 * support).sum(-1) / total,
        "macroF1": np.where(occurs, f1, 0).sum(-1) / classes,
    }


def per_class_of(confusions):
    """Recall, precision, F1 and support of each class, four arrays (..., C).

    What has no denominator is 0: the recall of a class without targets, the precision of one that
    is never predicted.
    """
    confusions = np.asarray(confusions, dtype=np.float64)
    right = np.diagonal(confusions, axis1=-2, axis2=-1)
    support, predicted = confusions.sum(-1), confusions.sum(-2)
    recall = right / np.where(support > 0, support, 1)
    precision = right / np.where(predicted > 0, predicted, 1)
    both = support + predicted
    return recall, precision, 2 * right / np.where(both > 0, both, 1), support


def ece(probabilities, targets, bins=CALIBRATION_BINS):
    """Expected calibration error: mean distance of confidence and accuracy, by confidence bins.

    Arguments
    ---------
    probabilities : array or tensor (N, C)
    targets : sequence, array or tensor of int (N,)
    bins : int
        Equally wide, on the probability of the predicted class.

    Returns
    -------
    float
        0 (calibrated) to 1.

    Example
    -------
    >>> ece([[0.75, 0.25]] * 4, [0, 0, 0, 1])  # right three times in four, and says so
    0.0
    """
    probabilities = _array(probabilities).astype(np.float64)
    num_classes = probabilities.shape[1]
    right = probabilities.argmax(1) == _classes(targets, num_classes)
    confidence = probabilities.max(1)
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(which, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(right))


def _array(values):
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _classes(values, num_classes):
    values = _array(values).reshape(-1)
    if len(values) == 0:
        return values.astype(np.int64)
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"class numbers must be integers, not {values.dtype}")
    if values.min() < 0 or values.max() >= num_classes:
        found = f"class numbers from {values.min()} to {values.max()}"
        raise ValueError(f"{found}, but there are {num_classes} classes")
    return values.astype(np.int64)
