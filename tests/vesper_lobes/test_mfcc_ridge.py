"""The floor: what it measures, and that its penalty is chosen without the test set."""

import numpy as np
import pandas as pd
import pytest
import torch

from vesper_lobes.clusters import mfcc
from vesper_lobes.emotion_cells import Corpus, Fold
from vesper_lobes.mfcc_ridge import ALPHAS, fit_fold, fit_ridge, mfcc_statistics


def test_statistics_are_mean_and_deviation_over_time():
    wav = torch.randn(8000)
    features = mfcc(wav[None], torch.tensor([8000]))[0][0]
    found = mfcc_statistics(wav)
    assert found.shape == (78,) and found.dtype == np.float32
    assert np.allclose(found[:39], features.mean(0), atol=1e-5)
    assert np.allclose(found[39:], features.std(0, correction=0), atol=1e-5)


def test_silence_gives_finite_statistics_and_a_click_is_refused():
    assert np.isfinite(mfcc_statistics(torch.zeros(4000))).all()
    with pytest.raises(ValueError, match="399 samples"):
        mfcc_statistics(torch.zeros(399))


def test_the_penalty_is_the_best_on_dev_and_the_stronger_of_equals():
    random = np.random.default_rng(0)
    targets = np.arange(60) % 3
    features = random.normal(size=(60, 78)) + 3 * np.eye(78)[targets]
    model, best = fit_ridge(features, targets, features, targets, 3)
    assert best["alpha"] in ALPHAS and best["score"] == 1.0
    stronger = [alpha for alpha in ALPHAS if alpha > best["alpha"]]
    for alpha in stronger:
        weaker = model.set_params(ridgeclassifier__alpha=alpha).fit(features, targets)
        assert (weaker.predict(features) == targets).mean() < 1.0


def test_test_utterances_change_nothing_but_their_own_predictions():
    random = np.random.default_rng(0)
    names = [f"u{i}" for i in range(40)]
    emotions = ["x" if i % 2 else "y" for i in range(40)]
    fold = Fold(1, names[:20], names[20:30], names[30:])
    manifest = pd.DataFrame({"ID": names, "emotion": emotions})
    corpus = Corpus(manifest, ["x", "y"], [fold])
    features = random.normal(size=(40, 78))
    _, best = fit_fold(features, corpus, fold, "WA")
    features[30:] *= 100
    probabilities, again = fit_fold(features, corpus, fold, "WA")
    assert again == best and probabilities.shape == (10, 2)
    assert (probabilities.sum(1) == 1).all()
