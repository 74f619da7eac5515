"""Tables II to VIII: the paper's figures and, beside them, what was run here."""

import json
from decimal import ROUND_HALF_UP, Decimal

from report_document import Heading, Paragraph, Table
from rows import HEAD_NAMES, LOSS_NAMES, MASK_NAMES, MODEL_NAMES, VALUE_NAMES, key_of

NOT_RUN = "not run"
HEARD = "transductive"
GAP = "\N{NO-BREAK SPACE}"
MINI_NAMES = {
    "base": "mini, 6 layers",
    "v4": "mini, 2 layers",
    "large": "mini, 12 layers",
    "v12": "mini, 6 layers",
}
FOOTNOTES = "¹²³⁴⁵⁶⁷⁸⁹"
SHOWN = ("WA", "UA", "WF1")
BASELINE_NAMES = {
    "mfcc_ridge": "floor: ridge on MFCC statistics",
    "random_init": "the Large architecture, untrained",
    "teacher": "teacher",
    "extraction": "extraction, not pretrained",
}
MODEL_KEYS = {  # as a complexity count may spell them, lower case without signs
    **{"base": "base", "wavlmbase": "base", "large": "large", "wavlmlarge": "large"},
    **{"v4": "v4", "vesper4": "v4", "v12": "v12", "vesper12": "v12"},
}
EXPLAINED = {
    "III": "",
    "IV": "The paper does not say how it trained these heads, so its figures are a target, not a "
    "digit-for-digit claim. SpeechFormer-S alone is larger than Vesper-4.",
    "V": "The paper gives no details of random initialisation and distillation; ours: the conv "
    "front end is the teacher's, frozen, in both. Distillation trains the rest to follow the "
    "teacher's softened outputs before the usual pretraining.",
    "VI": "**random** draws as many positions as guided masking, anywhere. Its spans overlap less, "
    "so it hides more frames; **random, as many frames** is the fair comparison.",
    "VII": "Which row of the paper's table has which losses follows from the differences its text "
    "names: the tick marks are missing in the text that the figures were taken from.",
    "VIII": "",
}


def percent(value):
    """A share in per cent with one digit.

    Example
    -------
    >>> percent(0.7068)
    '70.7'
    """
    return f"{100 * value:.1f}"


def triple(values):
    """WA / UA / WF1 in per cent, a dash where there is none."""
    texts = ("–" if values.get(name) is None else percent(values[name]) for name in SHOWN)
    return f"{GAP}/{GAP}".join(texts)


def interval(ends):
    """``[low, high]`` in per cent."""
    return f"[{percent(ends[0])},{GAP}{percent(ends[1])}]"


def our_cell(rows, protocols):
    """A row's scores on one corpus under each protocol."""
    lines = []
    for protocol in protocols:
        row = rows.get(protocol)
        if row is None:
            lines.append(f"{protocol}:{GAP}{NOT_RUN}")
        elif protocol == "B":
            scores = triple(row.metrics["pooled"]).split(GAP)
            scores[2] = f"**{scores[2]}**"  # UA
            text = GAP.join([f"{protocol}:", *scores])
            lines.append(f"{text}\n{interval(row.metrics['ci']['UA'])}")
        else:
            lines.append(f"{protocol}:{GAP}{triple(row.metrics['mean_of_folds'])}")
    return "\n".join(lines) if rows else NOT_RUN


def result_table(name, grid, targets):
    """One of Tables III to VIII.

    Returns
    -------
    list
        Blocks: heading, table.
    """
    table = targets.tables[name]
    head = ["", *(f"paper\n{corpus}" for corpus in targets.corpora)]
    head += [our_head(grid, corpus) for corpus in grid.corpora]
    head += ["M parameters, encoder\n+ head; seeds"]
    lines, group = [], None
    notes = list(dict.fromkeys(note for _, note in table["rows"] if note))
    for key, note in table["rows"]:
        heading = group_name(name, key, grid.size)
        if heading and heading != group:
            lines.append(heading)
        group = heading
        line = result_line(name, key, grid, targets)
        line[0] += FOOTNOTES[notes.index(note)] if note else ""
        lines.append(line)
    if name == "III":
        lines += reference_lines(grid, len(targets.corpora))
    caption = "WA / UA / WF1 in per cent; in brackets the 95 % interval of UA over speakers."
    footnotes = [f"{FOOTNOTES[place]} {note}." for place, note in enumerate(notes)]
    meld = [MELD] if "MELD" in grid.corpora else []
    parts = [caption, PROTOCOLS, *meld, EXPLAINED[name], size_note(targets), *footnotes]
    caption = " ".join(filter(None, parts))
    return [
        Heading(f"Table {name}. {table['title']}", f"table-{name}", 3),
        Table(head, lines, caption),
    ]


PROTOCOLS = (
    "B: epoch chosen on other speakers, folds pooled. A: epoch chosen on the test fold, as the "
    "released code does, mean of folds."
)
MELD = (
    "MELD has its own splits, which share speakers: the epoch is chosen on its dev set under both, "
    "and intervals resample dialogues."
)


def size_note(targets):
    """The heads' sizes, which every table names."""
    sizes = (
        f"{HEAD_NAMES[name]} {counts[768] / 1e6:.2f} / {counts[1024] / 1e6:.2f} M"
        for name, counts in targets.head_params.items()
    )
    return f"Heads at the paper's widths (768 / 1024, 4 classes): {', '.join(sizes)}."


def group_name(table, key, size):
    """What heads the rows of a table that has groups."""
    if table == "IV":
        return HEAD_NAMES[key.head]
    if table in ("V", "VI", "VII", "VIII"):
        return model_name(key, size, " · ")
    return None


def model_name(key, size, between="\n"):
    """The paper's model, and what stands for it here."""
    mine = f"{between}ours: {MINI_NAMES[key.model]}" if size == "mini" else ""
    return (MODEL_NAMES[key.model] + mine).replace(" ", GAP if between == "\n" else " ")


def row_name(table, key, size):
    """What a row is called within its table."""
    if table in ("III", "IV"):
        return model_name(key, size)
    if table == "V":
        return key.compression
    if table == "VI":
        return MASK_NAMES[key.masking]
    return LOSS_NAMES[key.losses] if table == "VII" else VALUE_NAMES["mix"][key.mix]


def result_line(table, key, grid, targets):
    """The cells of one row."""
    figures = targets.figures.get(key)
    paper = [triple(figures[c]) if figures else "–" for c in targets.corpora]
    protocols = protocols_of(grid)
    found = {
        corpus: {p: grid.rows[key, corpus, p] for p in protocols if (key, corpus, p) in grid.rows}
        for corpus in grid.corpora
    }
    cells = [our_cell(rows, planned_of(grid, key, c, protocols)) for c, rows in found.items()]
    done = [row for rows in found.values() for row in rows.values()]
    name = row_name(table, key, grid.size)
    return [name, *paper, *cells, remarks(done, grid)]


def protocols_of(grid):
    """The run's protocols, B first."""
    return sorted({protocol for *_, protocol in grid.planned}, reverse=True)


def planned_of(grid, key, corpus, protocols):
    """Those under which this row was to be run."""
    return [p for p in protocols if (key, corpus, p) in grid.planned]


def remarks(done, grid):
    """Sizes, seeds, and whose speakers the encoder heard where not all encoders did."""
    found = []
    for row in done:  # heads differ by the corpus's classes
        encoder, head = (row.metrics[name] / 1e6 for name in ("params", "trainable_params"))
        found.append(f"{encoder:.2f}{GAP}+{GAP}{head:.2f}")
    found.sort()
    for row in done:
        seeds, encoders = len(row.metrics["seeds"]), len(row.runs)
        many = f"{seeds}{GAP}seeds" if seeds > 1 else f"**one{GAP}seed**"
        each = f", {encoders}{GAP}pretrainings" if encoders > 1 else ""
        found.append(f"{many}{each}")
    heard = sorted({row.corpus for row in done if row.metrics["ssl_saw_test_audio"]})
    found += [f"{HEARD}: {corpus}" for corpus in heard if not all_heard(grid, corpus)]
    return "\n".join(dict.fromkeys(found)) or "–"


def all_heard(grid, corpus):
    """Whether every encoder heard a corpus's test speakers."""
    rows = [row for (_, name, _), row in grid.rows.items() if name == corpus]
    return bool(rows) and all(row.metrics["ssl_saw_test_audio"] for row in rows)


def our_head(grid, corpus):
    """The head of a column of ours."""
    return f"ours\n{corpus}" + (f",\n{HEARD}" if all_heard(grid, corpus) else "")


def reference_lines(grid, empty):
    """Floor, untrained network and chance under protocol B, where a run has them."""
    found = {}
    for (_, corpus, protocol), row in grid.rows.items():
        if protocol == "B":
            for name, entry in row.metrics["baselines"].items():
                found.setdefault(name, {})[corpus] = entry
    chances = {c: row.metrics["chance"] for (_, c, _), row in grid.rows.items()}
    lines = []
    for name, entries in [*found.items(), ("chance", chances)]:
        cells = []
        for corpus in grid.corpora:
            entry = entries.get(corpus)
            text = f"B:{GAP}–{GAP}/{GAP}**{percent(entry['UA'])}**{GAP}/{GAP}–" if entry else "–"
            cells.append(f"{text}\n{interval(entry['ci'])}" if entry and "ci" in entry else text)
        lines.append([BASELINE_NAMES.get(name, name), *["–"] * empty, *cells, "–"])
    return lines


def complexity_table(path, targets):
    """Table II from benchmarks/complexity.py's JSON; says so where it is missing."""
    blocks = [Heading("Table II. Parameters and operations", "table-II", 3)]
    command = "`python benchmarks/complexity.py --json results/benchmarks/complexity.json`"
    if not path.is_file():
        return [*blocks, Paragraph(f"Not counted yet: {command} writes what this table shows.")]
    counts = {}
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
        model = MODEL_KEYS.get("".join(filter(str.isalnum, row["model"].casefold())))
        if model:
            counts[model, float(row["seconds"])] = row
    paper, lines, equal = targets.complexity, [], []
    for model, macs in paper["macs"].items():
        rows = [counts.get((model, seconds)) for seconds in paper["seconds"]]
        known = next((row for row in rows if row), None)
        params = known["params"] / 1e6 if known else None
        cells = [MODEL_NAMES[model].replace(" ", GAP), f"{paper['params'][model]:.2f}"]
        cells += [f"{params:.2f}" if known else NOT_RUN]
        for printed, row in zip(macs, rows, strict=True):
            cells.append(f"{printed:.2f}{GAP}·{GAP}{giga(row['macs_paper'])}" if row else NOT_RUN)
            equal.append(bool(row) and as_printed(row["macs_paper"]) == f"{printed:.2f}")
        cells += [str(giga(row["macs_true"])) if row else NOT_RUN for row in rows]
        lines.append(cells)
    seconds = [f"{value} s" for value in paper["seconds"]]
    head = ["", "M parameters\npaper", "ours"]
    head += [f"{text}\npaper · ours" for text in seconds]
    head += [f"{text}, with\nattention" for text in seconds]
    caption = (
        f"Multiply-accumulate operations, 10^9; {sum(equal)} of {len(equal)} equal the paper's to "
        'the last digit it prints. The paper\'s "FLOPs" count convolutions and linear layers '
        "without the attention's matrix products; the last columns count those, too. Parameters: "
        "the encoder alone, mask embedding included. The paper's counts of WavLM Base and Large "
        "are larger than those of the modules that can be loaded, final LayerNorm included "
        "(94,381,936 and 315,453,120), by 0.32 and 1.17 M; where that comes from is not known. "
        f"{size_note(targets)} Made by {command}."
    )
    return [*blocks, Table(head, lines, caption, tuple(range(1, len(head))))]


def giga(count):
    """Operations in 10^9 with three digits, half rounded up."""
    return (Decimal(count) / 10**9).quantize(Decimal("0.001"), ROUND_HALF_UP)


def as_printed(count):
    """Operations as the paper prints them: rounded from three digits to two.

    Example
    -------
    >>> as_printed(80_734_907_392)
    '80.74'
    """
    return str(giga(count).quantize(Decimal("0.01"), ROUND_HALF_UP))


def coverage_table(grid):
    """What each masker hid in pretraining, by zone, from the histories."""
    lines, guided = [], {}
    for model in ("v4", "v12"):
        for masking in MASK_NAMES:
            key = key_of({"model": model, "masking": masking})
            entries = [e for (k, *_), e in grid.planned.items() if k == key]
            encoders = list(dict.fromkeys(name for e in entries for name in e["encoders"]))
            shares = mean_shares([grid.work / "cells" / name for name in encoders])
            if shares is None:
                continue
            guided.setdefault(model, shares if masking == "guided" else None)
            lines.append(coverage_line(model, masking, shares, guided[model]))
    if not lines:
        return [Paragraph("Coverage of the masks: no pretraining has been run yet.")]
    head = ["Vesper", "masks", "phoneme level\nall frames", "against\nguided", "speech", "noise"]
    head += ["hidden frames in\nhigh / low / noise", "word level\nall frames", "speech", "noise"]
    caption = (
        "Share of frames hidden in pretraining, in per cent, mean over epochs (and pretraining "
        "seeds). Speech: frames of the high and low energy zones; noise: below a fifth of the "
        "utterance's loudest frame. Against guided: points of coverage more or less than guided "
        "masking; the fair control must be within 1."
    )
    return [Table(head, lines, caption, tuple(range(2, len(head))))]


def mean_shares(folders):
    """Masked shares, mean over epochs and pretrainings; None where nothing was logged."""
    found = []
    for folder in folders:
        path = folder / "history.json"
        if path.is_file():
            rows = json.loads(path.read_text(encoding="utf-8"))
            found += [row["masks"] for row in rows if row.get("masks")]
    if not found:
        return None
    return {name: sum(row[name] for row in found) / len(found) for name in found[0]}


def coverage_line(model, masking, shares, guided):
    """One masker's coverage."""
    cells = [MODEL_NAMES[model], MASK_NAMES[masking], percent(shares["phoneme"])]
    apart = "–"
    if guided and masking != "guided":
        apart = f"{100 * (shares['phoneme'] - guided['phoneme']):+.1f}".replace("-", "−")
    cells += [apart, *(percent(of_zone(shares, "phoneme", zone)) for zone in ("speech", "noise"))]
    inside = (percent(shares[f"phoneme_in_{zone}"]) for zone in ("high", "low", "noise"))
    cells += [f"{GAP}/{GAP}".join(inside), percent(shares["word"])]
    return cells + [percent(of_zone(shares, "word", zone)) for zone in ("speech", "noise")]


def of_zone(shares, level, zone):
    """Share of a zone's frames that are hidden; speech is the high and the low zone together."""
    if zone == "noise":
        return shares[f"{level}_of_noise"]
    hidden = sum(shares[f"{level}_of_{part}"] * shares[part] for part in ("high", "low"))
    return hidden / max(shares["high"] + shares["low"], 1e-12)


RELEASED_CODE = (
    "**What the released code does.** Its emotion-guided masking is, in effect, random masking: it "
    "multiplies the energy thresholds by each row's maximum cumulatively over the batch, so that "
    "after a few rows no frame is loud enough and positions are filled in at random, and its "
    "spacing step overwrites most of those that were chosen. On 400 speech-like utterances 23 / 37 "
    "/ 41 % of the frames it hid lay in the high / low / noise zone, as 23 / 36 / 41 % of all "
    "frames did; by the paper's rule it is 32 / 44 / 24 %. It also caps coverage at 64 % of the "
    "frames. Whether that code made the paper's Table VI is unknown. If it did, the table compares "
    "two random maskers of different coverage."
)
