"""Figures of the quickstart's report: SVG text that follows the page's colours (drawing.py)."""

import sys
from pathlib import Path

import matplotlib
import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))
import drawing
from drawing import COLOURS, ON_PAGE, style, svg_text
from matplotlib import pyplot as plt

INK, MUTED, GRID, PAGE, BLUE, ORANGE, GREEN, PURPLE = COLOURS
STYLE = style(ON_PAGE)


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


def masks(**arrays):
    """The paper's Figure 5 of one utterance, from what `drawing.masks` takes."""
    return svg_text(drawing.masks(**arrays), "masks")


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
