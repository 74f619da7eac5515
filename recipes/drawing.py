"""Figures that several pages draw, in one manner: matplotlib, for a page (SVG) and for paper (PNG).

Within a page a figure follows the page's colours, light, dark or printed: it is drawn in stand-in
colours (`ON_PAGE`), which `svg_text` replaces by CSS variables. A PNG is drawn in `LIGHT` on white.
Series differ in dash or marker as well as in colour (Okabe and Ito's palette, legible to
colour-blind readers).
"""

import io
import os
import re
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from PIL import Image


class Palette(NamedTuple):
    """The colours of a figure, as matplotlib takes them."""

    ink: str
    muted: str
    grid: str
    page: str
    blue: str
    orange: str
    green: str
    purple: str


ON_PAGE = Palette(
    *("#010101", "#020202", "#030303", "#040404"), *("#0a0001", "#0a0002", "#0a0003", "#0a0004")
)
LIGHT = Palette(  # as report.css has them for a light page
    *("#16191d", "#5c6570", "#e0e4e9", "#ffffff"), *("#0072b2", "#c75300", "#00805c", "#a3437f")
)
COLOURS = {stand_in: f"--{name}" for name, stand_in in ON_PAGE._asdict().items()}
HOP, SAMPLE_RATE = 320, 16000
PNG_DPI, PNG_COLOURS = 150, 128


def style(palette):
    """matplotlib settings that all figures share."""
    return {
        "svg.fonttype": "none",
        "font.size": 10,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.edgecolor": palette.muted,
        "axes.labelcolor": palette.ink,
        "axes.titlecolor": palette.ink,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": palette.grid,
        "grid.linewidth": 0.7,
        "xtick.color": palette.muted,
        "ytick.color": palette.muted,
        "xtick.labelcolor": palette.ink,
        "ytick.labelcolor": palette.ink,
        "text.color": palette.ink,
        "legend.frameon": False,
        "legend.fontsize": 9.5,
        "lines.linewidth": 1.8,
    }


def svg_text(figure, name):
    """The figure as an ``<svg>`` element with CSS variables for colours; closes the figure.

    Arguments
    ---------
    figure : matplotlib.figure.Figure
        Drawn in `ON_PAGE`.
    name : str
        Plain word, different for each figure of a page: keeps their element ids apart.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({**style(ON_PAGE), "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    number = {}  # some of matplotlib's ids are addresses in memory: count instead
    text = re.sub(
        r'(id="|xlink:href="#|url\(#)([^")]+)',
        lambda match: f"{match[1]}{name}-{number.setdefault(match[2], len(number))}",
        text,
    )
    for colour, variable in COLOURS.items():
        text = text.replace(colour, f"var({variable})")
    return text


def write_png(figure, path):
    """The figure as a PNG file on white, written in one step; closes the figure.

    Arguments
    ---------
    figure : matplotlib.figure.Figure
        Drawn in `LIGHT`.
    path : str or pathlib.Path
    """
    path, buffer = Path(path), io.BytesIO()
    with matplotlib.rc_context(style(LIGHT)):
        figure.savefig(buffer, format="png", dpi=PNG_DPI, facecolor=LIGHT.page)
    plt.close(figure)
    picture = Image.open(buffer).convert("RGB").quantize(PNG_COLOURS)  # a third of the size
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    picture.save(temporary, format="png", optimize=True)
    os.replace(temporary, path)


def masks(
    wav, energy, zones, phoneme, word, phoneme_centres, word_centres, palette=ON_PAGE, title=None
):
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
    palette : Palette
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    time = (np.arange(len(energy)) * HOP + 200) / SAMPLE_RATE  # centre of each 25 ms frame
    with matplotlib.rc_context(style(palette)):
        figure, (top, middle, bottom) = plt.subplots(
            *(3, 1),
            figsize=(7.2, 4.6),
            sharex=True,
            layout="constrained",
            gridspec_kw={"height_ratios": [1.0, 2.4, 0.8]},
        )
        if title:
            top.set_title(title)
        _waveform(top, wav, palette)
        for low, high, colour, name in (
            (0.5, 1.0, palette.orange, "high zone"),
            (0.2, 0.5, palette.blue, "low zone"),
            (0.0, 0.2, None, "noise zone"),
        ):
            if colour:
                middle.axhspan(low, high, color=colour, alpha=0.13, lw=0)
            place = {"xy": (1.01, (low + high) / 2), "xycoords": ("axes fraction", "data")}
            middle.annotate(name, **place, va="center", fontsize=9, annotation_clip=False)
        middle.plot(time, energy, color=palette.ink, lw=1.5)
        others = [c for c in phoneme_centres if c not in set(word_centres)]
        middle.plot(
            *(time[others], energy[others], "o"), color=palette.green, ms=6, label="phoneme centre"
        )
        middle.plot(
            *(time[list(word_centres)], energy[list(word_centres)], "D"),
            color=palette.purple,
            ms=7,
            label="phoneme and word centre",
        )
        middle.set_ylim(0, 1.02)
        middle.set_ylabel("RMS energy / maximum")
        middle.legend(loc="upper left", bbox_to_anchor=(0, 1.16), ncols=2, borderaxespad=0)
        _bands(bottom, np.asarray(phoneme), 1.1, 1.9, palette.green, "phoneme")
        _bands(bottom, np.asarray(word), 0.1, 0.9, palette.purple, "word")
        for centres, height in ((phoneme_centres, 1.5), (word_centres, 0.5)):
            ticks = {"color": palette.page, "marker": "|", "ms": 13, "mew": 1.6, "ls": ""}
            bottom.plot(time[list(centres)], [height] * len(centres), **ticks)
        bottom.set_yticks([0.5, 1.5], ["word spans", "phoneme spans"])
        bottom.set_ylim(0, 2)
        bottom.grid(axis="y", visible=False)
        bottom.tick_params(axis="y", length=0)
        bottom.set_xlabel("time, s")
        bottom.set_xlim(0, len(wav) / SAMPLE_RATE)
        return figure


def _bands(axes, spans, low, high, colour, label):
    """Horizontal bars for boolean frames, on the waveform's time axis."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], spans.astype(int), [0]])))
    pieces = [(HOP * a / SAMPLE_RATE, HOP * (b - a) / SAMPLE_RATE) for a, b in edges.reshape(-1, 2)]
    axes.broken_barh(pieces, (low, high - low), facecolor=colour, lw=0, label=label)


def _waveform(axes, wav, palette):
    """Peaks of 5 ms pieces: the outline of the waveform without its 16,000 points a second."""
    pieces = np.array_split(np.asarray(wav, dtype=float), max(1, len(wav) // 80))
    time = np.cumsum([len(piece) for piece in pieces]) / SAMPLE_RATE
    lows, highs = [piece.min() for piece in pieces], [piece.max() for piece in pieces]
    axes.fill_between(time, lows, highs, color=palette.muted, lw=0)
    axes.set_ylabel("waveform")
    axes.set_yticks([0])
    axes.grid(axis="y", visible=False)
