"""Does a loaded classifier give the answer it gave when it was exported?

Names and shapes cannot tell whether weights are the right ones: a file of another run fits just as
well. So an export stores the model's answer to one fixed waveform, and every loader compares.
"""

import math

import torch

from vesper_lobes.lengths import SAMPLE_RATE

SECONDS = 0.8  # long enough for every layer to attend, short enough to cost nothing at load
MAX_COORDINATES = 32  # of the embedding, evenly spaced, that are stored
TOLERANCE = 1e-3  # relative; other machines' kernels differ by about 1e-5, other weights by about 1


def reference_waveform():
    """A rising tone with syllable-like swells, from a formula: the same on every machine.

    Returns
    -------
    torch.FloatTensor (1, 12800)
        0.8 s at 16 kHz, peak below 0.5.

    Example
    -------
    >>> reference_waveform().shape
    torch.Size([1, 12800])
    """
    time = torch.arange(round(SECONDS * SAMPLE_RATE), dtype=torch.float64) / SAMPLE_RATE
    swell = 0.25 * (1 - torch.cos(2 * math.pi * 5 * time))  # five syllables a second
    phase = 2 * math.pi * (120 * time + 100 * time**2)  # 120 Hz rising to 280 Hz
    voice = sum(torch.sin(k * phase) / k for k in range(1, 9)) / 2
    return (swell * voice).float().unsqueeze(0)


def answer_to_reference(embedding_model, classifier):
    """Embedding (some coordinates) and log-probabilities of the reference waveform.

    Arguments
    ---------
    embedding_model : torch.nn.Module
        (1, S) -> (1, 1, D).
    classifier : torch.nn.Module
        (1, 1, D) -> log-probabilities (1, 1, C).

    Returns
    -------
    dict
        embedding and log_probabilities, lists of floats, on the modules' device.
    """
    parameter = next(classifier.parameters())
    was_training = [module for module in (embedding_model, classifier) if module.training]
    for module in was_training:
        module.eval()
    with torch.no_grad():
        embedding = embedding_model(reference_waveform().to(parameter.device))
        scores = classifier(embedding)
    for module in was_training:
        module.train()
    embedding = embedding.flatten()
    step = -(-len(embedding) // MAX_COORDINATES)
    return {
        "embedding": embedding[::step].tolist(),
        "log_probabilities": scores.flatten().tolist(),
    }


def check_answer(embedding_model, classifier, expected, source):
    """Refuse a model whose answer to the reference waveform is not the stored one.

    Arguments
    ---------
    embedding_model, classifier : torch.nn.Module
    expected : dict
        From :func:`answer_to_reference`.
    source : str or pathlib.Path
        For the message.

    Raises
    ------
    RuntimeError
        The difference, relative to the largest stored value, is above 1e-3 or not a number.
    """
    answer = answer_to_reference(embedding_model, classifier)
    for name, values in answer.items():
        stored = torch.tensor(expected[name], dtype=torch.float64)
        found = torch.tensor(values, dtype=torch.float64)
        if stored.shape != found.shape:
            raise RuntimeError(f"{source}: {len(stored)} {name} stored, the model has {len(found)}")
        error = ((found - stored).abs().max() / stored.abs().max().clamp(min=1e-6)).item()
        if not error <= TOLERANCE:  # NaN is refused too
            raise RuntimeError(
                f"{source}: the loaded model is not the exported one. Its {name} of the reference "
                f"waveform differ by {error:.1e} (relative; at most {TOLERANCE:.0e}). A weight "
                "file was replaced or damaged: export or download the folder again"
            )
