"""Which of the paper's claims hold here, and which its own tables bear out.

A claim rests on pairs of rows. For each pair the statistic is the difference of scores on the same
test utterances under protocol B, per corpus, then its mean over the corpora; the interval is a
paired bootstrap over speakers (MELD: dialogues), drawn independently in each corpus. The verdict on
a pair: supported (the 95 % interval lies on the claimed side of zero), contradicted (on the other),
undecided. Nothing is decided by a point estimate, and nothing is left out.
"""

import itertools
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from rows import GROUPS, HEAD_NAMES, HERE, MODEL_NAMES, VALUE_NAMES, key_of
from scipy import stats

from vesper_lobes.bootstrap import DRAWS, contrast_draws
from vesper_lobes.metrics import METRICS

SUPPORTED, CONTRADICTED, UNDECIDED, NOT_RUN = (
    "supported",
    "contradicted",
    "undecided",
    "not run",
)
VERDICTS = (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_RUN)
SIGNS = {"greater": 1, "less": -1}
PROTOCOL = "B"
LEVEL = 0.95
DISAGREE, ONE_SEED = "pretraining seeds disagree", "one seed"
ONE_PRETRAINING = "one pretraining"
# a difference of so many standard errors is found in 80 % of runs by a two-sided test at 5 %
DETECTABLE = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)  # 2.80


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


def judge(grid, targets, claims, draws=DRAWS):
    """Every claim's verdict.

    Arguments
    ---------
    grid : rows.Grid
    targets : rows.Targets
    claims : list of Claim
    draws : int

    Returns
    -------
    dict
        ``claims``: list of dict with id, table, claim, of_paper, metric, verdict, paper (see
        `in_paper`) and pairs (see `judge_pair`). ``expected_by_chance``: how many pairs would
        be decided, were there no difference anywhere: if intervals were exact, and if all were as
        narrow as the narrowest corpus's. ``coverage``: what share of 95 % intervals of this kind
        hold the truth, by corpus, for normal scores.
        ``transductive``: corpora whose test speakers an encoder has heard.
    """
    known, judged = {}, []
    for claim in claims:
        pairs = []
        for pair in claim.pairs:
            if pair not in known:
                found = judge_pair(grid, pair, claim.metric, draws)
                found["paper_difference"] = paper_difference(targets, pair, claim.metric)
                known[pair] = found
            pairs.append(known[pair])
        judged.append(
            {
                "id": claim.id,
                "table": claim.table,
                "claim": claim.text,
                "of_paper": claim.of_paper,
                "metric": claim.metric,
                "verdict": overall([pair["verdict"] for pair in pairs]),
                "paper": in_paper(targets, claim),
                "pairs": pairs,
            }
        )
    different = {frozenset([pair.left, pair.right]) for pair in known}
    run = {
        frozenset([pair.left, pair.right])
        for pair, found in known.items()
        if found["verdict"] != NOT_RUN
    }
    coverage = _coverage(grid)
    narrowest = min([entry["coverage"] for entry in coverage.values()] + [LEVEL])
    return {
        "size": grid.size,
        "protocol": PROTOCOL,
        "level": LEVEL,
        "draws": draws,
        "pairs": len(different),
        "pairs_run": len(run),
        "expected_by_chance": [round((1 - share) * len(run), 1) for share in (LEVEL, narrowest)],
        "coverage": coverage,
        "transductive": sorted(
            {row.corpus for row in grid.rows.values() if row.metrics["ssl_saw_test_audio"]}
        ),
        "claims": judged,
    }


def overall(verdicts):
    """The verdict on a claim from those on its pairs.

    Example
    -------
    >>> overall([SUPPORTED, SUPPORTED]), overall([SUPPORTED, UNDECIDED])
    ('supported', 'undecided')
    >>> overall([SUPPORTED, CONTRADICTED, NOT_RUN]), overall([SUPPORTED, NOT_RUN])
    ('contradicted', 'not run')
    """
    for verdict in (CONTRADICTED, NOT_RUN, UNDECIDED):
        if verdict in verdicts:
            return verdict
    return SUPPORTED


def judge_pair(grid, pair, metric, draws=DRAWS):
    """One pair on all corpora where its rows were run.

    Returns
    -------
    dict
        label, verdict, missing (rows that were not run anywhere), ``corpora``: corpus -> score ->
        difference, ci; ``mean``: score -> difference, ci, share_above_zero, detectable (the
        smallest true difference that a run of this size finds in 80 % of cases); ``by_seed``: the
        difference for each pretraining seed that both sides have; ``notes``. Differences are
        taken so that the claim says they are above zero.
    """
    plus, minus = pair.plus(), pair.minus()
    found = {"label": label_of(pair), "verdict": NOT_RUN, "missing": []}
    drawn, rows_of = {}, {}
    for corpus in grid.corpora:
        places = [(key, corpus, PROTOCOL) for key in (*plus, *minus)]
        if all(place in grid.rows for place in places):
            rows = [grid.rows[place] for place in places]
            rows_of[corpus] = rows[: len(plus)], rows[len(plus) :]
            drawn[corpus] = _draws_of(*rows_of[corpus], draws, corpus)
    if not drawn:
        done = {key for key, _, protocol in grid.rows if protocol == PROTOCOL}
        missing = dict.fromkeys(key.slug() for key in (*plus, *minus) if key not in done)
        return {**found, "missing": list(missing), "corpora": {}, "mean": {}, "notes": []}
    mean = {}
    for name in METRICS:
        values = np.mean([draw[name][1] for draw in drawn.values()], axis=0)  # (draws,)
        point = float(np.mean([draw[name][0] for draw in drawn.values()]))
        mean[name] = {
            **_summary(point, values),
            "share_above_zero": float(np.mean(values > 0)),
            "detectable": float(DETECTABLE * values.std(ddof=1)),
        }
    low, high = mean[metric]["ci"]
    verdict = SUPPORTED if low > 0 else CONTRADICTED if high < 0 else UNDECIDED
    by_seed = _by_seed(rows_of, metric)
    return {
        **found,
        "verdict": verdict,
        "corpora": {
            corpus: {name: _summary(*draw[name]) for name in METRICS}
            for corpus, draw in drawn.items()
        },
        "mean": mean,
        "by_seed": by_seed,
        "notes": _notes(grid, rows_of, by_seed),
    }


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


def _draws_of(plus, minus, draws, corpus):
    """Draws of a pair on one corpus; the seed differs between corpora, not between pairs."""
    sides = [[[t for run in row.runs for t in run] for row in side] for side in (plus, minus)]
    first = plus[0].metrics
    groups = GROUPS.get(corpus, "speaker")
    return contrast_draws(*sides, first["classes"], groups, draws, zlib.crc32(corpus.encode()))


def _by_seed(rows_of, metric):
    """The mean difference for each pretraining seed; empty where no row has several."""
    rows = [row for sides in rows_of.values() for side in sides for row in side]
    count = max(len(row.runs) for row in rows)
    if count == 1 or any(len(row.runs) not in (1, count) for row in rows):
        return []
    differences = []
    for place in range(count):
        values = []
        for corpus, sides in rows_of.items():
            own = [[row._replace(runs=[_run(row, place)]) for row in side] for side in sides]
            values.append(_draws_of(*own, 1, corpus)[metric][0])
        differences.append(float(np.mean(values)))
    return differences


def _run(row, place):
    """Tables of a row's run; of its only one, where it has one."""
    return row.runs[place % len(row.runs)]


def _notes(grid, rows_of, by_seed):
    """What a reader must know of a pair before believing it."""
    rows = [row for sides in rows_of.values() for side in sides for row in side]
    notes = []
    if len(rows_of) < len(grid.corpora):
        notes.append(f"{', '.join(rows_of)} only")
    if any(len(row.metrics["seeds"]) == 1 for row in rows):
        notes.append(ONE_SEED)
    elif any(len(row.runs) == 1 for row in rows):
        notes.append(ONE_PRETRAINING)
    for corpus, sides in rows_of.items():
        heard = {row.metrics["ssl_saw_test_audio"] for side in sides for row in side}
        if len(heard) == 2:
            notes.append(f"{corpus}: only some of the encoders heard the test speakers")
    if by_seed and min(by_seed) < 0 < max(by_seed):
        notes.append(DISAGREE)
    return notes


def _coverage(grid):
    """Corpus -> share of 95 % percentile intervals over so many groups that hold a normal mean.

    With n groups such an interval is +- 1.96 sqrt((n-1)/n) standard errors, where the t
    distribution with n-1 degrees of freedom asks for more.
    """
    found = {}
    for (_, corpus, protocol), row in grid.rows.items():
        if protocol == PROTOCOL and corpus not in found:
            size = row.runs[0][0][GROUPS.get(corpus, "speaker")].nunique()
            if size < 2:
                continue
            reach = stats.norm.ppf(0.975) * np.sqrt((size - 1) / size)
            share = float(2 * stats.t.cdf(reach, size - 1) - 1)
            found[corpus] = {"groups": int(size), "coverage": round(share, 3)}
    return found


def _sentence(pair, corpus, metric, plus, minus):
    """A comparison that the paper's figures do not bear out, with the figures."""
    if len(plus) > 1:
        costs = f"{100 * (plus[0] - minus[0]):.1f} against {100 * (minus[1] - plus[1]):.1f} points"
        return f"{label_of(pair)}: {corpus} {metric} {costs}".replace(" -", " \N{MINUS SIGN}")
    sign = "=" if plus == minus else "<"
    figures = f"{100 * plus[0]:.1f} {sign} {100 * minus[0]:.1f}"
    return f"{label_of(pair)}: {corpus} {metric} {figures}"


def _summary(point, values):
    tail = 100 * (1 - LEVEL) / 2
    ends = np.percentile(values, [tail, 100 - tail])
    return {"difference": point, "ci": [float(end) for end in ends]}
