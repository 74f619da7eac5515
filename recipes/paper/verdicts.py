"""Which of the paper's claims hold here.

A claim rests on pairs of rows. For each pair the statistic is the difference of scores on the same
test utterances under protocol B, per corpus, then its mean over the corpora; the interval is a
paired bootstrap over speakers (MELD: dialogues), drawn independently in each corpus. The verdict on
a pair: supported (the 95 % interval lies on the claimed side of zero), contradicted (on the other),
undecided. Nothing is decided by a point estimate, and nothing is left out.

That interval is for the encoders as they are. How much another pretraining of the same row moves a
score is estimated from the rows that have several, and decided pairs that are no larger than what
two pretrainings may differ by are marked.
"""

import zlib

import numpy as np
from claims import in_paper, label_of, paper_difference
from rows import GROUPS
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
PROTOCOL = "B"
LEVEL = 0.95
DISAGREE, ONE_SEED = "pretraining seeds disagree", "one seed"
ONE_PRETRAINING, WITHIN = "one pretraining", "within pretraining noise"
# a difference of so many standard errors is found in 80 % of runs by a two-sided test at 5 %
DETECTABLE = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)  # 2.80


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
        ``pretraining_noise``: see `pretraining_noise`. ``transductive``: corpora whose test
        speakers an encoder has heard.
    """
    known, judged, noise = {}, [], pretraining_noise(grid)
    for claim in claims:
        pairs = []
        for pair in claim.pairs:
            if pair not in known:
                found = judge_pair(grid, pair, claim.metric, draws)
                found["paper_difference"] = paper_difference(targets, pair, claim.metric)
                found["pretraining_reach"] = reach = pretraining_reach(grid, pair, noise)
                if reach and found["verdict"] in (SUPPORTED, CONTRADICTED):
                    small = abs(found["mean"][claim.metric]["difference"]) < reach
                    found["notes"] += [WITHIN] if small else []
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
        "pretraining_noise": noise,
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
    drawn, rows_of, odd = {}, {}, []
    for corpus in grid.corpora:
        places = [(key, corpus, PROTOCOL) for key in (*plus, *minus)]
        if all(place in grid.rows for place in places):
            rows = [grid.rows[place] for place in places]
            sides = rows[: len(plus)], rows[len(plus) :]
            try:
                drawn[corpus] = _draws_of(*sides, draws, corpus)
                rows_of[corpus] = sides
            except ValueError as error:  # tested on other utterances, say
                odd.append(f"{corpus}: not comparable, {error}")
    if not drawn:
        done = {key for key, _, protocol in grid.rows if protocol == PROTOCOL}
        missing = dict.fromkeys(key.slug() for key in (*plus, *minus) if key not in done)
        return {**found, "missing": list(missing), "corpora": {}, "mean": {}, "notes": odd}
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
        "notes": _notes(grid, rows_of, by_seed) + odd,
    }


def pretraining_noise(grid, metric="UA"):
    """How far a row's score moves from one pretraining (and head seed) to another.

    Returns
    -------
    dict or None
        ``deviation``: standard deviation of the mean over corpora, pooled over the rows with
        several pretrainings; ``degrees`` of freedom; ``reach``: what a single pretraining may lie
        off its mean (95 %). None where there is no such row.
    """
    squares, degrees = 0.0, 0
    keys = dict.fromkeys(key for key, _, protocol in grid.rows if protocol == PROTOCOL)
    for key in keys:
        if (key.head, key.mix) != ("superb", "weighted_sum"):  # other readings of those encoders
            continue
        rows = [grid.rows.get((key, corpus, PROTOCOL)) for corpus in grid.corpora]
        if None in rows or len(rows[0].runs) < 2:
            continue
        values = [
            np.mean([_value(row._replace(runs=[run]), metric) for row, run in pairs])
            for pairs in zip(*([(row, run) for run in row.runs] for row in rows), strict=True)
        ]
        squares += len(values) * np.var(values)
        degrees += len(values) - 1
    if not degrees:
        return None
    deviation = float(np.sqrt(squares / degrees))
    reach = stats.t.ppf((1 + LEVEL) / 2, degrees) * deviation  # of one row
    return {"deviation": deviation, "degrees": degrees, "reach": float(reach)}


def pretraining_reach(grid, pair, noise):
    """What a pair may differ by from pretraining alone (95 %), or None where that is not known.

    Sides that read the same encoder, as a head on its last layer and one on all, share its noise:
    for them nothing is said.
    """
    found = {}
    for key in (*pair.left, *pair.right):
        for corpus in grid.corpora:
            if (key, corpus, PROTOCOL) in grid.rows:
                found[key] = grid.rows[key, corpus, PROTOCOL]
    encoders = [name for row in found.values() for name in row.encoders]
    whole = len(found) == len(pair.left) + len(pair.right)
    if not noise or not whole or len(set(encoders)) < len(encoders):
        return None
    share = sum(1 / len(row.runs) for row in found.values())
    return float(noise["reach"] * np.sqrt(share))


def _value(row, metric):
    """One row's score."""
    return _draws_of([row], [], 1, row.corpus)[metric][0]


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


def _summary(point, values):
    tail = 100 * (1 - LEVEL) / 2
    ends = np.percentile(values, [tail, 100 - tail])
    return {"difference": point, "ci": [float(end) for end in ends]}
