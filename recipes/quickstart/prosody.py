"""What the four synthetic emotions sound like: cue values fixed from the literature.

Every number below was taken from a publication, or marked "ours", before any model saw the corpus,
and none was changed in view of a model's score. Values are the change from the same speaker's
neutral voice at full strength; an utterance gets `strength` of it (see `Variation`).

Sources
-------
[BS96]  Banse & Scherer (1996), Acoustic profiles in vocal emotion expression, JPSP 70(3), 614-636.
[C90]   Cahn (1990), The generation of affect in synthesized speech; scale -10..+10, as in [S01].
[JL03]  Juslin & Laukka (2003), Communication of emotions in vocal expression and music performance,
        Psychological Bulletin 129(5), 770-814: Table 11 (patterns of cues).
[KFS20] Kamiloglu, Fischer & Sauter (2020), Good vibrations, Psychon. Bull. Rev. 27, 237-265.
[KT92]  Kitahara & Tohkura (1992), F0 rules, as given in [M98].
[M98]   Mozziconacci (1998), Speech variability and emotion, PhD thesis, TU Eindhoven: optimal
        values found by listeners (neutral, joy, anger, sadness): end frequency 65, 155, 110,
        102 Hz; excursion 5, 10, 10, 7 semitones; duration 100, 83, 79, 129 %.
[MA93]  Murray & Arnott (1993), Toward the simulation of emotion in synthetic speech, JASA 93(2),
        1097-1108: Table I (directions).
[MA95]  Murray & Arnott (1995), Speech Communication 16, 369-390: anger rules, as in [S01].
[S01]   Schroeder (2001), Emotional speech synthesis: a review, Eurospeech, 561-564: Table 1, with
        the joy rules of Burkhardt & Sendlmeier (2000) and Burkhardt's thesis (2000).
[S03]   Scherer (2003), Vocal communication of emotion, Speech Communication 40, 227-256: Table 2.
"""

from dataclasses import asdict, dataclass

EMOTIONS = ("angry", "happy", "neutral", "sad")


@dataclass(frozen=True)
class Cues:
    """Acoustic cues of one emotion at full strength, relative to neutral.

    Attributes
    ----------
    rate : float
        Speaking rate, a factor.
    pitch : float
        Pitch level in semitones.
    pitch_range : float
        Size of pitch excursions, a factor.
    level : float
        Mean level in dB.
    dynamics : float
        Factor on the level's excursions (dB) around its mean within the utterance.
    slope : float
        Change of level from the first to the last sample, in dB.
    brilliance : float
        Level above 1 kHz against the level below it, in dB.
    onset : float
        Rise time of the voice at the start, in ms (not a change: the value at full strength).
    formants : float
        Frequency of all formants, a factor.
    breath : float
        Amplitude of aspiration noise above 1 kHz against the voice's.
    word_gap : float
        Extra pause between words, in units of 10 ms.
    exclaimed : float
        Probability, at full strength, that the sentence ends in an exclamation's contour.
    """

    rate: float = 1.0
    pitch: float = 0.0
    pitch_range: float = 1.0
    level: float = 0.0
    dynamics: float = 1.0
    slope: float = 0.0
    brilliance: float = 0.0
    formants: float = 1.0
    breath: float = 0.0
    onset: float = 20.0
    word_gap: float = 0.0
    exclaimed: float = 0.0


CUES = {
    "neutral": Cues(),
    "angry": Cues(
        rate=1.27,  # 1/.79 [M98]; "fast" [JL03], up [S03], "slightly faster" [MA93], +30 wpm [MA95]
        pitch=4.3,  # [M98]'s anger against joy (9.1 of 15.0 st) times joy's 7.0;
        # up [S03, BS96], "very much higher" [MA93]
        pitch_range=2.0,  # 10 of 5 st [M98]; "much wider" [MA93], up [S03], +9 st [MA95]
        level=6.0,  # +6 dB [MA95]; "high" [JL03], up [S03], "higher" [MA93]
        dynamics=1.4,  # "much variability" [JL03]; +40 % on emphatic stress [MA95], carried from
        # pitch to level: ours
        slope=2.0,  # contours rise in [JL03]; size ours
        brilliance=3.0,  # "much" HF energy [JL03], up [S03, BS96]; .5 dB per dB of level: ours
        onset=5.0,  # "fast" [JL03]; size ours
        exclaimed=0.7,  # abrupt changes on stressed syllables [MA93], rising [JL03]; size ours
    ),
    "happy": Cues(
        rate=1.20,  # 1/.83 [M98]; "fast" [JL03], up [S03], +30 % [S01]; either way in [MA93]
        pitch=7.0,  # +50 % [S01]; "much higher" [MA93], up [S03], high [JL03]
        pitch_range=2.0,  # +100 % [S01], 10 of 5 st [M98]; "much wider" [MA93], up [S03]
        level=3.0,  # "medium-high" [JL03], "higher" [MA93]; half of anger's: ours
        dynamics=1.2,  # "considerable variability in loudness" [KFS20]; half of anger's: ours
        slope=2.0,  # contours rise in [JL03]; size ours
        brilliance=1.5,  # "medium" HF energy [JL03]; .5 dB per dB of level: ours
        formants=1.1,  # spread lips: F1 and F2 +10 % [S01], higher [KFS20]; here all of them: ours
        onset=5.0,  # "fast" [JL03]; size ours
        exclaimed=0.7,  # upward inflections [MA93], rising [JL03]; size ours
    ),
    "sad": Cues(
        rate=0.78,  # 1/1.29 [M98]; "slow" [JL03], "slightly slower" [MA93], down [S03]
        pitch=-2.4,  # [BS96]'s sadness against hot anger (-.64 of 1.13 SD) times anger's 4.3; down
        # [S03], "slightly lower" [MA93], low [JL03]; [M98] alone has it higher than neutral
        pitch_range=0.6,  # times .6 [KT92]; "slightly narrower" [MA93], down [S03], -5 [C90]
        level=-3.0,  # -5 of 10 [C90], on a scale whose end is anger's 6 dB (ours); "low" [JL03],
        # down [S03], "lower" [MA93]
        dynamics=0.6,  # "little variability" [JL03]; as its pitch range: ours
        slope=-4.0,  # slowly falling throughout the phrase [MA93], falling [JL03]; size ours
        brilliance=-1.5,  # "little" HF energy [JL03], down [S03], -9 brilliance [C90]; size ours
        breath=0.1,  # breathiness +10 of 10 [C90]; size (-20 dB) ours
        onset=80.0,  # "slow" [JL03]; size ours
        word_gap=3.0,  # more pauses: +5 fluent, +10 hesitation [C90]; size ours
    ),
}


@dataclass(frozen=True)
class Variation:
    """How far speakers and utterances scatter. All sizes are ours; the kinds have sources.

    Utterances of a corpus differ in how strongly they show an emotion, speakers differ in which
    cues they use for it ([S01], section 2.2), and "each cue is neither necessary nor sufficient"
    ([JL03], p. 802): hence a strength an utterance, a gain for each speaker, emotion and cue, and
    cues left out. `*_sd` are standard deviations of normal draws.
    """

    strength: tuple = (0.2, 1.0)  # uniform, per utterance, common to its cues
    cue_gain_sd: float = 0.3  # per speaker, emotion and cue, around 1
    cue_left_out: float = 0.2  # probability, per utterance and cue
    # the speaker's own voice, whatever the emotion
    speaker_rate_sd: float = 0.07  # log
    speaker_pitch_sd: float = 1.5  # semitones, around the voice's own pitch
    speaker_range_sd: float = 0.15  # log
    speaker_level_sd: float = 2.0  # dB
    speaker_tract: tuple = (0.93, 1.08)  # uniform factor on all formants
    speaker_channel_sd: float = 2.0  # dB of shelf above 1 kHz: microphone and room
    speaker_snr: tuple = (28.0, 45.0)  # uniform, dB of the neutral level above the noise
    # utterance by utterance
    rate_sd: float = 0.06  # log
    pitch_sd: float = 1.2  # semitones
    range_sd: float = 0.2  # log
    level_sd: float = 2.0  # dB
    dynamics_sd: float = 0.12  # log
    slope_sd: float = 1.5  # dB
    brilliance_sd: float = 1.2  # dB


VARIATION = Variation()
NEUTRAL_RATE = 175  # words a minute: espeak-ng's own default
NEUTRAL_RANGE = 40  # of espeak-ng's 0 to 99, so that there is room to double it (ours)
NEUTRAL_LEVEL = -30.0  # dB of full scale over speech: leaves room for loud anger's peaks (ours)

# The speakers' voices: espeak-ng's variants, each used once before any comes again, female and male
# in turn, each with one of the accents.
FEMALE_VOICES = (
    *("f1", "f2", "f3", "f4", "f5", "steph", "linda", "anika", "Alicia", "Andrea", "aunty"),
    "shelby",
)
MALE_VOICES = (
    *("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "Michael", "Lee", "benjamin", "max"),
)
ACCENTS = (
    *("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-us-nyc", "en-gb-x-gbclan"),
    *("en-029", "en-gb-x-gbcwmd"),
)

# Ours; plain statements that carry no feeling of their own.
SENTENCES = (
    "The train leaves from platform nine",
    "There are seven chairs around the table",
    "She put the letters on the kitchen shelf",
    "The shop on the corner opens at eight",
    "He is going to move the car this evening",
    "They will deliver the parcel on Monday",
    "The meeting has been moved to another room",
    "You can see the bridge from the window",
    "My neighbour has painted his garden door",
    "We are having soup and bread for lunch",
    "The keys are lying under the blue book",
    "Somebody has turned the radio on again",
)


def table():
    """All of the above as one plain dictionary (written beside the corpus, and hashed).

    Example
    -------
    >>> table()["cues"]["sad"]["rate"]
    0.78
    """
    return {
        "cues": {emotion: asdict(CUES[emotion]) for emotion in EMOTIONS},
        "variation": asdict(VARIATION),
        "neutral_rate": NEUTRAL_RATE,
        "neutral_range": NEUTRAL_RANGE,
        "neutral_level": NEUTRAL_LEVEL,
        "voices": {"female": FEMALE_VOICES, "male": MALE_VOICES, "accents": ACCENTS},
        "sentences": SENTENCES,
    }
