"""The synthetic corpus: the same bytes for a seed, and the cited cues measured on its sound."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("espeakng_loader", reason="the corpus is made by espeakng-loader")
sys.path.insert(0, str(Path(__file__).parents[3] / "recipes" / "quickstart"))

import prosody
import shaping
import synthesize
from espeak import Espeak, find_loader

from data_prep.manifest import read_manifest

SPEAKERS, SENTENCES = 8, 2


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A small corpus: its folder and its manifest."""
    folder = tmp_path_factory.mktemp("corpus")
    synthesize.main(
        ["--save_folder", str(folder), "--speakers", str(SPEAKERS), "--sentences", str(SENTENCES)]
    )
    return folder, read_manifest(folder / "manifest.csv", data_root=folder)


def wave_files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.glob("spk*/*/*.wav")}


def median_pitch(samples):
    """Median pitch of the voiced frames in semitones above 100 Hz, by autocorrelation."""
    pitches, floor = [], 0.3 * 10 ** (shaping.speech_level(samples) / 20)
    for start in range(0, len(samples) - 640, 320):
        frame = samples[start : start + 640] - samples[start : start + 640].mean()
        power = np.abs(np.fft.rfft(frame, 2048)) ** 2
        correlation = np.fft.irfft(power)[:247]
        lag = 36 + correlation[36:].argmax()  # 65 to 444 Hz
        if frame.std() > floor and correlation[lag] > 0.6 * correlation[0]:
            pitches.append(12 * np.log2(16000 / lag / 100))
    return np.median(pitches)


@pytest.fixture(scope="module")
def measured(corpus):
    """{measure: (speakers x sentences, emotions)} on the generated audio."""
    folder, _ = corpus
    values = {"seconds": [], "pitch": [], "level": [], "dynamics": []}
    for index in range(SPEAKERS):
        for _, _, path in synthesize.utterances(f"spk{index + 1:02d}", SENTENCES):
            samples, _ = soundfile.read(str(folder / path))
            level = shaping.envelope(samples)
            values["seconds"].append(len(samples) / 16000)
            values["pitch"].append(median_pitch(samples))
            values["level"].append(shaping.speech_level(samples))
            values["dynamics"].append(level[level > level.max() - shaping.SPEECH_FLOOR].std())
    return {key: np.reshape(value, (-1, len(prosody.EMOTIONS))) for key, value in values.items()}


def test_manifest_lists_every_utterance_once(corpus):
    folder, manifest = corpus
    assert len(manifest) == SPEAKERS * SENTENCES * 4 == len(wave_files(folder))
    assert manifest.ID.is_unique
    assert sorted(set(manifest.emotion)) == ["angry", "happy", "neutral", "sad"]
    assert (manifest.groupby(["speaker", "emotion"]).size() == SENTENCES).all()
    assert all(Path(path).is_file() for path in manifest.wav)
    assert str(folder) not in (folder / "manifest.csv").read_text()
    assert 1.0 < manifest.duration.astype(float).mean() < 3.0


def test_audio_is_16_khz_mono_16_bit_neither_clipped_nor_silent(corpus):
    folder, _ = corpus
    for path in wave_files(folder):
        info = soundfile.info(str(folder / path))
        samples, _ = soundfile.read(str(folder / path), dtype="int16")
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert np.abs(samples.astype(int)).max() < 32000
        assert shaping.speech_level(samples / 32768) > -50


def test_same_seed_same_bytes_with_fewer_speakers_and_sentences(corpus, tmp_path):
    folder, _ = corpus
    synthesize.synthesize(tmp_path, speakers=2, sentences=1)
    again = wave_files(tmp_path)
    assert len(again) == 8
    assert all((folder / path).read_bytes() == content for path, content in again.items())


def test_interrupted_run_goes_on_and_remakes_only_what_is_missing(tmp_path):
    synthesize.synthesize(tmp_path, speakers=1, sentences=1)
    before = wave_files(tmp_path)
    kept, gone, cut = (tmp_path / path for path in sorted(before)[:3])
    stamp = kept.stat().st_mtime_ns
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:1000])
    synthesize.synthesize(tmp_path, speakers=1, sentences=1)
    assert wave_files(tmp_path) == before
    assert kept.stat().st_mtime_ns == stamp
    assert not list(tmp_path.rglob("*.part"))


def test_another_seed_is_another_corpus_and_not_mixed_into_this_one(corpus):
    folder, _ = corpus
    first, second = (synthesize.draw_speaker(seed, 0) for seed in (0, 1))
    assert first.voice == second.voice and first.offsets != second.offsets
    with pytest.raises(ValueError, match="another --save_folder"):
        synthesize.synthesize(folder, speakers=1, sentences=1, seed=1)


def test_rate_pitch_level_and_dynamics_are_ordered_as_cited(measured):
    mean = {key: dict(zip(prosody.EMOTIONS, v.mean(0), strict=True)) for key, v in measured.items()}
    assert mean["seconds"]["angry"] < mean["seconds"]["neutral"] < mean["seconds"]["sad"]
    assert mean["seconds"]["happy"] < mean["seconds"]["neutral"]
    assert mean["pitch"]["sad"] < mean["pitch"]["neutral"] < mean["pitch"]["angry"]
    assert mean["pitch"]["neutral"] < mean["pitch"]["happy"]
    assert mean["level"]["sad"] < mean["level"]["neutral"] < mean["level"]["angry"]
    assert mean["dynamics"]["sad"] < mean["dynamics"]["neutral"] < mean["dynamics"]["angry"]


def test_classes_overlap(measured):
    """No single measure separates two emotions, even within a speaker and a sentence."""
    for name, values in measured.items():
        relative = values - values.mean(1, keepdims=True)
        order = np.argsort(relative.mean(0))
        for low, high in zip(order[:-1], order[1:], strict=True):
            assert relative[:, low].max() > relative[:, high].min(), (name, low, high)


def test_full_strength_has_the_table_s_size():
    """Anger's 1.27 rate and joy's +7 semitones come out of the synthesiser, without scatter."""
    espeak, speaker = Espeak(), synthesize.draw_speaker(0, 1)
    made = {}
    for emotion in ("neutral", "angry", "happy"):
        generator = np.random.default_rng(0)
        made[emotion] = synthesize.say(espeak, speaker, 0, prosody.CUES[emotion], generator)
    assert len(made["neutral"]) / len(made["angry"]) == pytest.approx(1.27, abs=0.12)
    assert median_pitch(made["happy"]) - median_pitch(made["neutral"]) == pytest.approx(7, abs=2)


def test_speakers_differ():
    speakers = [synthesize.draw_speaker(0, index) for index in range(24)]
    assert len({speaker.voice.split("+")[1] for speaker in speakers}) == 24
    assert len({speaker.voice.split("+")[0] for speaker in speakers}) == len(prosody.ACCENTS)
    assert [speaker.sex for speaker in speakers].count("female") == 12


def test_every_voice_exists():
    """espeak-ng takes an unknown variant without a word, so the files themselves are looked up."""
    data = Path(str(find_loader().get_data_path()))
    for voice in prosody.FEMALE_VOICES + prosody.MALE_VOICES:
        assert (data / "voices" / "!v" / voice).is_file()
    espeak = Espeak()
    for accent in prosody.ACCENTS:
        assert len(espeak.speak("Yes.", f"{accent}+m1")) > 1000
    with pytest.raises(ValueError, match="no voice 'nowhere'"):
        espeak.speak("Yes.", "nowhere")


def test_missing_package_is_named_with_its_cure(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match="pip install espeakng-loader"):
        synthesize.synthesize(tmp_path, speakers=1, sentences=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("numbers", [{"speakers": 0}, {"sentences": 0}, {"sentences": 13}])
def test_impossible_numbers_are_refused(numbers, tmp_path):
    with pytest.raises(ValueError, match="1 to 12"):
        synthesize.synthesize(tmp_path, **numbers)
