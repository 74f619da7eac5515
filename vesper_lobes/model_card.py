"""The README.md of an exported classifier, made from its description."""

CARD = """\
---
library_name: speechbrain
pipeline_tag: audio-classification
tags: [speech-emotion-recognition, vesper, speechbrain]
---

# Speech emotion classifier: {classes}

A {family} encoder with {layers} layers of width {width} ({millions:.2f} M parameters), the {mix} of
its {states} states, the mean over time, and a {head} head ({classes_count} classes, in the order of
the title).

| | |
|---|---|
| encoder from | {source} |
| trained on | {trained_on} |
| results | {scores} |
| listens to | 16 kHz mono; other rates and channels are converted |
| long audio | {long_audio} |
| versions | {versions} |
| licence | {licence} |

Terms of the training data bind what is made from it: corpora of emotional speech are often for
research, or non-commercial use, only. Ask their owners before any other use. Acted emotions are
not felt ones, and labels are the opinion of a few listeners: do not decide about people with this
model.

## Three ways to use it

With the package `vesper_lobes` (`pip install -e .` in a checkout of the Vesper project). This way
reads tensors and JSON only and runs no code from the folder:

```python
from vesper_lobes.export import load_classifier
model = load_classifier("path/of/this/folder")
labels, probabilities = model.classify(["a.wav", "b.mp3"])   # files, or waveforms
```

or in a shell:

```sh
python -m vesper_lobes.classify a.wav folder/ --model path/of/this/folder --csv out.csv
```

With SpeechBrain (and `vesper_lobes` installed), **for folders you trust only**: reading a
`hyperparams.yaml`, SpeechBrain's or anyone's, can run any code.

```python
from speechbrain.inference.classifiers import EncoderClassifier
model = EncoderClassifier.from_hparams(source="path/of/this/folder")
log_probabilities, score, index, label = model.classify_file("a.wav")   # str(path), not a Path
```

The encoder alone, with transformers (`hidden_states[1:]` are the layers' outputs):

```python
from transformers import {transformers_class}
encoder = {transformers_class}.from_pretrained("path/of/this/folder")
```

## What is in the folder

`config.json`, `preprocessor_config.json`, `model.safetensors`: the encoder, stored once and read by
all three. `classifier.json`, `classifier.safetensors`: the rest for the first way.
`hyperparams.yaml`, `embedding_model.ckpt` (layer weights only), `classifier.ckpt`,
`label_encoder.ckpt`: the rest for the second. Copy or move the folder as a whole. When either way
loads it, the model's answer to a fixed waveform is compared with the one stored here; a wrong,
damaged or missing weight file is refused. transformers alone makes no such comparison.
"""


def model_card(description, encoder):
    """The text of README.md.

    Arguments
    ---------
    description : dict
        classifier.json.
    encoder : Encoder

    Returns
    -------
    str
    """
    config = encoder.config
    mixes = {"weighted_sum": "learned weighted sum", "last": "last"}
    return CARD.format(
        classes=", ".join(description["classes"]),
        classes_count=len(description["classes"]),
        family={"wavlm": "WavLM", "hubert": "HuBERT"}[config.model_type],
        transformers_class={"wavlm": "WavLMModel", "hubert": "HubertModel"}[config.model_type],
        layers=encoder.num_layers,
        width=encoder.hidden_size,
        millions=encoder.num_parameters() / 1e6,
        mix=mixes[description["layer_mix"]],
        states=description["num_states"],
        head={"superb": "SUPERB"}[description["head"]["type"]],
        source=description["source"] or "not stated",
        trained_on=description["trained_on"] or "not stated",
        scores=description["scores"] or "not stated",
        licence=description["licence"] or "not stated; see the terms below",
        long_audio=_long_audio(description),
        versions=", ".join(f"{name} {text}" for name, text in description["versions"].items()),
    )


def _long_audio(description):
    seconds = description["crop_seconds"]
    if seconds is None:
        piece = "30 s (no crop was set in training)"
    else:
        piece = f"{seconds:g} s (the training crop)"
    if description["long_audio"] == "first":
        return f"only the first {piece} is heard, as in the evaluation"
    return (
        f"cut into equal pieces of at most {piece}, averaged over all frames; scores measured on "
        "first crops hold for audio up to that length"
    )
