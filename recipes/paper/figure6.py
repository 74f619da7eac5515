"""The paper's Figure 6: t-SNE of several encoders' last-layer features, coloured by emotion.

    python recipes/paper/figure6.py --manifest manifest.csv --data_folder DIR --out figure6.png \
        --encoders base=DIR large=DIR v4=DIR v12=DIR

Features are the last layer's states, averaged over time, without a head or any training on labels.
t-SNE is only a picture: distances and densities in it mean little, and another seed draws another
one. So each panel carries a figure computed on the features themselves: UA of the 5 nearest
neighbours among the other speakers' utterances (each speaker left out in turn).
"""

import argparse
import shlex
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsClassifier

sys.path.append(str(Path(__file__).resolve().parents[1]))
import drawing
from figure5 import write_beside

from data_prep.manifest import ManifestError, read_manifest
from vesper_lobes.bootstrap import bootstrap_ci
from vesper_lobes.checkpoints import load_encoder
from vesper_lobes.feature_cache import PooledStateCache
from vesper_lobes.metrics import scores

STATES = Path(__file__).resolve().parent / "results" / "states"
SCRIPT = "python recipes/paper/figure6.py"
NEIGHBOURS = 5
NAMES = {"base": "Base", "large": "Large", "v4": "Vesper-4", "v12": "Vesper-12"}
# Okabe and Ito, without black and yellow, which vanish on a dark or a light page; then greys
CLASS_COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    *("#7f7f7f", "#9467bd"),
)
MARKERS = "os^DvPX*"


def last_layer(source, rows, states_folder, crop_seconds=None):
    """Last-layer features of all utterances.

    Arguments
    ---------
    source : str
        Folder or hub id of the encoder.
    rows : pandas.DataFrame
        A manifest's.
    states_folder : str or pathlib.Path
        Of :class:`vesper_lobes.feature_cache.PooledStateCache`; may be an emotion run's.
    crop_seconds : float, optional

    Returns
    -------
    features : array (N, D)
    shape : str
        Layers and width of the encoder, as text.
    """
    encoder = load_encoder(source).freeze()
    cache = PooledStateCache(encoder, states_folder, crop_seconds=crop_seconds).fill(rows)
    shape = f"{encoder.num_layers} layers of {encoder.hidden_size}"
    return cache.states(list(rows["ID"]))[:, -1].numpy(), shape


def neighbours_of_others(features, rows, classes, neighbours=NEIGHBOURS):
    """UA of the nearest neighbours among other speakers, with its interval over speakers.

    Arguments
    ---------
    features : array (N, D)
        Scaled to unit variance by the other speakers' utterances, a speaker at a time.
    rows : pandas.DataFrame
        Columns ID, speaker, emotion.
    classes : list of str
    neighbours : int

    Returns
    -------
    dict
        UA, ci.
    """
    speakers, emotions = rows["speaker"].to_numpy(), rows["emotion"].to_numpy()
    answers = np.empty(len(rows), dtype=object)
    for speaker in np.unique(speakers):
        own, others = speakers == speaker, speakers != speaker
        mean, deviation = features[others].mean(0), features[others].std(0)
        scaled = (features - mean) / np.maximum(deviation, 1e-8)
        model = KNeighborsClassifier(neighbours).fit(scaled[others], emotions[others])
        answers[own] = model.predict(scaled[own])
    number = {name: place for place, name in enumerate(classes)}
    targets, answers = (np.array([number[name] for name in names]) for names in (emotions, answers))
    table = pd.DataFrame({"speaker": speakers, "target": targets, "prediction": answers})
    return {
        "UA": scores(targets, answers, len(classes))["UA"],
        "ci": bootstrap_ci([table], classes)["UA"],
    }


def project(features, seed=0):
    """t-SNE of standardised features: (N, D) -> (N, 2); perplexity 30, started from PCA (ours)."""
    scaled = (features - features.mean(0)) / np.maximum(features.std(0), 1e-8)
    perplexity = min(30.0, (len(features) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(scaled)


def draw(panels, emotions, classes, palette=drawing.ON_PAGE):
    """Panels of points, two in a row.

    Arguments
    ---------
    panels : list of (str, array (N, 2))
        Title and points.
    emotions : array of str (N,)
    classes : list of str
    palette : drawing.Palette

    Returns
    -------
    matplotlib.figure.Figure
    """
    lines = (len(panels) + 1) // 2
    columns = min(2, len(panels))
    size = 9 if len(emotions) > 2000 else 18
    with matplotlib.rc_context(drawing.style(palette)):
        figure, axes = plt.subplots(
            *(lines, columns),
            figsize=(3.6 * columns, 3.3 * lines + 0.5),
            layout="constrained",
            squeeze=False,
        )
        for place, (title, points) in zip(axes.flat, panels, strict=False):
            for number, name in enumerate(classes):
                own = emotions == name
                colour, marker = (kinds[number % 8] for kinds in (CLASS_COLOURS, MARKERS))
                place.scatter(
                    *points[own].T, s=size, c=colour, marker=marker, lw=0, alpha=0.8, label=name
                )
            place.set_title(title, fontsize=9.5)
            place.set(xticks=[], yticks=[])
            place.grid(visible=False)
            place.spines[:].set_visible(True)
        for place in axes.flat[len(panels) :]:
            place.set_visible(False)
        marks, names = axes.flat[0].get_legend_handles_labels()
        figure.legend(marks, names, loc="outside lower center", ncols=min(8, len(names)))
        return figure


def make(
    manifest,
    data_folder,
    encoders,
    out,
    states_folder=None,
    crop_seconds=None,
    seed=0,
    classes=None,
):
    """Draw the figure; writes ``out``, and the same name with .svg and .json.

    Arguments
    ---------
    manifest, data_folder, out : str or pathlib.Path
    encoders : dict
        Name -> folder or hub id.
    states_folder : str or pathlib.Path, optional
        Default: recipes/paper/results/states.
    crop_seconds : float, optional
    seed : int
        Of t-SNE.
    classes : list of str, optional
        In this order; default: all that occur, sorted. Utterances of others are left out.

    Returns
    -------
    dict
        What the JSON holds: command, corpus, utterances, speakers, classes, and for each encoder
        its shape, the neighbours' UA and ci.

    Raises
    ------
    ValueError
        ``out`` is no .png; fewer than two speakers or classes.
    """
    out = Path(out)
    if out.suffix != ".png":
        raise ValueError(f"--out {out}: give a name that ends in .png")
    rows, classes = _labelled(manifest, data_folder, classes)
    found, panels = {}, []
    for name, source in encoders.items():
        features, shape = last_layer(source, rows, states_folder or STATES, crop_seconds)
        near = neighbours_of_others(features, rows, classes)
        found[name] = {"shape": shape, **near}
        title = f"{NAMES.get(name, name)}, {shape}\n{NEIGHBOURS}-NN UA {_score(near)}"
        panels.append((title, project(features, seed)))
    out.parent.mkdir(parents=True, exist_ok=True)
    emotions = rows["emotion"].to_numpy()
    drawing.write_png(draw(panels, emotions, classes, drawing.LIGHT), out)
    svg = drawing.svg_text(draw(panels, emotions, classes), "figure6")
    facts = {
        "command": _command(encoders, out, seed, crop_seconds),
        "corpus": ", ".join(sorted(set(rows["corpus"]))),
        "utterances": len(rows),
        "speakers": int(rows["speaker"].nunique()),
        "classes": classes,
        "seed": seed,
        "encoders": found,
    }
    write_beside(out, svg, facts)
    return facts


def _labelled(manifest, data_folder, classes):
    """Rows of the classes asked for, or of all that occur; and those classes."""
    rows = read_manifest(manifest, data_folder)
    classes = list(classes or sorted(set(rows["emotion"]) - {""}))
    rows = rows[rows["emotion"].isin(classes)].reset_index(drop=True)
    if min(rows["speaker"].nunique(), rows["emotion"].nunique()) < 2:
        raise ValueError(f"{manifest}: needs two speakers and two classes with labels")
    return rows, classes


def _score(entry):
    low, high = (100 * end for end in entry["ci"])
    return f"{100 * entry['UA']:.1f} % [{low:.1f}, {high:.1f}]"


def _command(encoders, out, seed, crop_seconds):
    """The command without folders of this machine."""
    shown = [f"{name}={_public(source)}" for name, source in encoders.items()]
    words = [SCRIPT, "--manifest manifest.csv --data_folder /path/to/corpus"]
    words += [f"--out {shlex.quote(out.name)} --seed {seed}"]
    words += [f"--crop_seconds {crop_seconds}"] if crop_seconds else []
    return " ".join([*words, "--encoders", *shown])


def _public(source):
    """A folder as ``.../<its cell>/export``, a hub id as it is."""
    return ".../" + "/".join(Path(source).parts[-2:]) if Path(source).is_dir() else str(source)


def main(argv=None):
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--data_folder", required=True)
    parser.add_argument("--encoders", required=True, nargs="+", metavar="NAME=DIR")
    parser.add_argument("--out", required=True, help="FILE.png")
    parser.add_argument("--states_folder", help="of pooled states; an emotion run's may be given")
    parser.add_argument("--crop_seconds", type=float, help="default: whole utterances")
    parser.add_argument("--classes", help="with commas between; default: all that occur")
    parser.add_argument("--seed", type=int, default=0)
    asked = vars(parser.parse_args(argv))
    wrong = [pair for pair in asked["encoders"] if "=" not in pair]
    if wrong:
        parser.error(f"--encoders {wrong[0]}: write NAME=DIR")
    asked["encoders"] = dict(pair.split("=", 1) for pair in asked["encoders"])
    asked["classes"] = asked["classes"] and asked["classes"].split(",")
    try:
        facts = make(**asked)
    except (ValueError, ManifestError) as error:
        print(f"figure6: error: {error}", file=sys.stderr)
        return 2
    print(f"{facts['corpus']}: {facts['utterances']} utterances, {facts['speakers']} speakers")
    for name, entry in facts["encoders"].items():
        print(f"{name} ({entry['shape']}): {NEIGHBOURS}-NN UA, other speakers: {_score(entry)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
