"""Figures of the quickstart's report: matplotlib, as SVG text that follows the page's colours.

Every colour drawn is a stand-in from `COLOURS` that `svg_text` replaces by a CSS variable, so one
figure serves a light page, a dark one and a printed one. Series differ in dash or marker as well as
in colour (Okabe and Ito's palette, legible to colour-blind readers).
"""

import io
import re

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# stand-in -> CSS variable of report.css
COLOURS = {
    "#010101": "--ink",
    "#020202": "--muted",
    "#030303": "--grid",
    "#040404": "--page",
    "#0a0001": "--blue",
    "#0a0002": "--orange",
    "#0a0003": "--green",
    "#0a0004": "--purple",
}
INK, MUTED, GRID, PAGE, BLUE, ORANGE, GREEN, PURPLE = COLOURS
STYLE = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.8,
}
HOP, SAMPLE_RATE = 320, 16000
ZONE_BANDS = (
    (0.5, 1.0, ORANGE, "high zone"),
    (0.2, 0.5, BLUE, "low zone"),
    (0.0, 0.2, None, "noise zone"),
)


def svg_text(figure, name):
    """The figure as an ``<svg>`` element with CSS variables for colours; closes the figure.

    Arguments
    ---------
    figure : matplotlib.figure.Figure
    name : str
        Plain word, different for each figure of a page: keeps their element ids apart.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(id="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, variable in COLOURS.items():
        text = text.replace(colour, f"var({variable})")
    return text


def comparison(rows, chance):
    """UA with 95 % intervals, one line a model.

    Arguments
    ---------
    rows : list of (label, UA, (low, high))
        In the order of the table, best explained first; the first is emphasised.
    chance : float
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 0.42 * len(rows) + 1.0), layout="constrained")
        for place, (_, ua, (low, high)) in enumerate(rows):
            colour, size = (BLUE, 8) if place == 0 else (INK, 6)
            axes.plot([100 * low, 100 * high], [place, place], color=colour, lw=2.2)
            axes.plot(100 * ua, place, "o", color=colour, ms=size)
            axes.annotate(
                f"{100 * ua:.1f}",
                (100 * high, place),
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
            )
        axes.axvline(100 * chance, color=ORANGE, ls="--", lw=1.4)
        axes.annotate(
            "chance",
            (100 * chance, len(rows) - 0.45),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
        )
        axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
        axes.set_ylim(len(rows) - 0.25, -0.6)
        left = min([chance, *(low for *_, (low, _) in rows)])
        axes.set_xlim(max(0, 100 * left - 6), min(104, 100 * max(h for *_, (_, h) in rows) + 8))
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("unweighted accuracy (UA) on held-out voices, %")
        return svg_text(figure, "comparison")


def _curve(axes, x, values, colour, dash, label, marker=None):
    values = np.array([np.nan if value is None else value for value in values], dtype=float)
    if not np.isfinite(values).any():
        return
    marker = marker if len(values) <= 40 else None
    axes.plot(x, values, color=colour, ls=dash, marker=marker, ms=4, label=label)


def teacher_curves(history):
    """Loss and accuracy of the teacher's masked prediction against optimizer steps.

    Arguments
    ---------
    history : list of dict
        Rows of the teacher's history.json.
    """
    steps = [row["optimizer_steps"] for row in history]
    with matplotlib.rc_context(STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(7.2, 2.5), layout="constrained")
        settings = (("loss", "cross-entropy, nats", 1), ("accuracy", "accuracy, %", 100))
        for axes, (name, label, factor) in zip(panels, settings, strict=True):
            for which, colour, dash, marker in (
                ("train", BLUE, "-", "o"),
                ("valid", ORANGE, "--", "s"),
            ):
                values = [(row.get(which) or {}).get(name) for row in history]
                values = [None if value is None else factor * value for value in values]
                shown = "training" if which == "train" else "held out"
                _curve(axes, steps, values, colour, dash, shown, marker)
            axes.set_xlabel("optimizer steps")
            axes.set_ylabel(label)
            axes.set_title("on hidden frames")
        panels[0].legend()
        return svg_text(figure, "teacher")


# name, title, colour, marker
LOSSES = (
    ("l", "low level, $L_l$\n(phoneme masks)", BLUE, "o"),
    ("h", "high level, $L_h$\n(word masks)", ORANGE, "s"),
    ("x", "cross layer, $L_x$\n(all frames)", GREEN, "^"),
)


def vesper_curves(history):
    """The three losses of pretraining against epochs, one panel each (their scales differ).

    Arguments
    ---------
    history : list of dict
        Rows of the pretraining's history.json, with ``l``, ``h`` and ``x`` in ``train``.
    """
    epochs = [row["epoch"] for row in history]
    with matplotlib.rc_context(STYLE):
        figure, panels = plt.subplots(1, 3, figsize=(7.2, 2.4), layout="constrained")
        for axes, (name, title, colour, marker) in zip(panels, LOSSES, strict=True):
            values = [row["train"].get(name) for row in history]
            _curve(axes, epochs, values, colour, "-", "training", marker)
            held_out = [(row.get("valid") or {}).get(name) for row in history]
            _curve(axes, epochs, held_out, MUTED, "--", "held out", ".")
            axes.set_title(title)
            axes.set_xlabel("epoch")
            axes.set_ylim(bottom=0)
        panels[0].set_ylabel("mean squared error")
        panels[0].legend()
        return svg_text(figure, "vesper")


def head_curves(histories):
    """UA on the dev voices against epochs, one line a seed; the epoch picked is marked.

    Arguments
    ---------
    histories : list of (seed, epoch picked, list of dict)
        From the cells' cell.json.
    """
    colours = (BLUE, ORANGE, GREEN, PURPLE)
    dashes = ("-", "--", ":", "-.")
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 2.4), layout="constrained")
        for place, (seed, picked, history) in enumerate(histories):
            colour, dash = colours[place % 4], dashes[place % 4]
            epochs = [row["epoch"] for row in history]
            values = [100 * row["UA"] for row in history]
            axes.plot(epochs, values, color=colour, ls=dash, label=f"seed {seed}")
            axes.plot(picked, values[epochs.index(picked)], "o", color=colour, ms=7)
        axes.set_xlabel("epoch (dot: the one picked)")
        axes.set_ylabel("UA on dev voices, %")
        axes.legend(loc="lower right", ncols=3)
        return svg_text(figure, "heads")


def _bands(axes, spans, low, high, colour, label):
    """Horizontal bars for boolean frames, on the waveform's time axis."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], spans.astype(int), [0]])))
    pieces = [(HOP * a / SAMPLE_RATE, HOP * (b - a) / SAMPLE_RATE) for a, b in edges.reshape(-1, 2)]
    axes.broken_barh(pieces, (low, high - low), facecolor=colour, lw=0, label=label)


def masks(wav, energy, zones, phoneme, word, phoneme_centres, word_centres):
    """The paper's Figure 5: waveform, energy with its zones, mask centres and spans.

    Arguments
    ---------
    wav : array (S,)
        16 kHz.
    energy : array (T,)
        In [0, 1].
    zones : array (T,)
        2 high, 1 low, 0 noise.
    phoneme, word : bool array (T,)
    phoneme_centres, word_centres : array of int
        Frame numbers.
    """
    time = (np.arange(len(energy)) * HOP + 200) / SAMPLE_RATE  # centre of each 25 ms frame
    with matplotlib.rc_context(STYLE):
        figure, (top, middle, bottom) = plt.subplots(
            *(3, 1),
            figsize=(7.2, 4.6),
            sharex=True,
            layout="constrained",
            gridspec_kw={"height_ratios": [1.0, 2.4, 0.8]},
        )
        _waveform(top, wav)
        for low, high, colour, name in ZONE_BANDS:
            if colour:
                middle.axhspan(low, high, color=colour, alpha=0.13, lw=0)
            place = {"xy": (1.01, (low + high) / 2), "xycoords": ("axes fraction", "data")}
            middle.annotate(name, **place, va="center", fontsize=9, annotation_clip=False)
        middle.plot(time, energy, color=INK, lw=1.5)
        others = [c for c in phoneme_centres if c not in set(word_centres)]
        middle.plot(time[others], energy[others], "o", color=GREEN, ms=6, label="phoneme centre")
        middle.plot(
            *(time[list(word_centres)], energy[list(word_centres)], "D"),
            color=PURPLE,
            ms=7,
            label="phoneme and word centre",
        )
        middle.set_ylim(0, 1.02)
        middle.set_ylabel("RMS energy / maximum")
        middle.legend(loc="upper left", bbox_to_anchor=(0, 1.16), ncols=2, borderaxespad=0)
        _bands(bottom, np.asarray(phoneme), 1.1, 1.9, GREEN, "phoneme")
        _bands(bottom, np.asarray(word), 0.1, 0.9, PURPLE, "word")
        bottom.set_yticks([0.5, 1.5], ["word spans", "phoneme spans"])
        bottom.set_ylim(0, 2)
        bottom.grid(axis="y", visible=False)
        bottom.tick_params(axis="y", length=0)
        bottom.set_xlabel("time, s")
        bottom.set_xlim(0, len(wav) / SAMPLE_RATE)
        return svg_text(figure, "masks")


def _waveform(axes, wav):
    """Peaks of 5 ms pieces: the outline of the waveform without its 16,000 points a second."""
    pieces = np.array_split(np.asarray(wav, dtype=float), max(1, len(wav) // 80))
    time = np.cumsum([len(piece) for piece in pieces]) / SAMPLE_RATE
    lows, highs = [piece.min() for piece in pieces], [piece.max() for piece in pieces]
    axes.fill_between(time, lows, highs, color=MUTED, lw=0)
    axes.set_ylabel("waveform")
    axes.set_yticks([0])
    axes.grid(axis="y", visible=False)


def layer_weights(weights):
    """Softmax weights of the states in the head's mix; dashes: all equal.

    Arguments
    ---------
    weights : list of float
        N+1 of them, state 0 first.
    """
    names = ["input"] + [f"layer {i}" for i in range(1, len(weights))]
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 2.2), layout="constrained")
        bars = axes.bar(names, weights, color=BLUE, width=0.62)
        axes.bar_label(bars, [f"{weight:.2f}" for weight in weights], padding=2)
        axes.axhline(1 / len(weights), color=ORANGE, ls="--", lw=1.4, label="all equal")
        axes.set_ylabel("weight in the mix")
        axes.set_ylim(0, 1.25 * max(weights))
        axes.grid(axis="x", visible=False)
        axes.legend(loc="upper right", ncols=2)
        return svg_text(figure, "layers")
