"""The published code's masker, for comparison only: what a model trained with that code saw.

Described in our own words and written anew from the behaviour of github.com/HappyColor/Vesper
(Apache-2.0). It departs from the paper, and in effect it masks at random:

- The zone bounds are multiplied by each row's loudest frame *cumulatively over the batch*, on the
  z-normed waveform, whose loudest frame is about 3. After three rows no frame reaches a bound, and
  the positions are filled at random. The masks therefore depend on the other rows of the batch.
- Candidates are shuffled, then "spaced" as if sorted: where one position lies less than a span
  plus a frame behind the one before it, it is overwritten, mostly until the row's end is reached.
- Positions are the first frames of spans, the low zone ends at 0.49, and a row's last ``span``
  frames are no candidates.
- At most 0.64 of the real frames: 19 and 3 spans at 5 s, never 20 and 4. Where that leaves none,
  one start is drawn and everything behind it is masked (the word level below 63 frames).

One thing is not as published: rows of 8 frames or fewer, which crash there, get no mask here.
"""

import torch
import torch.nn.functional as F

from vesper_lobes.lengths import FIELD, HOP, n_frames

BOUNDS = (0.5, 1.0, 0.2, 0.49)  # high from, to; low from, to


def published_masks(wavs, lengths, uniforms, numbers=(20, 4), spans=(8, 40), share_cap=0.64):
    """Masks as the published code draws them, with a Python loop over rows as there.

    Arguments
    ---------
    wavs : torch.Tensor (B, S)
        Raw waveforms, zero-padded; z-normed here over the padded row, as there.
    lengths : torch.LongTensor (B,)
        Real frames.
    uniforms : sequence of four tensors (B, T)
        Independent random numbers: they order the candidates, the frames that fill up the phoneme
        level, the word starts, and the frames that fill up the word level.
    numbers, spans : tuple of int
        Positions and frames per span of the phoneme and the word level.
    share_cap : float

    Returns
    -------
    tuple
        Masks of both levels, bool (B, T), and their starts, LongTensors (B, P) and (B, W),
        ascending, then -1.
    """
    batch, num_frames = len(wavs), n_frames(wavs.shape[1])
    masks = [torch.zeros(batch, num_frames, dtype=torch.bool) for _ in spans]
    starts = [torch.full((batch, number), -1, dtype=torch.long) for number in numbers]
    energy = _frame_rms(wavs, num_frames)
    orders = [uniform.argsort(dim=1, stable=True).cpu() for uniform in uniforms]
    bounds = torch.tensor(BOUNDS, dtype=torch.float64)
    for row, frames in enumerate(lengths.tolist()):
        last = frames - spans[0]
        if last < 1:
            continue
        bounds = bounds * energy[row, :last].max()  # cumulative: the first fault
        candidates, fill, shuffle, word_fill = (order[row] for order in orders)
        allowed = [
            min(number, int(frames * share_cap / span))
            for number, span in zip(numbers, spans, strict=True)
        ]
        phoneme = _phoneme_starts(
            energy[row, :last], bounds, candidates, fill, allowed[0], spans[0] + 1
        )
        word = _word_starts(
            phoneme, frames - spans[1], shuffle, word_fill, allowed[1], spans[1] + 1
        )
        for level, chosen in enumerate((phoneme, word)):
            _write(
                masks[level][row], starts[level][row], chosen, allowed[level], spans[level], frames
            )
    return tuple(tensor.to(wavs.device) for tensor in (*masks, *starts))


def _frame_rms(wavs, num_frames):
    if num_frames == 0 or len(wavs) == 0:
        return torch.zeros(len(wavs), num_frames, dtype=torch.float64)
    normed = F.layer_norm(wavs.cpu().double(), wavs.shape[1:])
    return F.avg_pool1d(normed.square().unsqueeze(1), FIELD, HOP).squeeze(1).sqrt()


def _phoneme_starts(energy, bounds, candidates, fill, number, space):
    """Starts of the phoneme spans of one row; a single random one where the cap allows none."""
    last = len(energy)
    candidates, fill = candidates[candidates < last], fill[fill < last]
    values = energy[candidates]
    high = candidates[(values >= bounds[0]) & (values <= bounds[1])][: number // 2]
    low = candidates[(values >= bounds[2]) & (values <= bounds[3])][: number - len(high)]
    chosen = _space_out(high.tolist(), space, last) + _space_out(low.tolist(), space, last)
    if len(chosen) < number:
        chosen = (chosen + fill.tolist())[:number]
    return chosen if number and chosen else fill[:1].tolist()


def _word_starts(phoneme, last, shuffle, fill, number, space):
    """Starts of the word spans of one row, spaced phoneme starts filled up at random."""
    chosen = _space_out(sorted(start for start in phoneme if start < last), space, last)
    if len(chosen) < number:
        chosen = (chosen + fill[fill < last].tolist())[:number]
    else:
        place = shuffle.argsort()
        chosen = sorted(chosen, key=lambda start: int(place[start]))[:number]
    return chosen if number and chosen else phoneme[:1]


def _space_out(starts, space, last):
    """Push each start behind the one before it; what is pushed over the end is dropped."""
    for i in range(len(starts) - 1):
        starts[i + 1] = max(starts[i + 1], starts[i] + space)
        if starts[i + 1] > last:
            return starts[: i + 1]
    return starts


def _write(mask, listed, chosen, number, span, frames):
    """Fill one row's mask (T,) and list of starts; to the row's end where the cap allows none."""
    for start in chosen:
        mask[start : min(start + span, frames) if number else frames] = True
    chosen = torch.tensor(sorted(chosen), dtype=torch.long)[: len(listed)]
    listed[: len(chosen)] = chosen
