"""The quickstart's report: one HTML file with everything in it, made from what the stages wrote.

    python recipes/quickstart/report.py results/quickstart

Opens without a network, in light and dark, and prints. The wording is in report_page.html; numbers
come from metrics.json and the histories alone. Where an ordering does not hold, the page says so.
"""

import argparse
import os
from html import escape
from pathlib import Path
from string import Template

import figures
from evidence import gather
from findings import MAIN, NAMES, VERDICTS

from vesper_lobes.run_metrics import write_metrics

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODEL_ROWS = (MAIN, "teacher", "extraction", "random_init", "mfcc_ridge")
EXPLAINED = {
    MAIN: "compressed from the teacher, then pretrained with the three losses",
    "teacher": "what Vesper-mini was made from",
    "extraction": "the teacher's layers at the same depth, as they are",
    "random_init": "the same architecture, nothing learned",
    "mfcc_ridge": "no network: mean and deviation of 39 MFCC features",
}
HEARD = "The test voices were heard in pretraining, without labels: the scores are transductive."
NOT_HEARD = "No stage, pretraining included, heard the voices it is tested on."


def percent(value):
    """A share as a percentage with one digit."""
    return f"{100 * value:.1f}"


def interval(ends):
    """``[low, high]`` in per cent."""
    return f"[{percent(ends[0])}, {percent(ends[1])}]"


def duration(seconds):
    """Seconds as people say them: ``7 s``, ``4 min 7 s``."""
    seconds = round(seconds)
    return f"{seconds} s" if seconds < 60 else f"{seconds // 60} min {seconds % 60} s"


def millions(number):
    """A parameter count, readable."""
    return f"{number / 1e6:.2f} M"


def row(*cells, kind=""):
    """A table row of cells that are ready HTML."""
    opening = f'<tr class="{kind}">' if kind else "<tr>"
    return opening + "".join(cells) + "</tr>\n"


def text_cell(text, kind=""):
    """A cell of plain text."""
    return f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"


def number_cell(text):
    """A right-aligned cell."""
    return text_cell(str(text), "n")


def bar_cell(share, width):
    """A cell with a bar of a share of its width."""
    bar = f'<span class="bar" style="width:{100 * share:.1f}%"></span>'
    return f'<td style="width:{width}">{bar}</td>'


def figure(svg, label, caption):
    """A figure with its caption; `label` is what a screen reader says."""
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(label, quote=True)}"', 1)
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"


def scored_models(evidence):
    """(key, name, UA, interval, parameters or None) of every model that was run."""
    metrics, facts = evidence.metrics, evidence.run["encoders"]
    own = {"UA": metrics["pooled"]["UA"], "ci": metrics["ci"]["UA"]}
    found = {MAIN: own, **metrics["baselines"]}
    return [
        (key, NAMES[key], found[key]["UA"], found[key]["ci"], facts.get(key, {}).get("params"))
        for key in MODEL_ROWS
        if key in found
    ]


def head_values(evidence):
    """The warning and the figures to take away."""
    metrics, timings = evidence.metrics, evidence.timings
    size = "parameters"
    for key, _, _, _, params in scored_models(evidence):
        if key == "teacher":
            size = f"parameters; its teacher has {millions(params)}"
    tiles = (
        (
            percent(metrics["pooled"]["UA"]) + " %",
            f"UA of Vesper-mini {interval(metrics['ci']['UA'])}",
        ),
        (percent(metrics["chance"]["UA"]) + " %", f"chance, {len(metrics['classes'])} emotions"),
        (millions(metrics["params"]), size),
        (
            duration(timings["total_seconds"]),
            f"all stages, {timings['machine']['cores']} CPU cores",
        ),
    )
    boxes = (f'<div class="tile"><b>{big}</b><span>{small}</span></div>' for big, small in tiles)
    heard = HEARD if metrics["ssl_saw_test_audio"] else NOT_HEARD
    return {"heard": heard, "tiles": "".join(boxes)}


def stage_values(evidence):
    """What was done, with seconds and commands."""
    stages = evidence.timings["stages"]
    longest = max([stage["seconds"] for stage in stages] + [1e-9])
    rows = (
        row(
            text_cell(stage["title"]),
            text_cell(stage["what"]),
            number_cell(f"{stage['seconds']:.0f}"),
            bar_cell(stage["seconds"] / longest, "7rem"),
        )
        for stage in stages
    )
    commands = [f"(cd {s['folder']} && {command})" for s in stages for command in s["commands"]]
    return {
        "stage_rows": "".join(rows),
        "total_seconds": f"{evidence.timings['total_seconds']:.0f}",
        "commands": escape("\n".join(commands)),
    }


def result_values(evidence):
    """Table and figure of all models, and the orderings."""
    metrics, models = evidence.metrics, scored_models(evidence)
    rows = (
        row(
            text_cell(name),
            text_cell(EXPLAINED[key], "plain"),
            number_cell(millions(params) if params else "none"),
            number_cell(percent(ua)),
            number_cell(interval(ends)),
            kind="main" if key == MAIN else "",
        )
        for key, name, ua, ends, params in models
    )
    findings = (
        row(
            text_cell(found.claim),
            text_cell(found.verdict, f"verdict v{VERDICTS.index(found.verdict)}"),
            text_cell(f"{found.sentence} If it holds: {found.meaning}."),
        )
        for found in evidence.findings
    )
    svg = figures.comparison([model[1:4] for model in models], metrics["chance"]["UA"])
    return {
        "model_rows": "".join(rows),
        "findings": "".join(findings),
        "comparison": figure(
            svg,
            "UA of all models with intervals",
            "The same figures, with 95 % intervals over voices.",
        ),
        "num_classes": len(metrics["classes"]),
        "chance": percent(metrics["chance"]["UA"]),
        "num_test": metrics["n"],
        "num_seeds": len(metrics["seeds"]),
        **{name: percent(value) for name, value in metrics["pooled"].items()},
    }


def curve_values(evidence):
    """Training curves of teacher, Vesper and head."""
    steps = evidence.teacher[-1]["optimizer_steps"]
    hours = sum(epoch["audio_hours"] for epoch in evidence.teacher)
    heard = sum(epoch["audio_hours"] for epoch in evidence.vesper)
    return {
        "teacher_curves": figure(
            figures.teacher_curves(evidence.teacher),
            "loss and accuracy of the teacher against steps",
            "The teacher predicts the MFCC cluster of hidden frames (HuBERT's first iteration): "
            f"{steps} steps, {hours:.1f} hours of audio heard.",
        ),
        "vesper_curves": figure(
            figures.vesper_curves(evidence.vesper),
            "the three losses of pretraining against epochs",
            f"Compression by {escape(evidence.record['compression'])}; then "
            f"{evidence.vesper[-1]['optimizer_steps']} steps, {heard:.1f} hours of audio heard. "
            "Low level: layer N/2 against the teacher's M/2 on "
            "phoneme-masked frames. High level: layer N against M on word-masked frames. Cross "
            "layer: layer N against M/2 on all frames.",
        ),
        "head_curves": figure(
            figures.head_curves(evidence.heads),
            "UA of the head on dev voices against epochs",
            "The head on Vesper-mini's frozen states; the epoch is picked on the dev voices, never "
            "on the test voices.",
        ),
    }


def mask_values(evidence):
    """Figure 5's view of one utterance."""
    arrays, shares = evidence.masked.arrays, evidence.masked.shares
    phonemes, words = len(arrays["phoneme_centres"]), len(arrays["word_centres"])
    caption = (
        f"<code>{escape(evidence.masked.name)}</code>, as the paper's Figure 5. {phonemes} phoneme "
        "centres, half from the high-energy zone and half from the low one, each hiding 160 ms; "
        f"{words} of them also centre word spans, 800 ms each. Hidden: "
        f"{100 * shares['phoneme']:.0f} % of the frames at phoneme level, "
        f"{100 * shares['word']:.0f} % at word level. The paper's 20 and 4 positions are meant for "
        "5 s; here they are scaled to the utterance's length."
    )
    label = "energy curve with zones, mask centres and spans"
    return {"masks": figure(figures.masks(**arrays), label, caption)}


def confusion_values(evidence):
    """Confusion matrix with per-class recall, in one table."""
    metrics = evidence.metrics
    classes, rows = metrics["classes"], []
    for target, counts in zip(classes, metrics["confusion"], strict=True):
        total, own = sum(counts) or 1, metrics["per_class"][target]
        kinds = ["cell hit" if name == target else "cell" for name in classes]
        shade = "background:color-mix(in srgb, var(--blue) {:.0f}%, transparent)"
        cells = [
            f'<td class="{kind}" title="{n} of {total}" style="{shade.format(55 * n / total)}">'
            f"{100 * n / total:.0f}</td>"
            for kind, n in zip(kinds, counts, strict=True)
        ]
        scores = (percent(own["recall"]), percent(own["precision"]), own["support"])
        header = f'<th scope="row">{escape(target)}</th>'
        rows.append(row(header, *cells, *(number_cell(score) for score in scores)))
    heads = (f'<th style="text-align:center">{escape(name)}</th>' for name in classes)
    return {"confusion_rows": "".join(rows), "class_heads": "".join(heads)}


def layer_values(evidence):
    """Learned weights of the states; nothing for a head on the last layer alone."""
    weights = evidence.run["layer_weights"]
    if not weights:
        return {"layers": ""}
    caption = (
        "Softmax weights of Vesper-mini's states in the head's mix, mean over seeds. Weights start "
        "equal and states differ in scale, so a large weight is not by itself a better layer."
    )
    shown = figure(figures.layer_weights(weights), "softmax weight of every state", caption)
    return {"layers": f"<h2>Which layers the head listens to</h2>\n{shown}"}


def file_values(evidence):
    """The exported model on one file, and voices to listen to."""
    answer = evidence.classified
    rows = (
        row(
            text_cell(name),
            number_cell(f"{p:.3f}"),
            bar_cell(p, "60%"),
            kind="main" if name == answer["label"] else "",
        )
        for name, p in answer["probabilities"].items()
    )
    voices = (
        row(
            text_cell(voice.emotion),
            f'<td><audio controls preload="none" src="{voice.uri}"></audio></td>',
            text_cell(", ".join(voice.answers)),
        )
        for voice in evidence.voices
    )
    return {
        "file": escape(answer["file"]),
        "file_seconds": f"{answer['duration']:.1f}",
        "target": escape(answer["target"]),
        "label": escape(answer["label"]),
        "right": "right" if answer["label"] == answer["target"] else "wrong",
        "milliseconds": f"{1000 * answer['seconds']:.0f}",
        "probability_rows": "".join(rows),
        "voice_rows": "".join(voices),
    }


def source_values(evidence):
    """Where the numbers come from."""
    metrics, machine = evidence.metrics, evidence.timings["machine"]
    return {
        "commit": f"commit {escape(metrics['git'])}, " if metrics["git"] else "",
        "protocol": escape(metrics["protocol"]),
        "seeds": ", ".join(map(str, metrics["seeds"])),
        "python": escape(machine["python"]),
        "cores": machine["cores"],
    }


PARTS = (
    head_values,
    stage_values,
    result_values,
    curve_values,
    mask_values,
    confusion_values,
    layer_values,
    file_values,
    source_values,
)


def render(evidence, model_folder="results/quickstart/model"):
    """The whole page as text."""
    page = Template((HERE / "report_page.html").read_text(encoding="utf-8"))
    values = {"style": (HERE / "report.css").read_text(encoding="utf-8")}
    for part in PARTS:
        values.update(part(evidence))
    return page.substitute(values, model_folder=escape(str(model_folder)))


def write_report(results):
    """Write report.html, and a copy of metrics.json beside it; returns the report's path."""
    results = Path(results).resolve()
    evidence = gather(results)
    write_metrics(evidence.metrics, results / "metrics.json")
    path, model = results / "report.html", results / "model"
    model = model.relative_to(ROOT) if model.is_relative_to(ROOT) else model
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(render(evidence, model), encoding="utf-8")
    os.replace(temporary, path)
    return path


def main(argv=None):
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results_folder", type=Path)
    print(write_report(parser.parse_args(argv).results_folder))


if __name__ == "__main__":
    main()
