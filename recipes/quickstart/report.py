"""The quickstart's report: one HTML file with everything in it, made from what the stages wrote.

    python recipes/quickstart/report.py results/quickstart

Opens without a network, in light and dark, and prints. Numbers come from metrics.json and the
histories alone. Where an ordering does not hold, the page says so.
"""

import argparse
import os
from html import escape
from pathlib import Path

import figures
from evidence import gather
from findings import MAIN, NAMES, VERDICTS

from vesper_lobes.run_metrics import write_metrics

HERE = Path(__file__).resolve().parent
TITLE = "Vesper quickstart"
MODEL_ROWS = (MAIN, "teacher", "extraction", "random_init", "mfcc_ridge")
EXPLAINED = {
    MAIN: "compressed from the teacher, then pretrained with the three losses",
    "teacher": "what Vesper-mini was made from",
    "extraction": "the teacher's layers at the same depth, as they are",
    "random_init": "the same architecture, nothing learned",
    "mfcc_ridge": "no network: mean and deviation of 39 MFCC features",
}
NEXT_STEPS = """\
# the real teacher, any folder of speech, a GPU: one command makes Vesper-4
cd recipes/LSSED/pretrain
python train.py hparams/vesper4.yaml --data_folder /path/to/speech

# without WavLM: your own small teacher first, then Vesper-mini from it
cd ../teacher
python train.py hparams/mini_large.yaml --data_folder /path/to/speech --output_folder results/teacher
cd ../pretrain
python train.py hparams/vesper_mini.yaml --data_folder /path/to/speech \\
    --teacher ../teacher/results/teacher/export

# scores on real emotional speech, speaker-disjoint, with the same baselines
cd ../../EmoDB/emotion
python train.py hparams/vesper4.yaml --data_folder /path/to/EmoDB \\
    --encoder ../../LSSED/pretrain/results/vesper4/export --teacher microsoft/wavlm-large"""
USE_MODEL = """\
from speechbrain.inference.classifiers import EncoderClassifier

model = EncoderClassifier.from_hparams(source="results/quickstart/model")
print(model.classify_file("speech.wav"))

# or, without running any code from the folder:
# python -m vesper_lobes.classify speech.wav --model results/quickstart/model"""


def percent(value):
    """A share as a percentage with one digit."""
    return f"{100 * value:.1f}"


def interval(ends):
    """``[low, high]`` in per cent."""
    return f"[{percent(ends[0])}, {percent(ends[1])}]"


def duration(seconds):
    """Seconds as people say them.

    Example
    -------
    >>> duration(7.4), duration(247)
    ('7 s', '4 min 7 s')
    """
    seconds = round(seconds)
    return f"{seconds} s" if seconds < 60 else f"{seconds // 60} min {seconds % 60} s"


def millions(number):
    """A parameter count, readable."""
    return f"{number / 1e6:.2f} M"


def figure(svg, label, caption):
    """A figure with its caption; `label` is what a screen reader says."""
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(label, quote=True)}"', 1)
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"


def model_rows(evidence):
    """(key, name, UA, interval, parameters or None) of every model that was run."""
    metrics, facts = evidence.metrics, evidence.run["encoders"]
    found = {MAIN: {"UA": metrics["pooled"]["UA"], "ci": metrics["ci"]["UA"]}, **metrics["baselines"]}
    return [
        (key, NAMES[key], found[key]["UA"], found[key]["ci"], facts.get(key, {}).get("params"))
        for key in MODEL_ROWS
        if key in found
    ]


def head_section(evidence):
    """Title, the plain warning, and the figures to take away."""
    metrics, timings = evidence.metrics, evidence.timings
    rows = {key: row for key, *row in model_rows(evidence)}
    tiles = [
        (f"{percent(metrics['pooled']['UA'])} %", f"UA of Vesper-mini, {interval(metrics['ci']['UA'])}"),
        (f"{percent(metrics['chance']['UA'])} %", f"chance, {len(metrics['classes'])} emotions"),
        (duration(timings["total_seconds"]), f"all stages, {timings['machine']['cores']} CPU cores"),
    ]
    if "teacher" in rows:
        size = f"{millions(metrics['params'])}"
        tiles.insert(2, (size, f"parameters; its teacher has {millions(rows['teacher'][3])}"))
    boxes = "".join(f'<div class="tile"><b>{big}</b><span>{small}</span></div>' for big, small in tiles)
    heard = (
        "The test voices were heard without labels in pretraining: read the scores as transductive."
        if metrics["ssl_saw_test_audio"]
        else "No stage, pretraining included, heard the voices it is tested on."
    )
    return f"""<h1>{TITLE}</h1>
<p class="lead">A small speech-emotion encoder, made from scratch on this machine: teacher, compression,
emotion-guided pretraining, head, evaluation, exported model.</p>
<div class="notice"><strong>The speech is synthetic and the model a demonstration.</strong> Everything here was
learned from, and tested on, speech that the program espeak-ng made by rule; its "emotions" are settings of rate,
pitch, range and loudness taken from the literature. No result on this page says anything about emotion in
people's speech, and the model should not be used on it. What the page shows is that the whole method runs. {heard}</div>
<div class="tiles">{boxes}</div>"""


def stage_section(evidence):
    """What was done, with seconds."""
    stages = evidence.timings["stages"]
    longest = max(stage["seconds"] for stage in stages) or 1
    rows = "".join(
        f"<tr><td>{escape(stage['title'])}</td><td>{escape(stage['what'])}</td>"
        f'<td class="n">{stage["seconds"]:.0f}</td>'
        f'<td style="width:7rem"><span class="bar" style="width:{100 * stage["seconds"] / longest:.0f}%"></span></td></tr>'
        for stage in stages
    )
    commands = "\n".join(
        f"(cd {stage['folder']} && {command})" for stage in stages for command in stage["commands"]
    )
    return f"""<h2>What was done</h2>
<div class="scroll"><table><thead><tr><th>stage</th><th>what</th><th class="n">seconds</th><th></th></tr></thead>
<tbody>{rows}<tr class="total"><td>in all</td><td></td><td class="n">{evidence.timings["total_seconds"]:.0f}</td><td></td></tr></tbody>
</table></div>
<details><summary>The commands, as run from the checkout</summary><pre><code>{escape(commands)}</code></pre></details>"""


def result_section(evidence):
    """Table, intervals and orderings."""
    metrics, rows = evidence.metrics, model_rows(evidence)
    body = "".join(
        f'<tr{" class=main" if key == MAIN else ""}><td>{escape(name)}</td><td>{EXPLAINED[key]}</td>'
        f'<td class="n">{millions(params) if params else "none"}</td>'
        f'<td class="n">{percent(ua)}</td><td class="n">{interval(ends)}</td></tr>'
        for key, name, ua, ends, params in rows
    )
    speakers = "test voices"
    svg = figures.comparison([(name, ua, ends) for _, name, ua, ends, _ in rows], metrics["chance"]["UA"])
    listed = "".join(
        f'<tr><td>{escape(f.claim)}</td><td class="verdict v{VERDICTS.index(f.verdict)}">{f.verdict}</td>'
        f"<td>{escape(f.sentence)} <span class=claim>If it holds: {escape(f.meaning)}.</span></td></tr>"
        for f in evidence.findings
    )
    pooled = metrics["pooled"]
    return f"""<h2>Results on held-out voices</h2>
<div class="scroll"><table><thead><tr><th>model</th><th>what it is</th><th class="n">parameters</th>
<th class="n">UA, %</th><th class="n">95 % interval</th></tr></thead>
<tbody>{body}<tr><td>chance</td><td>one of {len(metrics["classes"])} at random</td><td></td>
<td class="n">{percent(metrics["chance"]["UA"])}</td><td></td></tr></tbody>
<caption>UA is the mean recall of the emotions. {metrics["n"]} test utterances, mean of {len(metrics["seeds"])} seeds
of the head (the ridge has none); intervals resample {speakers}. Encoders are frozen; every model has the same
training data and the epoch is picked on other voices. Vesper-mini in full: WA {percent(pooled["WA"])},
UA {percent(pooled["UA"])}, weighted F1 {percent(pooled["WF1"])}, macro F1 {percent(pooled["macroF1"])} %.</caption></table></div>
{figure(svg, "UA of all models with 95 % intervals", "The same figures; the bar is the 95 % interval over voices.")}
<h2>Which orderings hold</h2>
<div class="scroll"><table><thead><tr><th>ordering</th><th>verdict</th><th>measured</th></tr></thead><tbody>{listed}</tbody>
<caption>Differences of UA on the same utterances, paired over voices. "Holds": the interval lies above zero;
"does not hold": below; "within noise": it contains zero. A few minutes of training on a few voices decide little;
the paper's comparisons need its scale.</caption></table></div>"""


def curve_section(evidence):
    """Training curves of teacher, Vesper and head."""
    teacher, vesper = evidence.teacher, evidence.vesper
    last, hours = teacher[-1], sum(row["audio_hours"] for row in teacher)
    first = figure(
        figures.teacher_curves(teacher),
        "loss and accuracy of the teacher against steps",
        f"The teacher predicts the MFCC cluster of hidden frames (HuBERT's first iteration): "
        f"{last['optimizer_steps']} steps, {hours:.1f} hours of audio heard.",
    )
    second = figure(
        figures.vesper_curves(vesper),
        "the three losses of pretraining against epochs",
        "Vesper-mini's three losses. Low level: layer N/2 against the teacher's M/2 on phoneme-masked frames. "
        "High level: layer N against M on word-masked frames. Cross layer: layer N against M/2 on all frames.",
    )
    third = figure(
        figures.head_curves(evidence.heads),
        "UA of the head on dev voices against epochs",
        "The head on Vesper-mini's frozen states; the epoch is picked on the dev voices, never on the test voices.",
    )
    return f"<h2>Training</h2>{first}{second}{third}"


def mask_section(evidence):
    """Figure 5's view of one utterance."""
    masked = evidence.masked
    arrays, shares = masked.arrays, masked.shares
    count = len(arrays["phoneme_centres"]), len(arrays["word_centres"])
    return "<h2>Emotion-guided masking, on one utterance</h2>" + figure(
        figures.masks(**arrays),
        "energy curve with zones, mask centres and spans",
        f"<code>{escape(masked.name)}</code>, as the paper's Figure 5. {count[0]} phoneme centres, half from the "
        f"high-energy zone and half from the low one, each hiding 160 ms; {count[1]} of them again as word centres, "
        f"800 ms each. Hidden: {100 * shares['phoneme']:.0f} % of the frames at phoneme level, "
        f"{100 * shares['word']:.0f} % at word level. The paper's 20 and 4 positions are meant for 5 s; here "
        "they are scaled to the utterance's length.",
    )


def confusion_section(evidence):
    """Confusion matrix with per-class recall, in one table."""
    metrics = evidence.metrics
    classes = metrics["classes"]
    rows = []
    for target, counts in zip(classes, metrics["confusion"], strict=True):
        total = sum(counts) or 1
        cells = "".join(
            f'<td class="cell{" hit" if name == target else ""}" style="background:color-mix(in srgb, '
            f'var(--blue) {55 * n / total:.0f}%, transparent)" title="{n} of {total}">{100 * n / total:.0f}</td>'
            for name, n in zip(classes, counts, strict=True)
        )
        figures_of = metrics["per_class"][target]
        rows.append(
            f'<tr><th scope="row">{escape(target)}</th>{cells}<td class="n">{percent(figures_of["recall"])}</td>'
            f'<td class="n">{percent(figures_of["precision"])}</td><td class="n">{figures_of["support"]}</td></tr>'
        )
    heads = "".join(f'<th style="text-align:center">{escape(name)}</th>' for name in classes)
    return f"""<h2>Confusions and recall</h2>
<div class="scroll"><table><thead><tr><th>acted \\ heard as, %</th>{heads}<th class="n">recall, %</th>
<th class="n">precision, %</th><th class="n">utterances</th></tr></thead><tbody>{"".join(rows)}</tbody>
<caption>Vesper-mini on the test voices, all seeds together; rows add up to 100 %.</caption></table></div>"""


def layer_section(evidence):
    """Learned weights of the states."""
    weights = evidence.run["layer_weights"]
    if not weights:
        return ""
    return "<h2>Which layers the head listens to</h2>" + figure(
        figures.layer_weights(weights),
        "softmax weight of every state",
        "Softmax weights of Vesper-mini's states in the head's mix, mean over seeds. Weights start equal and states "
        "differ in scale, so a large weight is not by itself a better layer.",
    )


def file_section(evidence):
    """The exported model on one file, and voices to listen to."""
    answer = evidence.classified
    bars = "".join(
        f'<tr{" class=main" if name == answer["label"] else ""}><td>{escape(name)}</td><td class="n">{p:.3f}</td>'
        f'<td style="width:60%"><span class="bar" style="width:{100 * p:.1f}%"></span></td></tr>'
        for name, p in answer["probabilities"].items()
    )
    voices = "".join(
        f'<tr><td>{escape(voice.emotion)}</td><td><audio controls preload="none" src="{voice.uri}"></audio></td>'
        f"<td>{escape(', '.join(voice.answers))}</td></tr>"
        for voice in evidence.voices
    )
    right = "right" if answer["label"] == answer["target"] else "wrong"
    return f"""<h2>The exported model on one file</h2>
<p><code>{escape(answer["file"])}</code>, {answer["duration"]:.1f} s of a voice nothing was trained on, acted
<strong>{escape(answer["target"])}</strong>; the model says <strong>{escape(answer["label"])}</strong> ({right}),
in {1000 * answer["seconds"]:.0f} ms through <code>EncoderClassifier.from_hparams</code>.</p>
<table><thead><tr><th>emotion</th><th class="n">probability</th><th></th></tr></thead><tbody>{bars}</tbody></table>
<div class="screen"><p>The same voice and sentence in every emotion, to hear what the corpus is like:</p>
<table><thead><tr><th>acted</th><th>listen</th><th>answers of the seeds</th></tr></thead><tbody>{voices}</tbody></table></div>
<p>Use it yourself:</p><pre><code>{escape(USE_MODEL)}</code></pre>"""


def next_section(evidence):
    """How to go on with real data, and where the numbers come from."""
    metrics, machine = evidence.metrics, evidence.timings["machine"]
    commit = f"commit {escape(metrics['git'])}, " if metrics["git"] else ""
    return f"""<h2>The real thing</h2>
<p>The same code takes WavLM Large, real corpora and a GPU; only settings and paths change. Start in the checkout:</p>
<pre><code>{escape(NEXT_STEPS)}</code></pre>
<footer>Made by <code>make quickstart</code>: {commit}protocol {escape(metrics["protocol"])}, head seeds
{escape(", ".join(map(str, metrics["seeds"])))}, Python {escape(machine["python"])}, {machine["cores"]} cores.
Figures from <code>metrics.json</code>, <code>timings.json</code> and the runs' histories in this folder.
Method: Chen, Xing, Chen, Xu, "Vesper" (arXiv 2307.10757).</footer>"""


SECTIONS = (
    head_section,
    stage_section,
    result_section,
    curve_section,
    mask_section,
    confusion_section,
    layer_section,
    file_section,
    next_section,
)


def render(evidence):
    """The whole page as text."""
    style = (HERE / "report.css").read_text(encoding="utf-8")
    body = "\n".join(section(evidence) for section in SECTIONS)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{TITLE}</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def write_report(results):
    """Write report.html, and a copy of metrics.json beside it; returns the report's path."""
    results = Path(results)
    evidence = gather(results)
    write_metrics(evidence.metrics, results / "metrics.json")
    path = results / "report.html"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(render(evidence), encoding="utf-8")
    os.replace(temporary, path)
    return path


def main(argv=None):
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results_folder", type=Path)
    print(write_report(parser.parse_args(argv).results_folder))


if __name__ == "__main__":
    main()
