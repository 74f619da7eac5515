"""espeak-ng through its C interface: text in, samples out.

The shared library and its data come with the `espeakng-loader` package. espeak-ng is GPL-3; it is
loaded here and nowhere else in the project, only to make the quickstart's corpus.
Interface: espeak-ng's `speak_lib.h` (revision 12).
"""

import ctypes

import numpy as np

# speak_lib.h: espeak_AUDIO_OUTPUT, espeak_PARAMETER, espeak_POSITION_TYPE and flags
SYNCHRONOUS = 2
DONT_EXIT = 0x8000
RATE, PITCH, RANGE, WORD_GAP = 1, 3, 4, 7
POSITION_CHARACTER = 1
UTF8 = 1

_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


def find_loader():
    """The `espeakng_loader` module, or an ImportError with the command that installs it."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise ImportError(
            "the synthetic corpus needs espeak-ng: pip install espeakng-loader "
            "(it brings the library and its voices; nothing else is needed)"
        ) from error
    return espeakng_loader


class Espeak:
    """The synthesiser of this process.

    The library keeps its state in static variables, one of which (the phase of the pitch's slow
    flutter) cannot be reset: the same call gives other samples when it comes second. Whoever wants
    the same samples makes the same calls in the same order in a fresh process.

    Raises
    ------
    ImportError
        If `espeakng-loader` is not installed, with the command that installs it.
    RuntimeError
        If the library does not start.
    """

    def __init__(self):
        espeakng_loader = find_loader()
        self._library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        data = str(espeakng_loader.get_data_path()).encode()
        self.sample_rate = self._library.espeak_Initialize(SYNCHRONOUS, 0, data, DONT_EXIT)
        if self.sample_rate <= 0:
            raise RuntimeError(f"espeak-ng did not start with the data in {data.decode()}")
        self._library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self._blocks = []
        self._callback = _CALLBACK(self._keep)  # held here: the library keeps only its address
        self._library.espeak_SetSynthCallback(self._callback)

    def _keep(self, samples, count, _events):
        if samples and count > 0:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def speak(self, text, voice, rate=175, pitch=50, pitch_range=50, word_gap=0, seed=0):
        """Samples of `text` spoken by `voice`.

        Arguments
        ---------
        text : str
            Its last punctuation mark chooses the sentence's contour.
        voice : str
            Language and variant, such as "en-us+f1".
        rate : int
            Words a minute, 80 and up.
        pitch : int
            0 to 99, 50 for the voice's own; an octave is 50 units.
        pitch_range : int
            0 to 99, 50 for the voice's own; the excursions are proportional to it.
        word_gap : int
            Extra pause between words in units of 10 ms.
        seed : int
            Of the library's random numbers (breath noise).

        Returns
        -------
        numpy.ndarray
            (S,) float64 in [-1, 1), at `self.sample_rate`.

        Raises
        ------
        ValueError
            If there is no such voice.
        RuntimeError
            If nothing was spoken.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        settings = {RATE: rate, PITCH: pitch, RANGE: pitch_range, WORD_GAP: word_gap}
        for parameter, value in settings.items():
            self._library.espeak_SetParameter(parameter, int(value), 0)
        self._library.espeak_ng_SetRandSeed(int(seed))
        self._blocks.clear()
        data = text.encode()
        status = self._library.espeak_Synth(
            data, ctypes.c_size_t(len(data) + 1), 0, POSITION_CHARACTER, 0, UTF8, None, None
        )
        if status != 0 or not self._blocks:
            raise RuntimeError(f"espeak-ng said nothing for {text!r} (status {status})")
        return np.concatenate(self._blocks) / 32768.0
