"""The report's verdicts: claims, a picture of all intervals, every pair, the paper's own cells."""

import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from report_document import Bullets, Heading, Paragraph, Table
from verdicts import (
    CONTRADICTED,
    DISAGREE,
    NOT_RUN,
    ONE_PRETRAINING,
    ONE_SEED,
    SUPPORTED,
    UNDECIDED,
    VERDICTS,
    WITHIN,
)

sys.path.append(str(Path(__file__).resolve().parents[1]))
import drawing

MARKERS = {SUPPORTED: "o", CONTRADICTED: "s", UNDECIDED: "D"}
MINUS, GAP = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"


def points(value):
    """A difference of shares in points of per cent, with its sign.

    Example
    -------
    >>> points(0.0312), points(-0.0004)
    ('+3.1', '0.0')
    """
    text = f"{100 * value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", MINUS)


def span(ends):
    """``[low, high]`` in points."""
    return f"[{points(ends[0])},{GAP}{points(ends[1])}]"


def with_span(entry):
    """A difference with its interval, in points."""
    return f"{points(entry['difference'])}{GAP}{span(entry['ci'])}"


def counts(judged):
    """Verdict -> number of the paper's claims."""
    own = [claim["verdict"] for claim in judged["claims"] if claim["of_paper"]]
    return {verdict: own.count(verdict) for verdict in VERDICTS}


def claims_table(judged):
    """One line a claim."""
    lines = []
    for claim in judged["claims"]:
        paper = claim["paper"]
        cells, against = paper["cells"], len(paper["against"])
        own = f"{cells - against} of {cells} cells" if cells else "no claim: our control"
        lines.append(
            [claim["table"], claim["claim"], claim["verdict"], measured(claim), finest(claim), own]
        )
    head = ["table", "claim", "verdict here", "measured, points of UA", "could detect"]
    caption = (
        "Measured: the difference on the same utterances under protocol B, mean over corpora, 95 % "
        "interval over speakers; positive where the claim says so. Could detect: the smallest true "
        "difference that this run finds in 80 % of cases (the largest over the claim's pairs). In "
        "the paper: comparisons of WA, UA and WF1 in which its own tables bear the claim out."
    )
    return Table([*head, "in the paper"], lines, caption)


def measured(claim):
    """What the pairs of a claim came to, briefly."""
    run = [pair for pair in claim["pairs"] if pair["verdict"] != NOT_RUN]
    if len(claim["pairs"]) == 1 and run:
        text = with_span(run[0]["mean"][claim["metric"]])
    elif not run:
        return "–"
    else:
        verdicts = [pair["verdict"] for pair in claim["pairs"]]
        parts = (f"{verdicts.count(name)} {name}" for name in VERDICTS if name in verdicts)
        text = f"{len(verdicts)} pairs: " + ", ".join(parts)
    for note in (DISAGREE, WITHIN):
        count = sum(note in pair["notes"] for pair in run)
        text += (f"\n{note}" + (f": {count}" if len(run) > 1 else "")) if count else ""
    return text


def finest(claim):
    """The largest of the pairs' smallest detectable differences."""
    known = [p["mean"][claim["metric"]]["detectable"] for p in claim["pairs"] if p["mean"]]
    return f"{100 * max(known):.1f}" if known else "–"


def distinct_pairs(judged):
    """(table, metric, pair) of every pair that was run, once each."""
    seen, found = set(), []
    for claim in judged["claims"]:
        for pair in claim["pairs"]:
            if pair["verdict"] != NOT_RUN and pair["label"] not in seen:
                seen.add(pair["label"])
                found.append((claim["table"], claim["metric"], pair))
    return found


def pairs_table(judged, corpora):
    """One line a pair, with every corpus."""
    lines, table = [], None
    for number, metric, pair in distinct_pairs(judged):
        if number != table:
            lines.append(f"Table {number}")
            table = number
        lines.append(pair_line(metric, pair, corpora))
    head = ["better > poorer", "verdict", "UA, mean of corpora\nWA · WF1"]
    head += [f"UA, {corpus}" for corpus in corpora]
    head += ["could\ndetect", "paper's\nown", "by pretraining seed, remarks"]
    caption = (
        "Points of per cent. The paper's own: its difference in UA, mean over its corpora. By "
        "pretraining seed: the difference for each, where rows have several."
    )
    if judged["transductive"]:
        caption += f" Transductive: {', '.join(judged['transductive'])}."
    return Table(head, lines, caption)


def pair_line(metric, pair, corpora):
    """The cells of one pair."""
    mean = pair["mean"]
    others = " · ".join(points(mean[name]["difference"]) for name in ("WA", "WF1"))
    value, ends = points(mean[metric]["difference"]), span(mean[metric]["ci"])
    headline = f"**{value}**{GAP}{ends}\n{others}"
    cells = [pair["label"], pair["verdict"], headline]
    for corpus in corpora:
        own = pair["corpora"].get(corpus)
        cells.append(with_span(own[metric]) if own else "–")
    paper = pair["paper_difference"]
    cells += [f"{100 * mean[metric]['detectable']:.1f}", "–" if paper is None else points(paper)]
    seeds = ", ".join(points(value) for value in pair["by_seed"])
    return [*cells, "\n".join([*([seeds] if seeds else []), *pair["notes"]])]


def draw(judged, palette=drawing.ON_PAGE):
    """All pairs with their intervals, by table.

    Returns
    -------
    matplotlib.figure.Figure
    """
    pairs = distinct_pairs(judged)
    colours = {
        SUPPORTED: palette.green,
        CONTRADICTED: palette.orange,
        UNDECIDED: palette.muted,
    }
    with matplotlib.rc_context(drawing.style(palette)):
        figure, axes = plt.subplots(
            figsize=(8.6, 0.27 * (len(pairs) + len({t for t, *_ in pairs})) + 1.3),
            layout="constrained",
        )
        height, ticks, table = 0, [], None
        for number, metric, pair in pairs:
            if number != table:
                axes.annotate(
                    f"Table {number}",
                    (0, height),
                    xycoords=("axes fraction", "data"),
                    xytext=(3, 0),
                    textcoords="offset points",
                    va="center",
                    fontweight="bold",
                    fontsize=9,
                )
                table, height = number, height + 1
            mean, verdict = pair["mean"][metric], pair["verdict"]
            low, high = (100 * end for end in mean["ci"])
            look = {"color": colours[verdict], "solid_capstyle": "butt"}
            axes.plot([low, high], [height, height], lw=2.2, **look)
            place = (100 * mean["difference"], height)
            axes.plot(*place, MARKERS[verdict], color=colours[verdict], ms=6)
            if pair["paper_difference"] is not None:
                place = (100 * pair["paper_difference"], height)
                axes.plot(*place, "x", color=palette.blue, ms=6, mew=1.6)
            ticks.append((height, pair["label"]))
            height += 1
        for verdict, marker in MARKERS.items():
            axes.plot([], [], marker, color=colours[verdict], ms=6, label=verdict)
        axes.plot([], [], "x", color=palette.blue, ms=6, mew=1.6, label="the paper's own")
        axes.axvline(0, color=palette.ink, lw=1)
        axes.set_yticks(*zip(*ticks, strict=True), fontsize=8.5)
        axes.set_ylim(height - 0.3, -0.8)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("difference in UA, points; right of zero: as claimed")
        figure.legend(loc="outside upper center", ncols=4)
        return figure


def paper_section(judged):
    """Claims that the paper's own tables do not bear out, cell by cell."""
    lines = []
    for claim in judged["claims"]:
        against = claim["paper"]["against"]
        if against and claim["of_paper"]:
            lines.append(f"**{claim['claim']}** (Table {claim['table']}): {'; '.join(against)}.")
    whole = sum(claim["of_paper"] for claim in judged["claims"])
    text = (
        f"{len(lines)} of {whole} claims are not borne out by every cell of the tables they rest "
        "on. The paper gives no intervals and one run a cell, so a difference of a point either "
        "way says little; the cells are listed so that a reader need not look for them."
    )
    return [Paragraph(text), Bullets(lines)]


def scale_section(judged, grid):
    """What a run of this size can and cannot tell, with its own numbers."""
    pairs = distinct_pairs(judged)
    blocks = [Heading("What this scale can and cannot tell", "scale")]
    if grid.size == "mini":
        blocks.append(Paragraph(MINI, notice=True))
    if not pairs:
        return [*blocks, Paragraph("No pair of rows has been run yet.")]
    fine = np.array([100 * pair["mean"][metric]["detectable"] for _, metric, pair in pairs])
    own = [100 * p["paper_difference"] for *_, p in pairs if p["paper_difference"] is not None]
    small = sum(abs(value) < np.median(fine) for value in own)
    coverage = ", ".join(
        f"{corpus} ({entry['groups']} speakers) about {100 * entry['coverage']:.0f} %"
        for corpus, entry in judged["coverage"].items()
    )
    few, more = judged["expected_by_chance"]
    items = [
        f"**Fineness.** The smallest true difference that a pair finds in 80 % of cases is "
        f"{fine.min():.1f} to {fine.max():.1f} points of UA, {np.median(fine):.1f} in the median. "
        f"Of the {len(own)} differences that the paper's tables print for these pairs, {small} "
        "are smaller than that: an undecided pair is no evidence against them.",
        f"**Many pairs.** {judged['pairs_run']} different pairs were judged at 95 %, without a "
        f"correction. Were there no difference anywhere, about {few:.0f} to {more:.0f} of them "
        "would come out supported or contradicted.",
        "**Few speakers.** A percentile bootstrap over so few speakers is too narrow; for normal "
        f"scores its 95 % intervals hold the truth in: {coverage}. The mean over corpora fares a "
        "little better.",
        noise_item(judged, pairs),
    ]
    return [*blocks, Bullets(items)]


def noise_item(judged, pairs):
    """What another pretraining would change, as far as this run knows."""
    single = sum(bool({ONE_PRETRAINING, ONE_SEED} & set(pair["notes"])) for *_, pair in pairs)
    text = (
        "**Pretraining noise.** Intervals are over speakers, for the encoders as they are. "
        f"{single} of {len(pairs)} pairs rest on a single pretraining on a side at least."
    )
    noise = judged["pretraining_noise"]
    if not noise:
        return f"{text} How far another one would move them is not known from this run."
    within = sum(WITHIN in pair["notes"] for *_, pair in pairs)
    decided = sum(pair["verdict"] in (SUPPORTED, CONTRADICTED) for *_, pair in pairs)
    reach = noise["reach"] * np.sqrt(2)  # of a difference
    return (
        f"{text} From one pretraining (and head seed) to the next a row's UA moves by "
        f"{100 * noise['deviation']:.1f} points, the standard deviation over "
        f"{noise['degrees']} degrees of freedom in the rows that have several; rows with one each "
        f"may differ by {100 * reach:.1f} points for no other reason. {within} of the {decided} "
        f"decided pairs are smaller than their own such reach: marked {WITHIN!r}, to be believed "
        "when more pretrainings say the same."
    )


MINI = (
    "**These are not the paper's models.** The teacher was trained here from nothing, on about an "
    "hour of speech, where WavLM Large heard 94,000 hours; Vesper-4 and Vesper-12 are stood for by "
    "2 and 6 of 12 layers. The corpora are small and acted. What the page can tell: that every row "
    "of every table runs end to end, how large the differences are between ways of making so small "
    "a model, and which of them are larger than the noise. What it cannot tell: whether the "
    "paper's claims hold for the paper's models. A claim that is contradicted here is contradicted "
    "at this scale."
)
