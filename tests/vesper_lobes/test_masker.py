"""The masker against an independent row-by-row reading of the rule, on invented and real speech."""

import numpy as np
import pytest
import soundfile
import torch
from no_waiting import NoWaiting

from vesper_lobes.lengths import frame_mask, n_frames
from vesper_lobes.masker import (
    STRATEGIES,
    EmotionGuidedMasker,
    frame_energy,
    mask_counts,
    mask_noise,
    mask_shares,
    shares_of_counts,
)

BATCHED = [strategy for strategy in STRATEGIES if strategy != "published_code"]
OPTIONS = [
    {},
    {"positions": "scaled"},
    {"share_cap": 0.64},
    {"positions": "scaled", "share_cap": 0.3, "phoneme_span": 5, "word_span": 13},
]


def invented_speech(lengths, seed=0):
    """Noise under a syllable-like envelope with pauses, padded with junk that must not count."""
    generator = torch.Generator().manual_seed(seed)
    wavs = torch.full((len(lengths), max(*lengths, 400)), 1e4)
    for row, length in enumerate(lengths):
        knots = torch.rand(1, 1, 2 + length // 2400, generator=generator) ** 3
        envelope = torch.nn.functional.interpolate(knots, length, mode="linear")[0, 0]
        wavs[row, :length] = 0.1 * envelope * torch.randn(length, generator=generator)
    return wavs, torch.tensor(lengths)


def drawn(masker, wavs, lengths, ids=None, epoch=1):
    ids = [str(i) for i in range(len(wavs))] if ids is None else ids
    return masker(wavs, lengths, mask_noise(7, epoch, ids, n_frames(wavs.shape[1])))


def speech_batch(test_data, corpus, step):
    files = sorted((test_data / corpus).rglob("*.flac"))[::step]
    clips = [torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for file in files]
    wavs = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    return wavs, torch.tensor([len(clip) for clip in clips])


def zone_shares_at(masks, centres):
    zones = masks.zones.gather(1, centres.clamp(min=0))[centres >= 0]
    return [(zones == zone).float().mean().item() for zone in (2, 1, 0)]


def reference_centres(wav, frames, noise, number):
    """The paper's rule for one row in plain Python; returns energies and sorted centres."""
    wav = wav.double().numpy()
    rms = [np.sqrt(np.mean(wav[320 * t : 320 * t + 400] ** 2)) for t in range(frames)]
    energy = np.float32(np.array(rms) / (max(rms) or 1.0))
    by_noise = sorted(range(frames), key=lambda t: noise[t])
    high = [t for t in by_noise if energy[t] > 0.5]
    low = [t for t in by_noise if 0.2 < energy[t] <= 0.5]
    number = min(number, frames)
    chosen = high[: (number + 1) // 2] + low[: number // 2]
    rest = [t for t in high + low if t not in chosen]
    rest += [t for t in by_noise if energy[t] <= 0.2]
    return energy, sorted(chosen + rest[: number - len(chosen)])


@pytest.mark.parametrize("positions", ["paper", "scaled"])
def test_equals_the_rule_row_by_row(positions):
    lengths = [80000, 79999, 38230, 8000, 1040, 720, 400, 399, 64321]
    wavs, sample_lengths = invented_speech(lengths)
    wavs[4, :1040] = 0.0  # silent
    noise = mask_noise(3, 5, [str(i) for i in range(len(lengths))], 249)
    masks = EmotionGuidedMasker(positions=positions)(wavs, sample_lengths, noise)
    for row, length in enumerate(lengths):
        frames = n_frames(length)
        number = 20 if positions == "paper" else max(1, round(20 * frames / 249))
        word_number = 4 if positions == "paper" else max(1, round(4 * frames / 249))
        if frames == 0:
            assert not masks.phoneme[row].any() and not masks.word[row].any()
            continue
        energy, centres = reference_centres(wavs[row], frames, noise[row].tolist(), number)
        np.testing.assert_allclose(masks.energy[row, :frames], energy, atol=1e-6)
        assert masks.phoneme_centres[row][masks.phoneme_centres[row] >= 0].tolist() == centres
        words = masks.word_centres[row][masks.word_centres[row] >= 0].tolist()
        assert len(words) == min(word_number, len(centres)) and set(words) <= set(centres)
        phoneme, word = np.zeros(249, bool), np.zeros(249, bool)
        for centre in centres:
            phoneme[max(0, centre - 4) : min(frames, centre + 4)] = True
        for centre in words:
            word[max(0, centre - 20) : min(frames, centre + 20)] = True
        assert (masks.phoneme[row].numpy() == phoneme).all()
        assert (masks.word[row].numpy() == word).all()


def test_zone_bounds_belong_to_the_quieter_zone():
    """High is (0.5, 1], low (0.2, 0.5], noise [0, 0.2]; the maximum is over real frames."""
    levels = torch.tensor([1.0, 0.5, 0.51, 0.2, 0.21, 0.0, 9.0])
    # frames of one level each: 400 samples, then 240 of silence no window sees alone
    wavs = torch.zeros(1, 7 * 640 - 240)
    for i, level in enumerate(levels):
        wavs[0, 640 * i : 640 * i + 400] = level
    masks = drawn(EmotionGuidedMasker(), wavs, torch.tensor([6 * 640 - 240]))
    assert masks.zones[0, ::2].tolist() == [2, 1, 2, 0, 1, 0, -1]
    assert masks.energy[0, 0] == 1.0 and masks.energy[0, 12] == 0.0


@pytest.mark.parametrize("strategy", BATCHED)
@pytest.mark.parametrize("options", OPTIONS)
def test_a_row_depends_on_itself_alone(strategy, options):
    """Alone == in a padded batch, shuffled rows give permuted masks, the same draw twice."""
    lengths = [80000, 41234, 16000, 2000, 720, 400, 60001, 38230]
    wavs, sample_lengths = invented_speech(lengths)
    ids = [f"utterance {i}" for i in range(len(lengths))]
    masker = EmotionGuidedMasker(strategy, **options)
    masks = drawn(masker, wavs, sample_lengths, ids)
    again = drawn(masker, wavs, sample_lengths, ids)
    assert all(a.equal(b) for a, b in zip(masks, again, strict=True))
    order = torch.tensor([3, 1, 7, 5, 0, 2, 4, 6])
    shuffled = drawn(masker, wavs[order], sample_lengths[order], [ids[i] for i in order])
    assert all(a[order].equal(b) for a, b in zip(masks, shuffled, strict=True))
    for row, length in enumerate(lengths):
        alone = drawn(
            masker, wavs[row : row + 1, :length], sample_lengths[row : row + 1], [ids[row]]
        )
        frames = n_frames(length)
        for name in ("phoneme", "word", "energy", "zones"):
            assert getattr(masks, name)[row, :frames].equal(getattr(alone, name)[0]), name
        for name in ("phoneme_centres", "word_centres"):
            both = [getattr(m, name)[i] for m, i in ((masks, row), (alone, 0))]
            assert both[0][both[0] >= 0].equal(both[1][both[1] >= 0]), name


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("options", OPTIONS)
def test_hostile_input_gives_defined_masks(strategy, options):
    """Random draws of awkward rows: no exception, no NaN, padding untouched, the cap kept."""
    generator = np.random.default_rng(11)
    masker = EmotionGuidedMasker(strategy, **options)
    for trial in range(12):
        widest = int(generator.choice([100, 400, 719, 720, 5000, 20000, 80000]))
        lengths = torch.from_numpy(generator.integers(0, widest + 1, size=6))
        lengths[0] = widest
        wavs = torch.from_numpy(generator.standard_normal((6, widest)).astype(np.float32))
        wavs[1] = 0.0
        wavs[2] = 1.0
        wavs[3, ::7] = float("nan")
        wavs[4] *= float(generator.choice([1e-42, 1e-30, 1e30, 3e37]))
        wavs[5, : widest // 2] = float("inf")
        noise = mask_noise(1, trial, list("abcdef"), n_frames(widest))
        if trial % 4 == 3:
            noise = torch.zeros_like(noise)
        masks = masker(wavs, lengths, noise)
        real = frame_mask(n_frames(lengths), n_frames(widest))
        assert not (masks.phoneme & ~real).any() and not (masks.word & ~real).any()
        assert ((masks.energy >= 0) & (masks.energy <= 1)).all()
        assert (masks.zones[~real] == -1).all() and (masks.zones[real] >= 0).all()
        if strategy != "published_code":
            if masker.share_cap:
                frames = real.sum(1)
                assert (masks.phoneme.sum(1) <= masker.share_cap * frames + 1e-6).all()
                assert (masks.word.sum(1) <= masker.share_cap * frames + 1e-6).all()
            else:
                assert masks.phoneme.any(1).equal(real.any(1))
                assert masks.word.any(1).equal(real.any(1))
        assert all(np.isfinite(v) for v in mask_shares(masks, n_frames(lengths)).values())


def test_level_of_recording_does_not_matter():
    wavs, lengths = invented_speech([80000, 50000])
    masks = drawn(EmotionGuidedMasker(), wavs, lengths)
    for gain in (2.0**-100, 2.0**-20, 2.0**15, 2.0**100):
        assert drawn(EmotionGuidedMasker(), wavs * gain, lengths).phoneme.equal(masks.phoneme)


def test_matched_random_masks_as_many_frames_as_guided():
    """Frame for frame the same number at both levels, while plain random masks more."""
    lengths = [80000, 38230, 20000, 5000, 720, 400] * 8
    wavs, sample_lengths = invented_speech(lengths)
    for positions in ("paper", "scaled"):
        guided, matched, plain = (
            drawn(EmotionGuidedMasker(strategy, positions), wavs, sample_lengths)
            for strategy in ("guided", "random_matched", "random")
        )
        assert matched.phoneme.sum(1).equal(guided.phoneme.sum(1))
        assert matched.word.sum(1).equal(guided.word.sum(1))
        assert plain.phoneme.sum() > guided.phoneme.sum()


def test_matched_random_spans_are_whole_but_for_the_last():
    wavs, lengths = invented_speech([80000] * 16)
    masks = drawn(EmotionGuidedMasker("random_matched"), wavs, lengths)
    frames = torch.arange(249)
    for row in range(16):
        centres = [c for c in masks.phoneme_centres[row].tolist() if c >= 0]
        words = [c for c in masks.word_centres[row].tolist() if c >= 0]
        assert set(words) <= set(centres)
        for mask, used, span in ((masks.phoneme, centres, 8), (masks.word, words, 40)):
            inside = [(frames >= c - span // 2) & (frames < c + span // 2) for c in used]
            whole = [bool(mask[row][covered].all()) for covered in inside]
            assert sum(not complete for complete in whole) <= 1
            assert not mask[row][~torch.stack(inside).any(0)].any()


def test_matched_random_centres_owe_nothing_to_the_guided_ones():
    """They fall on guided centres by chance only, though both come from the same noise."""
    wavs, lengths = torch.ones(1, 80000).expand(100, -1), torch.full((100,), 80000)
    guided, matched = (
        drawn(EmotionGuidedMasker(s), wavs, lengths) for s in ("guided", "random_matched")
    )
    listed = matched.phoneme_centres[matched.phoneme_centres >= 0]
    both = matched.phoneme_centres.unsqueeze(-1) == guided.phoneme_centres.unsqueeze(1)
    assert both.sum() / len(listed) == pytest.approx(20 / 249, abs=0.025)


def test_random_positions_ignore_energy():
    """Over many draws every real frame is as often a centre as any other."""
    wavs, _ = invented_speech([32000])
    wavs, lengths = wavs.expand(400, -1), torch.full((400,), 32000)
    for strategy in ("random", "random_matched"):
        masks = drawn(EmotionGuidedMasker(strategy), wavs, lengths)
        real = mask_shares(masks, n_frames(lengths))
        share = zone_shares_at(masks, masks.phoneme_centres)
        assert share == pytest.approx([real["high"], real["low"], real["noise"]], abs=0.02)


def test_word_centres_owe_nothing_to_the_phoneme_ranking():
    """Each of the 20, ranked by the noise that chose them, is a word centre one time in five."""
    rows, frames, samples = 2000, 40, 12880
    wavs = torch.ones(1, samples).expand(rows, -1)  # one zone: all frames high
    noise = mask_noise(5, 1, [str(i) for i in range(rows)], frames)
    masks = EmotionGuidedMasker()(wavs, torch.full((rows,), samples), noise)
    ranked = noise.argsort(1)[:, :20]
    assert ranked.sort(1).values.equal(masks.phoneme_centres)
    is_word = (ranked.unsqueeze(-1) == masks.word_centres.unsqueeze(1)).any(-1).float()
    assert is_word.sum(1).eq(4).all()
    # standard error of each of the 20 shares: sqrt(.2 * .8 / 2000) = .009
    assert (is_word.mean(0) - 0.2).abs().max() < 4 * 0.009
    in_time = (masks.phoneme_centres.unsqueeze(-1) == masks.word_centres.unsqueeze(1)).any(-1)
    assert (in_time.float().mean(0) - 0.2).abs().max() < 4 * 0.009


def test_noise_is_keyed_and_uniform():
    noise = mask_noise(1, 2, ["a", "b"], 249)
    assert noise.dtype == torch.float32 and noise.shape == (2, 249)
    assert mask_noise(1, 2, ["b"], 5000)[0, :249].equal(noise[1])
    assert mask_noise(1, 2, ["a"], 5)[0].equal(noise[0, :5])
    for other in (mask_noise(2, 2, ["a"], 249), mask_noise(1, 3, ["a"], 249), noise[1:]):
        assert not other[0].equal(noise[0])
    # the same on every machine and version, so that a run can be repeated
    assert mask_noise(1986, 1, ["utt"], 2)[0].tolist() == pytest.approx(
        [0.09236598, 0.86627501], abs=1e-7
    )
    many = mask_noise(1, 1, ["long"], 200_000)[0]
    assert 0 <= many.min() and many.max() < 1
    counts = torch.histc(many, 50, 0, 1)
    assert ((counts - 4000).abs() < 5 * 4000**0.5).all()
    assert mask_noise(1, 1, [], 7).shape == (0, 7) and mask_noise(1, 1, ["a"], 0).shape == (1, 0)


@pytest.mark.parametrize("strategy", BATCHED)
def test_nothing_waits_for_the_device(strategy):
    wavs, lengths = invented_speech([20000, 8000])
    noise = mask_noise(1, 1, ["a", "b"], n_frames(20000))
    with NoWaiting():
        masks = EmotionGuidedMasker(strategy, "scaled", share_cap=0.64)(wavs, lengths, noise)
        counts = mask_counts(masks, n_frames(lengths))
        with pytest.raises(AssertionError, match="waits"):
            counts.sum().item()  # the detector detects


def test_share_cap_of_the_published_code_gives_19_and_3():
    wavs, lengths = invented_speech([80000])
    masks = drawn(EmotionGuidedMasker(share_cap=0.64), wavs, lengths)
    assert (masks.phoneme_centres >= 0).sum() == 19 and (masks.word_centres >= 0).sum() == 3


def test_shares_count_real_frames_only():
    wavs, lengths = invented_speech([80000, 16000])
    masks = drawn(EmotionGuidedMasker(), wavs, lengths)
    frames = n_frames(lengths)
    shares = mask_shares(masks, frames)
    real = int(frames.sum())
    high = masks.zones == 2
    assert shares["high"] == pytest.approx(int(high.sum()) / real)
    assert shares["word"] == pytest.approx(int(masks.word.sum()) / real)
    masked_high = int((masks.phoneme & high).sum())
    assert shares["phoneme_of_high"] == pytest.approx(masked_high / int(high.sum()))
    assert shares["phoneme_in_high"] == pytest.approx(masked_high / int(masks.phoneme.sum()))
    doubled = shares_of_counts(mask_counts(masks, frames) * 2)
    assert doubled == pytest.approx(shares)


def test_energy_of_half_precision_waveforms():
    energy = frame_energy(torch.randn(3, 5000).bfloat16(), torch.tensor([15, 3, 0]))
    assert energy.dtype == torch.float32 and energy.shape == (3, 15)
    assert energy.amax(1).tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"strategy": "emotional"},
        {"positions": "relative"},
        {"word_positions": 21},
        {"word_positions": 0},
        {"phoneme_span": 0},
        {"share_cap": 0.0},
        {"share_cap": 1.5},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError):
        EmotionGuidedMasker(**wrong)


def test_wrong_noise_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 249\)"):
        EmotionGuidedMasker()(torch.zeros(1, 80000), torch.tensor([80000]), torch.zeros(1, 250))


@pytest.mark.parametrize("corpus, step", [("emodb4", 4), ("ravdess", 8)])
def test_zones_on_real_speech(test_data, corpus, step):
    """Centres .5/.5/0, masked frames far more often high than the base rate; random does not."""
    wavs, lengths = speech_batch(test_data, corpus, step)
    frames = n_frames(lengths)
    masks = drawn(EmotionGuidedMasker(positions="scaled"), wavs, lengths)
    shares = mask_shares(masks, frames)
    for centres in (masks.phoneme_centres, masks.word_centres):
        assert zone_shares_at(masks, centres) == pytest.approx([0.5, 0.5, 0.0], abs=0.05)
    assert shares["phoneme_in_high"] > 1.5 * shares["high"]
    assert shares["phoneme_in_low"] > 1.25 * shares["low"]
    assert shares["phoneme_in_noise"] < 0.7 * shares["noise"]
    for strategy in ("random", "random_matched"):
        other = drawn(EmotionGuidedMasker(strategy, "scaled"), wavs, lengths)
        random = mask_shares(other, frames)
        assert random["phoneme_in_high"] == pytest.approx(shares["high"], abs=0.035)
        gap = shares["phoneme"] - random["phoneme"]
        assert gap == 0 if strategy == "random_matched" else gap < -0.04


def test_five_seconds_of_real_speech(test_data):
    """Crops of 5 s, the paper's case: 20 and 4 spans, about .4 masked where random masks .49."""
    wavs, lengths = speech_batch(test_data, "emodb4", 4)
    speech = torch.cat([wav[:length] for wav, length in zip(wavs, lengths, strict=True)])
    wavs = speech[: len(speech) // 80000 * 80000].view(-1, 80000)
    lengths = torch.full((len(wavs),), 80000)
    masks = drawn(EmotionGuidedMasker(), wavs, lengths)
    assert (masks.phoneme_centres >= 0).all() and (masks.word_centres >= 0).all()
    assert zone_shares_at(masks, masks.phoneme_centres) == pytest.approx([0.5, 0.5, 0], abs=0.03)
    shares = mask_shares(masks, n_frames(lengths))
    assert 0.35 < shares["phoneme"] < 0.45 and 0.38 < shares["word"] < 0.52
    random = mask_shares(drawn(EmotionGuidedMasker("random"), wavs, lengths), n_frames(lengths))
    assert 0.46 < random["phoneme"] < 0.52
