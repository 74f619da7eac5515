"""What the paper claims, which rows each claim rests on, and what its own figures say of it."""

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from rows import HEAD_NAMES, HERE, MODEL_NAMES, VALUE_NAMES, key_of

SIGNS = {"greater": 1, "less": -1}


class Pair(NamedTuple):
    """Rows that are added up on either side; "left" is claimed to be the better or poorer one."""

    left: tuple
    right: tuple
    sign: int

    def plus(self):
        """The side that is claimed to be the better one."""
        return self.left if self.sign > 0 else self.right

    def minus(self):
        """The other one."""
        return self.right if self.sign > 0 else self.left


class Claim(NamedTuple):
    """One sentence of the paper, and the pairs of rows it rests on."""

    id: str
    table: str
    text: str
    of_paper: bool
    metric: str
    pairs: list


def read_claims(path=HERE / "claims.yaml"):
    """The claims, with "for" spelt out into pairs."""
    found = []
    for entry in yaml.safe_load(Path(path).read_text(encoding="utf-8")):
        spread = entry.get("for", {})
        pairs = []
        for values in itertools.product(*spread.values()):
            common = dict(zip(spread, values, strict=True))
            for pair in entry["pairs"]:
                sides = [_side(pair[side], common) for side in ("left", "right")]
                pairs.append(Pair(*sides, SIGNS[entry["direction"]]))
        known = entry.get("paper", True)
        found.append(
            Claim(entry["id"], entry["table"], entry["claim"], known, entry["metric"], pairs)
        )
    if len({claim.id for claim in found}) < len(found):
        raise ValueError(f"{path}: two claims have one id")
    return found


def in_paper(targets, claim):
    """The claim on the paper's own figures, corpus by corpus and score by score.

    Returns
    -------
    dict
        ``cells``: how many comparisons its tables allow; ``against``: those in which the claimed
        side is not ahead, as sentences.
    """
    cells, against = 0, []
    for pair in claim.pairs:
        for corpus, metric in itertools.product(targets.corpora, targets.metrics):
            sides = _figures_of(targets, pair, corpus, metric)
            if None in sides[0] + sides[1]:
                continue
            cells += 1
            ahead, behind = (sum(side) for side in sides)
            if round(ahead - behind, 6) <= 0:
                against.append(_sentence(pair, corpus, metric, *sides))
    return {"cells": cells, "against": against}


def paper_difference(targets, pair, metric):
    """The paper's own difference, mean over the corpora that have all figures; None without."""
    found = []
    for corpus in targets.corpora:
        sides = _figures_of(targets, pair, corpus, metric)
        if None not in sides[0] + sides[1]:
            found.append(sum(sides[0]) - sum(sides[1]))
    return round(float(np.mean(found)), 4) if found else None


def _figures_of(targets, pair, corpus, metric):
    """The paper's figures of both sides; None where it has none."""
    return [
        [targets.figures.get(key, {}).get(corpus, {}).get(metric) for key in keys]
        for keys in (pair.plus(), pair.minus())
    ]


def label_of(pair):
    """A pair in words: ``Vesper-4: guided > random masking``."""
    one, other = pair.plus(), pair.minus()
    if len(one) > 1:
        costly, cheap = one[0], other[1]
        return f"{MODEL_NAMES[costly.model]} loses more than {MODEL_NAMES[cheap.model]}"
    one, other = one[0], other[0]
    head = f", {HEAD_NAMES[one.head]}" if one.head != "superb" else ""
    if one.model != other.model:
        return f"{MODEL_NAMES[one.model]} > {MODEL_NAMES[other.model]}{head}"
    field = next(name for name in one._fields if getattr(one, name) != getattr(other, name))
    names = [VALUE_NAMES[field].get(getattr(key, field)) for key in (one, other)]
    return f"{MODEL_NAMES[one.model]}: {names[0]} > {names[1]}{head}"


def _side(entry, common):
    entries = entry if isinstance(entry, list) else [entry]
    return tuple(key_of({**common, **one}) for one in entries)


def _sentence(pair, corpus, metric, plus, minus):
    """A comparison that the paper's figures do not bear out, with the figures."""
    if len(plus) > 1:
        costs = f"{100 * (plus[0] - minus[0]):.1f} against {100 * (minus[1] - plus[1]):.1f} points"
        return f"{label_of(pair)}: {corpus} {metric} {costs}".replace(" -", " \N{MINUS SIGN}")
    sign = "=" if plus == minus else "<"
    figures = f"{100 * plus[0]:.1f} {sign} {100 * minus[0]:.1f}"
    return f"{label_of(pair)}: {corpus} {metric} {figures}"
