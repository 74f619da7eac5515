"""Evaluation protocols as files: ``OUT/folds/<protocol>/fold<k>_{train,dev,test}.csv``, k from 1.

A   as published code evaluates: the epoch is picked on the test set, so dev *is* the test set
B   the honest one: dev is another fold, and no speaker is in two sets
C   SUPERB's, for IEMOCAP only: dev is a random fifth of the four training sessions
E   EmoBox's own folds, most of which share speakers between train and test

A fold is made from groups of a column's values (two speakers of EmoDB, one session of IEMOCAP):
fold k tests on group k, takes group k+1 as dev (the last one group 1) and trains on the others.
Corpora with an official split, and random splits, have one fold. Every builder returns a list of
`Fold`; `write_folds` is the only place that knows the files' names.
"""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from data_prep.manifest import write_manifest

SETS = ("train", "dev", "test")
PROTOCOLS = {
    "A": "epoch picked on the test set, as published code does",
    "B": "speaker-disjoint, epoch picked on a dev set",
    "C": "SUPERB's, for IEMOCAP only",
    "E": "EmoBox's own folds, for corpora prepared by emobox_prepare.py only",
}


class ProtocolError(ValueError):
    """A protocol that this corpus does not have, or that its data cannot fill."""


class Fold(NamedTuple):
    """Rows of one manifest: three data frames with its columns."""

    train: pd.DataFrame
    dev: pd.DataFrame
    test: pd.DataFrame


class FoldPaths(NamedTuple):
    """The three csv files of one fold."""

    train: Path
    dev: Path
    test: Path


def check_protocol(protocol, allowed, corpus):
    """Raise a `ProtocolError` that says which protocols the corpus has.

    Examples
    --------
    >>> check_protocol("B", "AB", "EmoDB")
    >>> check_protocol("C", "AB", "EmoDB")
    Traceback (most recent call last):
    ...
    data_prep.folds.ProtocolError: EmoDB has no protocol 'C' (SUPERB's, for IEMOCAP only). Choose A or B.
    """  # noqa: E501
    if protocol not in tuple(allowed):
        meaning = f" ({PROTOCOLS[protocol]})" if protocol in PROTOCOLS else ""
        choice = " or ".join(allowed)
        raise ProtocolError(f"{corpus} has no protocol {protocol!r}{meaning}. Choose {choice}.")


def groups_of(values, num_groups, kinds=None):
    """Cut the sorted distinct values into groups of neighbours, as equal as can be.

    Parameters
    ----------
    values : iterable of str
        Speakers, or what else must not be in two sets.
    num_groups : int
        At least 3, so that train, dev and test have one each.
    kinds : dict, optional
        Value -> kind (such as the speaker's sex). Each kind is cut by itself, so that every group
        has its share of each.

    Returns
    -------
    list of list of str

    Examples
    --------
    >>> groups_of(["08", "03", "03", "10", "09", "11"], 3)
    [['03', '08'], ['09', '10'], ['11']]
    """
    values = sorted(set(values))
    if num_groups < 3:
        raise ProtocolError(f"{num_groups} folds: train, dev and test need at least 3.")
    if "" in values:
        raise ProtocolError(
            "some utterances have no speaker, so no split can be called speaker-disjoint. "
            "Give speakers (folder names, a csv column or a regex group)."
        )
    if len(values) < num_groups:
        raise ProtocolError(
            f"{len(values)} speakers do not fill {num_groups} folds. Ask for fewer folds; "
            "with fewer than 3 speakers there is no honest test."
        )
    groups = [[] for _ in range(num_groups)]
    kinds = kinds or {}
    for turn, kind in enumerate(sorted({kinds.get(v, "") for v in values})):
        members = [v for v in values if kinds.get(v, "") == kind]
        sizes = np.full(num_groups, len(members) // num_groups)
        sizes[: len(members) % num_groups] += 1
        ends = np.cumsum(sizes if turn % 2 == 0 else sizes[::-1])  # even out the remainders
        for group, start, end in zip(groups, np.r_[0, ends[:-1]], ends, strict=True):
            group.extend(members[start:end])
    return groups


def rotating_folds(manifest, groups, protocol, column="speaker"):
    """One fold per group: test it, dev is the next group (protocol B) or the test set itself (A).

    Parameters
    ----------
    manifest : pandas.DataFrame
    groups : list of list of str
        Values of `column`; see `groups_of`.
    protocol : "A" or "B"
    column : str

    Returns
    -------
    list of Fold
    """
    member = {value: k for k, group in enumerate(groups) for value in group}
    number = manifest[column].map(member)
    if number.isna().any():
        value = manifest.loc[number.isna(), column].iloc[0]
        raise ProtocolError(f"{column} {value!r} is in no group.")
    folds = []
    for k in range(len(groups)):
        test = number == k
        dev = test if protocol == "A" else number == (k + 1) % len(groups)
        folds.append(Fold(manifest[~test & ~dev], manifest[dev], manifest[test]))
    return folds


def random_dev_folds(manifest, groups, column="session", share=0.2, seed=0):
    """One fold per group: test it, dev is a random `share` of the utterances of all the others.

    Protocol C. Utterances are drawn over rows sorted by ID, by NumPy's `RandomState(seed)` anew in
    every fold, so the folds depend on nothing else.
    """
    folds = []
    for group in groups:
        test = manifest[column].isin(group)
        rest = manifest[~test].sort_values("ID")
        order = np.random.RandomState(seed).permutation(len(rest))
        dev = np.zeros(len(rest), dtype=bool)
        dev[order[: round(share * len(rest))]] = True
        folds.append(Fold(rest[~dev], rest[dev], manifest[test]))
    return folds


def official_fold(manifest, protocol):
    """The corpus's own split, from the `split` column (train, dev, test), as the only fold.

    Under A and B alike the epoch is picked on the official dev set; without one, A picks on test
    and B is refused.
    """
    sets = [manifest[manifest["split"] == name] for name in SETS]
    if not len(sets[1]) and protocol == "A":
        sets[1] = sets[2]
    empty = [name for name, rows in zip(SETS, sets, strict=True) if not len(rows)]
    if empty:
        raise ProtocolError(
            f"the split column names no utterance of {empty}. Fill it with train, dev and test, "
            "or leave it empty for folds by speaker."
        )
    return [Fold(*sets)]


def stratified_fold(manifest, share, seed):
    """One random split, each emotion cut alike, dev = test: protocol A of CREMA-D.

    Of every emotion the rounded `share` goes to test, drawn over rows sorted by ID with NumPy's
    `RandomState(seed)`.
    """
    rows, random = manifest.sort_values("ID"), np.random.RandomState(seed)
    test = np.zeros(len(rows), dtype=bool)
    for emotion in sorted(set(rows["emotion"])):
        places = np.flatnonzero(rows["emotion"] == emotion)
        test[random.permutation(places)[: round(share * len(places))]] = True
    return [Fold(rows[~test], rows[test], rows[test])]


def check_folds(folds, protocol, disjoint="speaker"):
    """Assert what a protocol promises, and tell what it does not.

    Parameters
    ----------
    folds : list of Fold
    protocol : str
    disjoint : str or None
        The column that protocol B promises not to share between sets; None where it cannot.

    Returns
    -------
    list of str
        Warnings: classes without training examples, speakers shared where it is allowed.

    Raises
    ------
    ProtocolError
        Empty sets, an utterance in both train and another set, a shared speaker under B.
    """
    warnings = []
    for k, fold in enumerate(folds, start=1):
        for name, rows in zip(SETS, fold, strict=True):
            if not len(rows):
                raise ProtocolError(f"fold {k} of protocol {protocol} has no {name} utterance.")
        if set(fold.train["ID"]) & (set(fold.dev["ID"]) | set(fold.test["ID"])):
            raise ProtocolError(f"fold {k} of protocol {protocol} trains on held-out utterances.")
        shared = _shared(fold, disjoint or "speaker")
        if shared and protocol == "B" and disjoint:
            raise ProtocolError(
                f"fold {k}: {disjoint} {sorted(set().union(*shared.values()))} in two sets, "
                "which protocol B forbids. "
                "Without a given split the folds go by speaker; protocol A only warns."
            )
        for pair, speakers in shared.items():
            warnings.append(f"fold {k}: {pair} share {len(speakers)} speakers")
        if protocol == "E" and not set(fold.train["speaker"]) - {""}:
            warnings.append(f"fold {k}: speakers unknown, training and test may share them")
        unseen = (set(fold.dev["emotion"]) | set(fold.test["emotion"])) - set(fold.train["emotion"])
        if unseen:
            warnings.append(f"fold {k}: no training example of {sorted(unseen)}")
    return warnings


def _shared(fold, column):
    """Pair of sets -> the column's values in both; A's dev, which is its test, counts once."""
    train, dev, test = (set(rows[column]) - {""} for rows in fold)
    pairs = {"train and test": train & test}
    if not fold.dev["ID"].equals(fold.test["ID"]):
        pairs |= {"train and dev": train & dev, "dev and test": dev & test}
    return {pair: values for pair, values in pairs.items() if values}


def write_folds(folds, save_folder, protocol):
    """Write the folds in the place of any older ones of this protocol; return their paths."""
    folder = Path(save_folder) / "folds" / protocol
    if folder.exists():
        shutil.rmtree(folder)  # a run with more folds must not leave its last ones behind
    for k, fold in enumerate(folds, start=1):
        for rows, path in zip(fold, _paths(folder, k), strict=True):
            write_manifest(rows, path)
    return fold_paths(save_folder, protocol)


def fold_paths(save_folder, protocol):
    """The written folds of a protocol, in order: a tuple of `FoldPaths`."""
    folder = Path(save_folder) / "folds" / protocol
    paths, k = [], 1
    while all(path.is_file() for path in _paths(folder, k)):
        paths.append(_paths(folder, k))
        k += 1
    return tuple(paths)


def _paths(folder, k):
    return FoldPaths(*(folder / f"fold{k}_{name}.csv" for name in SETS))
