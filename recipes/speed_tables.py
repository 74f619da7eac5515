"""Tables of speed from ``results/benchmarks/*.json``, which ``make bench`` writes.

What a benchmark writes is its own; most hold lists of candidates beside a peer, which
``benchmarks/timing.py`` calls ratio rows and which are found wherever they stand.
"""

import json

COLUMNS = ("measured", "", "median", "ratio to the peer [min, max]", "")
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
LOADER = "batch of 4 x 5 s"
NO_GPU = "The GPU benchmark (`benchmarks/gpu.py`) has not been run: no GPU was at hand.\n"


def speed_table(what, results):
    """The table of benchmarks, and what it was measured on; empty without results.

    Arguments
    ---------
    what : str
        ``benchmarks`` for all, ``benchmarks/<name>`` for one, names joined by ``+`` for several.
    results : pathlib.Path
    """
    folder, _, names = what.partition("/")
    paths = sorted((results / folder).glob("*.json"))
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    names = names.split("+") if names else [*found, "gpu"]
    found = {name: found[name] for name in names if name in found}
    lines = [line for stem, result in found.items() for line in speed_lines(stem, result)]
    if not lines:
        return ""
    titles = ["", *(line[0] for line in lines)]
    for line, before in zip(lines, titles, strict=False):
        line[0] = "" if line[0] == before else line[0]  # once for the rows of one measurement
    text = HEAD + "".join(f"| {' | '.join(line)} |\n" for line in lines)
    machines = {
        machine_words(result["machine"]): None for result in found.values() if "machine" in result
    }
    text += "".join(f"\nMeasured on {words}.\n" for words in machines)
    return f"{text}\n{NO_GPU}" if "gpu" in names and "gpu" not in found else text


def speed_lines(stem, result):
    """Lines of one benchmark, of five cells each: its own, else all candidates beside a peer."""
    lines = SPEED_LINES.get(stem, ratio_lines)(stem, result)
    return [line + [""] * (len(COLUMNS) - len(line)) for line in lines]


def ratio_lines(title, result, unit=""):
    """What `benchmarks/timing.py` calls ratio rows, wherever they stand in a result."""
    if isinstance(result, list):
        lines = []
        for part in result:
            if isinstance(part, dict) and {"name", "seconds", "ratio"} <= part.keys():
                times = time_words(part["seconds"]["median"]), ratio_words(part["ratio"])
                lines.append([title, part["name"], *times, *quality(part)])
            elif isinstance(part, dict):
                named = f"{title}, batch {part['batch']}{unit}" if "batch" in part else title
                lines += ratio_lines(named, part, unit)
        return lines
    parts = result.items() if isinstance(result, dict) else ()
    plain = ("rows", "cases")  # names that tell a reader nothing
    return [
        line
        for name, part in parts
        for line in ratio_lines(title if name in plain else f"{title}, {name}", part, unit)
    ]


def quality(row):
    """What else a row tells: error of the states, rate of arithmetic."""
    words = []
    if row.get("error"):
        words.append(f"error {row['error']:.1e}")
    if "gflops" in row:
        words.append(f"{row['gflops']:.0f} GFLOP/s")
    if row.get("share_of_peak") and not row["name"].startswith("int8"):
        words[-1] += f", {100 * row['share_of_peak']:.0f} % of a matrix product's"
    return [", ".join(words)] if words else []


def encoder_lines(title, result):
    """Forward passes of one model in batches of several sizes."""
    names = {"mini": "mini encoder", "vesper4": "Vesper-4", "vesper12": "Vesper-12"}
    title = f"forward, {names.get(result['model'], result['model'])}"
    return ratio_lines(title, {"cases": result["cases"]}, f" x {result['seconds']:g} s")


def input_lines(title, result):
    """Crops, loaders beside the step that takes their batches, memory of workers, padding."""
    lines = ratio_lines("5 s out of a 60 s file", result["crops"])
    speeds = {row["name"]: row["batches_per_second"]["median"] for row in result["loader"]}
    steps = {name: speed for name, speed in speeds.items() if name.startswith("step: ")}
    for name, speed in speeds.items():
        if name in steps:
            lines.append([LOADER, f"training {name}", time_words(1 / speed), ""])
        else:
            ratios = (
                f"{speed / step:.0f} to a {label.removeprefix('step: ')} step"
                for label, step in steps.items()
            )
            lines.append([LOADER, name, time_words(1 / speed), ", ".join(ratios)])
    for row in result["memory"]:
        grown = row["uss_end"] - row["uss_start"]
        words = f"{row['rows']:,} rows in {row['kept_in']}: a worker copies {grown:.0f} MB"
        lines.append(["workers' memory", words, "", ""])
    bucketed, plain = (100 * result["padding"][name] for name in ("bucketed", "as_they_come"))
    words = f"{bucketed:.1f} % of a batch in buckets of like length, {plain:.0f} % as they come"
    return [*lines, ["padding in extraction", words, "", ""]]


def precision_lines(title, result):
    """What reduced precision costs a trained encoder: states, decisions, recall."""
    title = f"precision of {result['encoder']} on {result['corpus']}"
    lines = []
    for row in result["rows"]:
        words = (
            f"states off by {100 * row['error']:.2g} %, {100 * row['same_decision']:.1f} % same "
            f"decisions, UA {row['ua']:.1f} %, weights {row['weights_mb']:.1f} MB"
        )
        lines.append([title, row["precision"], time_words(row["seconds"]), "", words])
    lines[0][3:] = ["peer", f"UA {result['rows'][0]['ua']:.1f} %"]
    return lines


def ratio_words(ratio):
    """``2.10 [2.00, 2.30]``, and "peer" for the one all are compared with."""
    low, mid, high = (ratio[key] for key in ("min", "median", "max"))
    return "peer" if low == mid == high == 1 else f"{mid:.2f} [{low:.2f}, {high:.2f}]"


def time_words(seconds):
    """Seconds with a fitting unit: ``3.2 ms``, ``1.8 s``, ``2.5 h``."""
    for limit, factor, unit in ((1, 1000, "ms"), (600, 1, "s"), (36000, 1 / 60, "min")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds / 3600:.3g} h"


def pretrain_lines(title, result):
    """Steps beside the straightforward one; what a store of targets takes and is off by."""
    store = result["store"]
    lines = ratio_lines(f"pretraining step: {result['setting']}", result)
    for precision, hours in store["fill_hours_lssed"].items():
        epochs = store["break_even_epochs"].get(precision)
        paid = f"paid after {epochs:.1f} epochs" if epochs else ""
        words = f"filling it for LSSED, {precision} (extrapolated)"
        lines.append(["store", words, time_words(3600 * hours), paid])
    for dtype, gigabytes in store["lssed_gb"].items():
        parts = store["errors"][dtype]["8 outlier dimensions"].values()
        worst = max(part["rms"] for part in parts)
        words = f"{dtype}: {gigabytes:.0f} GB for LSSED, rms error {100 * worst:.2g} %"
        lines.append(["store", words, "", ""])
    return lines


def finetune_lines(title, result):
    """One pass and all heads, beside the encoder run every time."""
    encoder, total = result["encoder_pass_seconds"]["extrapolated"], result["total_seconds"]
    peer = total["encoder_every_time_extrapolated"]
    title, frames = f"fine-tuning: {result['setting']}", "heads on frames, 32 utterances"
    reading, step = (result["frames_seconds"][name]["median"] for name in ("reading", "step"))
    return [
        [title, "encoder on every use (computed)", time_words(peer), "peer"],
        [
            title,
            "encoder once and all heads",
            time_words(total["cached"]),
            f"{result['ratio']:.0f}",
        ],
        [title, "of it the encoder (from a sample)", time_words(encoder), ""],
        [
            title,
            "of it the heads (in full, a process a core)",
            time_words(result["heads_seconds"]),
            "",
        ],
        [frames, "ShiftFormer's training step", time_words(step), ""],
        [frames, "reading its batch from the disk", time_words(reading), f"{step / reading:.0f}"],
    ]


def growth_lines(title, result):
    """Time and memory over length, batch and rows; how far windows move pooled states."""
    lines = []
    for row in result["rows"]:
        kind, model = row["kind"], row.get("model", "")
        title, words = {
            "length": ("one recording, whole", f"{model}, {row.get('seconds', 0):g} s"),
            "batch": ("batch", f"{model}, {row.get('batch')} x {row.get('seconds', 0):g} s"),
            "windows": ("one recording, in windows", f"{model}, {row.get('seconds', 0):g} s"),
            "corpus": ("manifest read and checked", f"{row.get('rows', 0):,} rows"),
        }[kind]
        memory = f"{row['memory_mb']:.0f} MB" + " beyond the weights" * (kind != "corpus")
        lines.append([title, words, time_words(row["seconds_taken"]), "", memory])
    for model, found in result.get("windows_against_whole", {}).items():
        moved = ", ".join(f"{100 * d:.1f} % with {context} s" for context, d in found.items())
        words = f"{model}: context on both sides"
        lines.append(["pooled states of a minute, windows against whole", words, "", "", moved])
    return sorted(lines, key=lambda line: line[0])


def headers_lines(title, result):
    """Files a second."""
    title = "reading wav headers"
    ours, peer = (row["files_per_second"]["median"] for row in result["rows"])
    return [
        [title, "soundfile", f"{peer:,} files/s", "peer"],
        [title, "ours", f"{ours:,} files/s", f"{result['ratio']:.1f}"],
    ]


def machine_words(facts):
    """What a figure depends on, in words."""
    words = f"{facts['processor']}, {facts['threads']} of {facts['cores']} cores"
    card = f", {facts['accelerator']}" if "accelerator" in facts else ""
    return f"{words}{card}, {facts['capability']}, torch {facts['torch']}"


SPEED_LINES = {
    "complexity": lambda title, result: [],  # counts, not times
    "encoder_cpu": encoder_lines,
    "finetune": finetune_lines,
    "growth": growth_lines,
    "headers": headers_lines,
    "input": input_lines,
    "precision": precision_lines,
    "pretrain_step": pretrain_lines,
}
