"""Which orderings a run shows, in plain sentences: holds, does not hold, or within noise.

An ordering is judged by the difference of UA on the same test utterances, with a paired bootstrap
over speakers: it holds if the 95 % interval lies above zero, does not hold if it lies below, and is
within noise otherwise. Nothing is left out because it came out badly.
"""

from typing import NamedTuple

from vesper_lobes.bootstrap import paired_bootstrap

MAIN = "encoder"
NAMES = {
    MAIN: "Vesper-mini",
    "teacher": "teacher",
    "extraction": "extraction, not pretrained",
    "random_init": "random weights",
    "mfcc_ridge": "ridge on MFCC statistics",
}
# (better, worse, what it would mean)
ORDERINGS = (
    (MAIN, "random_init", "what was learned without labels helps"),
    (MAIN, "extraction", "pretraining adds to compression"),
    (MAIN, "mfcc_ridge", "learned states beat the classical floor"),
    (MAIN, "teacher", "the small student beats its teacher"),
    ("extraction", "random_init", "the teacher's layers alone carry something over"),
    ("teacher", "mfcc_ridge", "the teacher beats the classical floor"),
)
VERDICTS = ("holds", "does not hold", "within noise")


class Finding(NamedTuple):
    """One ordering: its verdict, what it would mean, and the sentence to print."""

    verdict: str
    claim: str
    meaning: str
    sentence: str


def verdict_of(low, high):
    """One of `VERDICTS` for an interval of a difference.

    Example
    -------
    >>> verdict_of(0.01, 0.05), verdict_of(-0.05, -0.01), verdict_of(-0.01, 0.05)
    ('holds', 'does not hold', 'within noise')
    """
    if low > 0:
        return VERDICTS[0]
    return VERDICTS[1] if high < 0 else VERDICTS[2]


def above_chance(name, low, high, chance):
    """Whether a model's own interval excludes chance."""
    verdict = verdict_of(low - chance, high - chance)
    claim = f"{NAMES[name]} above chance"
    sentence = (
        f"its interval, {100 * low:.1f} to {100 * high:.1f} %, "
        f"{'lies above' if verdict == VERDICTS[0] else 'does not lie above'} {100 * chance:.1f} %."
    )
    return Finding(verdict, claim, "the whole chain learned something", sentence)


def orderings(tables, classes, metrics):
    """All findings of a run.

    Arguments
    ---------
    tables : dict of list of pandas.DataFrame
        Model -> predictions, one table a seed; models of `NAMES`, those that were run.
    classes : list of str
    metrics : dict
        The run's metrics.json.

    Returns
    -------
    list of Finding
    """
    found = [above_chance(MAIN, *metrics["ci"]["UA"], metrics["chance"]["UA"])]
    for better, worse, meaning in ORDERINGS:
        if better not in tables or worse not in tables:
            continue
        result = paired_bootstrap(tables[better], tables[worse], classes)["UA"]
        low, high = result["ci"]
        sentence = (
            f"the difference is {100 * result['difference']:+.1f} points, "
            f"95 % interval {100 * low:+.1f} to {100 * high:+.1f}."
        )
        sentence = sentence.replace("-", "\N{MINUS SIGN}")
        claim = f"{NAMES[better]} above {NAMES[worse]}"
        found.append(Finding(verdict_of(low, high), claim, meaning, sentence))
    return found
