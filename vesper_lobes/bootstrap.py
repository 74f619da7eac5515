"""Bootstrap intervals that resample speakers (or dialogues), for one run and for differences.

Utterances of one speaker are alike, so resampling utterances would give intervals far too narrow:
whole groups are drawn. A run has several seeds; one draw of groups serves all of them, each seed is
scored on its pooled folds, and the seeds' mean is the draw's value.
"""

import logging

import numpy as np

from vesper_lobes.metrics import METRICS, confusion, scores_of

logger = logging.getLogger(__name__)

DRAWS = 2000
LEVEL = 0.95


def seed_confusions(tables, classes, groups="speaker"):
    """Confusion matrices of every seed and group.

    Arguments
    ---------
    tables : list of pandas.DataFrame
        One for each seed: all folds' test predictions, pooled. Columns ``target`` and
        ``prediction`` (class numbers or names) and the group's.
    classes : list of str
    groups : str
        Column to resample by: "speaker", or "dialogue" for MELD.

    Returns
    -------
    names : list of str
        The G groups, sorted.
    confusions : array (seeds, G, C, C)

    Raises
    ------
    ValueError
        A row without a group, or a class that is not in ``classes``.
    """
    labels = [_group_labels(table, groups) for table in tables]
    names = sorted(set().union(*labels))
    number = {name: i for i, name in enumerate(names)}
    size = len(classes)
    stack = np.zeros((len(tables), len(names), size, size))
    for counts, table, rows in zip(stack, tables, labels, strict=True):
        place = [number[name] for name in rows]
        targets, predictions = (
            class_numbers(table[column], classes) for column in ("target", "prediction")
        )
        np.add.at(counts, (place, targets, predictions), 1)
    return names, stack


def class_numbers(values, classes):
    """Class numbers of a column that holds numbers or names."""
    number = {name: i for i, name in enumerate(classes)}
    values = list(values)
    if any(isinstance(value, str) for value in values):
        unknown = sorted({str(value) for value in values if value not in number})
        if unknown:
            raise ValueError(f"{unknown} are none of the classes {list(classes)}")
        return np.array([number[value] for value in values], dtype=np.int64)
    numbers = np.asarray(values)
    confusion(numbers, numbers, len(classes))  # refuses what is no class number
    return numbers.astype(np.int64)


def bootstrap_ci(tables, classes, groups="speaker", draws=DRAWS, seed=0, level=LEVEL):
    """Percentile interval of each score's mean over seeds.

    Arguments
    ---------
    tables, classes, groups
        As for :func:`seed_confusions`.
    draws : int
    seed : int
        Of the draws; two runs over the same groups see the same draws.
    level : float

    Returns
    -------
    dict of [float, float]
        Lower and upper end for WA, UA, WF1 and macroF1.

    Example
    -------
    >>> import pandas as pd
    >>> rows = {"speaker": list("aabbccdd"), "target": [0, 1] * 4}
    >>> table = pd.DataFrame({**rows, "prediction": [0, 1, 0, 0, 1, 1, 0, 1]})
    >>> low, high = bootstrap_ci([table], ["calm", "angry"])["UA"]
    >>> 0.5 <= low < 0.75 < high <= 1.0
    True
    """
    names, confusions = seed_confusions(tables, classes, groups)
    values = _draw_scores(confusions, _draw(names, draws, seed))
    return {name: _interval(values[name], level) for name in METRICS}


def paired_bootstrap(
    tables, other_tables, classes, groups="speaker", draws=DRAWS, seed=0, level=LEVEL
):
    """Interval of the difference between two runs on the same test utterances.

    Both runs see the same resampled groups, so what makes a speaker easy for both cancels: the
    difference can be sure where the two runs' own intervals overlap.

    Arguments
    ---------
    tables, other_tables : list of pandas.DataFrame
        The two runs' seeds, with column ``ID``; the number of seeds may differ.
    classes, groups, draws, seed, level
        As for :func:`bootstrap_ci`.

    Returns
    -------
    dict of dict
        For each score: ``difference`` (first minus second), ``ci`` [low, high], and
        ``share_above_zero``, the share of draws in which the first is better.

    Raises
    ------
    ValueError
        The runs were not scored on the same utterances with the same targets and groups.
    """
    found = contrast_draws([tables], [other_tables], classes, groups, draws, seed)
    return {
        name: {
            "difference": point,
            "ci": _interval(values, level),
            "share_above_zero": float(np.mean(values > 0)),
        }
        for name, (point, values) in found.items()
    }


def contrast_draws(plus, minus, classes, groups="speaker", draws=DRAWS, seed=0):
    """A sum of runs minus another one, on the same test utterances: its value and its draws.

    One run against another is a difference; two against two can be a difference of differences.
    Draws of several corpora, made with different seeds, may be averaged before an interval is
    taken of them.

    Arguments
    ---------
    plus, minus : list of list of pandas.DataFrame
        Runs, each a list of its seeds' tables as for :func:`paired_bootstrap`.
    classes, groups, draws, seed
        As for :func:`bootstrap_ci`.

    Returns
    -------
    dict of (float, array (draws,))
        For each score.

    Raises
    ------
    ValueError
        The runs were not scored on the same utterances with the same targets and groups.

    Example
    -------
    >>> import pandas as pd
    >>> rows = {"ID": range(8), "speaker": list("aabbccdd"), "target": [0, 1] * 4}
    >>> good = [pd.DataFrame({**rows, "prediction": [0, 1] * 4})]
    >>> poor = [pd.DataFrame({**rows, "prediction": [0, 0] * 4})]
    >>> value, drawn = contrast_draws([good], [poor], ["calm", "angry"], draws=50)["UA"]
    >>> value, drawn.shape
    (0.5, (50,))
    """
    check_same_utterances([table for run in [*plus, *minus] for table in run], classes, groups)
    names = seed_confusions(plus[0], classes, groups)[0]
    whole = np.ones((1, len(names)))  # every group once: the value itself
    counts = np.concatenate([whole, _draw(names, draws, seed)])
    total = dict.fromkeys(METRICS, 0.0)
    for sign, runs in ((1, plus), (-1, minus)):
        for run in runs:
            values = _draw_scores(seed_confusions(run, classes, groups)[1], counts)
            total = {name: total[name] + sign * values[name] for name in METRICS}
    return {name: (float(values[0]), values[1:]) for name, values in total.items()}


def check_same_utterances(tables, classes, groups="speaker"):
    """ValueError unless all tables hold the same IDs, once each, with equal targets and groups."""
    known = None
    for table in tables:
        if table["ID"].duplicated().any():
            twice = table["ID"][table["ID"].duplicated()].iloc[0]
            raise ValueError(f"utterance {twice} was predicted twice within one seed")
        facts = zip(
            class_numbers(table["target"], classes), _group_labels(table, groups), strict=True
        )
        rows = dict(zip(table["ID"].astype(str), facts, strict=True))
        known = known or rows
        if rows.keys() != known.keys():
            odd = sorted(rows.keys() ^ known.keys())
            raise ValueError(f"{len(odd)} utterances are not in all tables, first {odd[0]}")
        for utterance, fact in rows.items():
            if fact != known[utterance]:
                raise ValueError(
                    f"utterance {utterance}: target or {groups} differs between tables"
                )


def _group_labels(table, groups):
    """The group of each row, as text (a csv reader turns speaker 03 into 3 or 3.0)."""
    column = table[groups]
    if column.isna().any() or (column.astype(str).str.strip() == "").any():
        where = table.index[column.isna() | (column.astype(str).str.strip() == "")][0]
        raise ValueError(f"row {where} has no {groups}: intervals resample by it")
    return column.astype(str).tolist()


def _draw(names, draws, seed):
    """How often each group is in each draw: (draws, G), rows sum to G."""
    size = len(names)
    if size < 2:
        logger.warning("one group only (%s): the interval says nothing", names)
    return np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=draws)


def _draw_scores(confusions, counts):
    """Mean over seeds of each score, for each draw: dict of (draws,)."""
    drawn = np.tensordot(counts, confusions, axes=(1, 1))  # (draws, seeds, C, C)
    return {name: values.mean(1) for name, values in scores_of(drawn).items()}


def _interval(values, level):
    tail = 100 * (1 - level) / 2
    return [float(end) for end in np.percentile(values, [tail, 100 - tail])]
