"""The paper's Figure 5 for any recording: energy, zones, mask centres, spans of both levels.

    python recipes/paper/figure5.py --wav speech.wav --out figure5.png
    python recipes/paper/figure5.py --wav speech.wav --out random.png --strategy random --seed 7

Draws the masks that pretraining would draw for the file with this seed, in this epoch. Beside the
PNG it writes an SVG for web pages and a JSON with the numbers, both of the same name.
"""

import argparse
import glob
import json
import os
import shlex
import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))
import drawing

from vesper_lobes.audio import SAMPLE_RATE, crop_or_keep, read_audio
from vesper_lobes.lengths import FIELD, n_frames
from vesper_lobes.masker import (
    POSITIONS,
    STRATEGIES,
    EmotionGuidedMasker,
    mask_noise,
    mask_shares,
)

SCRIPT = "python recipes/paper/figure5.py"
TITLES = {
    "guided": "emotion-guided masks",
    "random": "random masks, as many positions",
    "random_matched": "random masks, as many frames as guided ones",
    "published_code": "masks of the released code",
}


def masked(wav, name, strategy="guided", positions="scaled", seed=1986, epoch=1):
    """The masks of one waveform.

    Arguments
    ---------
    wav : torch.Tensor (S,)
        16 kHz, at least 400 samples.
    name : str
        The utterance's ID, which keys the noise with seed and epoch.
    strategy, positions : str
        See :class:`vesper_lobes.masker.EmotionGuidedMasker`.
    seed, epoch : int

    Returns
    -------
    arrays : dict
        As `drawing.masks` takes them.
    shares : dict
        See :func:`vesper_lobes.masker.shares_of_counts`.
    """
    frames = n_frames(len(wav))
    masker = EmotionGuidedMasker(strategy, positions)
    noise = mask_noise(seed, epoch, [name], frames)
    drawn = masker(wav[None], torch.tensor([len(wav)]), noise)
    arrays = {field: getattr(drawn, field)[0].numpy() for field in drawn._fields}
    for field in ("phoneme_centres", "word_centres"):
        arrays[field] = [int(centre) for centre in arrays[field] if centre >= 0]
    return {"wav": wav.numpy(), **arrays}, mask_shares(drawn, torch.tensor([frames]))


def make(wav, out, strategy="guided", positions="scaled", seed=1986, epoch=1, seconds=5.0):
    """Draw the figure; writes ``out``, and the same name with .svg and .json.

    Arguments
    ---------
    wav, out : str or pathlib.Path
        ``wav`` may be a pattern that one file fits, such as ``DIR/03a01Wa.*``.
    strategy, positions : str
    seed, epoch : int
    seconds : float
        The file's start that is taken, as a training crop would be; 0 takes all of it.

    Returns
    -------
    dict
        What the JSON holds: file, command (with the file's name alone), seconds, frames, numbers
        of centres, shares.

    Raises
    ------
    ValueError
        The file cannot be read or is shorter than a frame, or ``out`` is no .png.
    """
    wav, out = one_file(wav), Path(out)
    if out.suffix != ".png":
        raise ValueError(f"--out {out}: give a name that ends in .png")
    samples = crop_or_keep(read_audio(wav), seconds or None)
    if len(samples) < FIELD:
        raise ValueError(f"{wav}: {1000 * len(samples) / SAMPLE_RATE:.1f} ms: no frame (25 ms)")
    arrays, shares = masked(samples, wav.stem, strategy, positions, seed, epoch)
    title = f"{wav.stem}: {TITLES[strategy]}, seed {seed}, epoch {epoch}"
    out.parent.mkdir(parents=True, exist_ok=True)
    drawing.write_png(drawing.masks(**arrays, palette=drawing.LIGHT, title=title), out)
    svg = drawing.svg_text(drawing.masks(**arrays, title=title), f"figure5-{strategy}")
    options = {"strategy": strategy, "positions": positions, "seed": seed, "epoch": epoch}
    options["seconds"] = seconds
    words = [f"--{name} {value}" for name, value in options.items()]
    place = shlex.quote(f"/path/to/{wav.name}")
    facts = {
        "file": wav.name,
        "command": f"{SCRIPT} --wav {place} --out {shlex.quote(out.name)} {' '.join(words)}",
        **options,
        "seconds": round(len(samples) / SAMPLE_RATE, 3),
        "frames": len(arrays["energy"]),
        "phoneme_centres": len(arrays["phoneme_centres"]),
        "word_centres": len(arrays["word_centres"]),
        "shares": {name: round(value, 4) for name, value in shares.items()},
    }
    write_beside(out, svg, facts)
    return facts


def one_file(pattern):
    """The file of that name, or the one that fits the pattern."""
    found = [pattern] if Path(pattern).is_file() else sorted(glob.glob(str(pattern)))
    if len(found) != 1:
        raise ValueError(f"{pattern}: {len(found) or 'no'} files fit; name one")
    return Path(found[0])


def write_beside(out, svg, facts):
    """The SVG and the JSON of a PNG, each in one step."""
    for suffix, text in ((".svg", svg), (".json", json.dumps(facts, indent=1) + "\n")):
        path = out.with_suffix(suffix)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)


def main(argv=None):
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wav", required=True, help="any recording that soundfile reads")
    parser.add_argument("--out", required=True, help="FILE.png")
    parser.add_argument("--strategy", choices=STRATEGIES, default="guided")
    parser.add_argument("--positions", choices=POSITIONS, default="scaled", help="paper: 20 and 4")
    parser.add_argument("--seed", type=int, default=1986)
    parser.add_argument("--epoch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0, help="from the start; 0: all of it")
    try:
        facts = make(**vars(parser.parse_args(argv)))
    except ValueError as error:
        print(f"figure5: error: {error}", file=sys.stderr)
        return 2
    shares = facts["shares"]
    print(f"{facts['file']}: {facts['seconds']} s, {facts['frames']} frames")
    for level in ("phoneme", "word"):
        parts = (f"{zone} {100 * shares[f'{level}_of_{zone}']:.0f} %" for zone in ZONES)
        centres = facts[f"{level}_centres"]
        print(f"{level}: {centres} centres hide {100 * shares[level]:.0f} % ({', '.join(parts)})")
    return 0


ZONES = ("high", "low", "noise")

if __name__ == "__main__":
    sys.exit(main())
