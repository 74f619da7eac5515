#!/usr/bin/env python3
"""Parameters and operations of the encoders, as in Table II: exact counts, nothing is computed.

    python benchmarks/complexity.py [--json OUT]

Each encoder of `vesper_lobes` is built without memory (on the meta device) and PyTorch's operation
counter follows one utterance of 6.5, 4.5 or 3.0 s (IEMOCAP, MELD, CREMA-D) through it. A
multiply-accumulate (MAC) is one operation here, as in the paper.

paper   convolutions and linear layers, WavLM's gates among them, without the two matrix products of
        attention, which tools that look at layers do not see: Table II, to its last digit
true    with those two products
"""

import argparse

import torch
from timing import write_json
from torch.utils.flop_counter import FlopCounterMode

from vesper_lobes.config import EncoderConfig
from vesper_lobes.encoder import Encoder

SECONDS = (6.5, 4.5, 3.0)  # crops of IEMOCAP, MELD and CREMA-D
MODELS = {
    "Vesper-4": EncoderConfig.wavlm_large(num_hidden_layers=4),
    "Vesper-12": EncoderConfig.wavlm_large(num_hidden_layers=12),
    "WavLM Base": EncoderConfig.wavlm_base(),
    "WavLM Large": EncoderConfig.wavlm_large(),
}
TABLE_II = {  # millions of parameters; G at 6.5, 4.5, 3.0 s
    "Vesper-4": ("63.52", ("35.16", "24.33", "16.20")),
    "Vesper-12": ("164.29", ("67.80", "46.89", "31.21")),
    "WavLM Base": ("94.70", ("45.15", "31.23", "20.79")),
    "WavLM Large": ("316.62", ("116.75", "80.74", "53.72")),
}
ATTENTION = ("bmm", "baddbmm", "_scaled_dot_product")  # products of two activations
NOTE = """\
Parameters are those that take part in a forward pass, mask embedding included. Vesper's 63.52 M and
164.29 M are these counts; the final LayerNorm that a Large checkpoint also holds (2,048
parameters) is unused and not in them.
Known about 94.70 M and 316.62 M: they are the figures that WavLM's own paper prints for its models
(arXiv 2110.13900, section IV-A); Table II repeats them. Loadable models, Microsoft's files and
transformers alike, have 94,381,936 and 315,453,120 (final LayerNorm included): 0.32 M and 1.17 M
fewer.
Not known: what those 0.32 M and 1.17 M are. Parts that only pretraining needs are the natural
guess; HuBERT's (a projection to 256 or 768 dimensions and the embeddings of 500 classes) would make
316.62 M of Large, but 94.71 M of Base.
Operations are printed with three digits because Table II seems to be rounded from three to two:
Large at 4.5 s counts 80.7349 G, and its 80.74 is 80.735 rounded once more. All else agrees either
way."""


def count(config):
    """Rows of one encoder, a row for each length.

    Arguments
    ---------
    config : EncoderConfig

    Returns
    -------
    int, list of tuple
        Parameters; (seconds, MACs without attention's products, MACs with them).
    """
    with torch.device("meta"):
        encoder = Encoder(config).eval()
    rows = []
    for seconds in SECONDS:
        wavs = torch.empty(1, round(seconds * 16000), device="meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder(wavs)
        flops = {str(name): n for name, n in counter.get_flop_counts()["Global"].items()}
        attention = sum(n for name, n in flops.items() if any(word in name for word in ATTENTION))
        total = sum(flops.values())
        rows.append((seconds, (total - attention) // 2, total // 2))  # a MAC is two operations
    return encoder.num_parameters(), rows


def complexity():
    """All rows: model, params, seconds, macs_paper, macs_true."""
    rows = []
    for model, config in MODELS.items():
        parameters, lengths = count(config)
        for seconds, paper, true in lengths:
            row = {"model": model, "params": parameters, "seconds": seconds}
            rows.append({**row, "macs_paper": paper, "macs_true": true})
    return rows


def table(rows):
    """Lines of text: ours beside Table II."""
    head = ("model", "params", "Table II", "s", "G, paper", "Table II", "G, true")
    widths = (11, 11, 8, 3, 8, 8, 8)
    lines = [head]
    for row in rows:
        millions, printed = TABLE_II[row["model"]]
        paper, true = (f"{row[name] / 1e9:.3f}" for name in ("macs_paper", "macs_true"))
        theirs = printed[SECONDS.index(row["seconds"])]
        params = f"{row['params']:,}"
        lines.append((row["model"], params, millions, str(row["seconds"]), paper, theirs, true))
    cells = (
        [line[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
        for line in lines
    )
    return "\n".join("  ".join(line) for line in cells)


def main(arguments=None):
    """Count, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", default=None, help="also write the rows and notes here")
    options = parser.parse_args(arguments)
    rows = complexity()
    print(table(rows), NOTE, sep="\n\n")
    if options.json:
        printed = {
            model: {"params_millions": float(params), "macs_g": [float(n) for n in macs]}
            for model, (params, macs) in TABLE_II.items()
        }
        result = {"rows": rows, "table_ii": printed, "note": NOTE.replace("\n", " ")}
        write_json(options.json, result)


if __name__ == "__main__":
    main()
