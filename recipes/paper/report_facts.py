"""The report's figures, and what was run: encoders, what they heard, hours, commands."""

import json

from report_document import Code, Figure, Heading, Paragraph, Table
from rows import VALUE_NAMES

FIGURES = {
    "figure5": "python recipes/paper/figure5.py --wav FILE --out figure5.png",
    "figure6": (
        "python recipes/paper/figure6.py --manifest manifest.csv --data_folder DIR "
        "--encoders base=DIR large=DIR v4=DIR v12=DIR --out figure6.png"
    ),
}
TITLES = {
    "figure5": "Figure 5. Energy, zones, mask centres and spans",
    "figure6": "Figure 6. Last-layer features of the encoders",
}


def figures(grid, target, folder):
    """Figures 5 and 6: those in the work folder or beside the report, or how to make them.

    Arguments
    ---------
    grid : rows.Grid
    target : pathlib.Path
        Where PNGs are copied to, or lie already.
    folder : str
        The same, as the page names it.

    Returns
    -------
    list
        Blocks. A picture without the JSON that names its command is not shown.
    """
    blocks = []
    for kind, command in FIGURES.items():
        blocks.append(Heading(TITLES[kind], kind, 3))
        found = {
            p.name: p for place in (target, grid.work / "figures") for p in pictures(place, kind)
        }
        if not found:
            blocks += [Paragraph("Not drawn in this run; the command:"), Code(command)]
        for path in found.values():
            facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            content = path.read_bytes()
            if path.parent != target:
                (target / path.name).write_bytes(content)
            svg = path.with_suffix(".svg")
            blocks.append(
                Figure(
                    f"{TITLES[kind]}: {facts.get('file') or facts['corpus']}",
                    CAPTIONS[kind](facts),
                    facts["command"],
                    f"{folder}/{path.name}",
                    svg.read_text(encoding="utf-8") if svg.is_file() else "",
                    content,
                )
            )
    return blocks


def pictures(folder, kind):
    """PNGs of a figure with the JSON that names their command."""
    found = sorted(folder.glob(f"{kind}*.png"))
    return [path for path in found if path.with_suffix(".json").is_file()]


def caption5(facts):
    """What Figure 5 shows, in numbers."""
    shares = facts["shares"]
    parts = ", ".join(
        f"{name} {100 * shares[f'phoneme_of_{zone}']:.0f} %"
        for zone, name in (("high", "high"), ("low", "low"), ("noise", "noise"))
    )
    return (
        f"`{facts['file']}`, {facts['seconds']:.1f} s, {facts['strategy']} masks: "
        f"{facts['phoneme_centres']} phoneme centres with spans of 160 ms, among them "
        f"{facts['word_centres']} for word spans of 800 ms, as pretraining draws "
        f"them with seed {facts['seed']} in epoch {facts['epoch']}. Hidden: "
        f"{100 * shares['phoneme']:.0f} % of the frames at phoneme level (of the zones: {parts}), "
        f"{100 * shares['word']:.0f} % at word level. The paper's 20 and 4 positions belong to "
        "5 s and are scaled to the length."
    )


def caption6(facts):
    """What Figure 6 shows, and the figures that are no matter of taste."""
    scores = "; ".join(
        f"{name} {100 * e['UA']:.1f} [{100 * e['ci'][0]:.1f}, {100 * e['ci'][1]:.1f}]"
        for name, e in facts["encoders"].items()
    )
    return (
        f"{facts['corpus']}, {facts['utterances']} utterances of {facts['speakers']} speakers; "
        "last-layer states, averaged over time, no head, no labels. t-SNE is a picture: distances "
        "and gaps in it are not to be read. The figure to go by is computed on the features "
        "themselves: UA of the 5 nearest neighbours among the other speakers' utterances, each "
        f"speaker left out in turn, in per cent with its 95 % interval: {scores}; chance "
        f"{100 / len(facts['classes']):.1f}."
    )


CAPTIONS = {"figure5": caption5, "figure6": caption6}


def run_section(grid, commands_file):
    """Hours, machine, encoders and what they heard, troubles, commands."""
    record = grid.record
    seconds = record.get("seconds", {})
    spent = sum(seconds.values()) / 3600
    wall = record.get("wall_seconds")
    machine = record.get("machine", {})
    parts = [f"{len(seconds)} commands, {spent:.2f} hours of them in sum"]
    if wall:
        parts.append(f"{wall / 3600:.2f} hours by the clock")
    if "jobs" in record:
        parts.append(f"{record['jobs']} at once, threads of each: {record.get('threads', 1)}")
    if "cores" in machine:
        parts.append(f"on {machine['cores']} CPU cores")
    blocks = [Paragraph(f"{'; '.join(parts)}."), encoders_table(grid)]
    if record.get("git"):
        blocks.append(Paragraph(f"Commits: {', '.join(f'`{name}`' for name in record['git'])}."))
    if grid.troubles:
        text = "Called done, but not readable: " + "; ".join(grid.troubles) + "."
        blocks.append(Paragraph(text, notice=True))
    if record.get("commands"):
        text = (
            f"Every command, as run from the folder it names: `{commands_file}`. `{{work}}` is "
            "the work folder, other braces are the corpora's folders."
        )
        blocks.append(Paragraph(text))
    return blocks


def encoders_table(grid):
    """One line an encoder: how it was made, how long it was trained, what it heard."""
    made = {name: entry for entry in grid.record["rows"] for name in entry["encoders"]}
    seconds = grid.record.get("seconds", {})
    lines, waiting = [], []
    for name, entry in made.items():
        folder = grid.work / "cells" / name
        history, record = (
            read_if(folder / "history.json"),
            read_if(folder / "export/pretraining.json"),
        )
        if not history:
            waiting.append(name)
            continue
        minutes = f"{seconds[name] / 60:.1f}" if name in seconds else "–"
        heard = sum(row.get("audio_hours", 0) for row in history)
        lines.append(
            [
                f"`{name}`",
                made_how(entry),
                str(history[-1]["optimizer_steps"]),
                f"{heard:.1f}",
                minutes,
                spoken(record or {}),
            ]
        )
    head = ["encoder", "how", "steps", "hours of audio,\nrepeats counted", "minutes", "heard"]
    caption = (
        "Heard, without labels: the encoder's own utterances; speakers, the teacher's included."
    )
    heard = {line[-1] for line in lines}
    if len(heard) == 1:  # then a column would say it over and over
        caption = f"Heard by all, without labels: {heard.pop()}."
        head, lines = head[:-1], [line[:-1] for line in lines]
    if waiting:
        shown = ", ".join(f"`{name}`" for name in waiting)
        caption += f" Published, or not trained yet: {shown}."
    return Table(head, lines, caption, (2, 3, 4))


def read_if(path):
    """A JSON file, or None."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def made_how(entry):
    """Compression, masks and losses of an encoder, from a row that uses it."""
    if not entry["compression"]:
        return "masked prediction, from nothing"
    parts = (VALUE_NAMES[name][entry[name]] for name in ("compression", "masking", "losses"))
    return " · ".join(parts)


def spoken(record):
    """Corpora and speakers an encoder heard."""
    speakers = record.get("speakers", {})
    if not speakers:
        return "–"
    corpora = ", ".join(f"{corpus} ({len(who)} speakers)" for corpus, who in speakers.items())
    return f"{record['utterances']} utterances, {record['hours']:.2f} h: {corpora}"
