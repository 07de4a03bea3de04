"""Model selection on real data: the handwritten digits that scikit-learn ships.

    onready run examples/digits.py
    onready run examples/digits.py --hidden 32 64 --folds 3
    python examples/digits.py

Some images are held out. On the rest, every setting of a small neural network is tried on every
fold, in parallel, in warm worker processes: a map of a graph that maps itself. The best setting is
trained once more on all but the held-out images, and judged on those. The model is kept as plain
arrays (no pickle), with a picture of what it takes for what.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray

from onready import File, NodeContext, Provided, Resources, each, graph, run_sync, task

if TYPE_CHECKING:  # A slow import: each task that needs it does it where it runs.
    from sklearn.neural_network import MLPClassifier

Images = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass
class Setting:
    """One setting of the network: neurons in its hidden layer, and how large weights are fined."""

    hidden: int
    alpha: float


@dataclass
class Score:
    """How well a setting does: the mean accuracy over the folds, and the worst."""

    setting: Setting
    mean: float
    worst: float


class Selection(TypedDict):
    """What the graph gives: on held-out images, and in files."""

    accuracy: float
    best: Score
    model: File
    confusion: File


@task
def load(held_out: float) -> tuple[Images, Labels, Images, Labels]:
    """1,797 images of 8 x 8 pixels and what they show; the last two are held out."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, shown = load_digits(return_X_y=True)
    images = np.asarray(pixels, dtype=np.float64) / 16.0
    labels = np.asarray(shown, dtype=np.int64)
    known, unseen = train_test_split(
        np.arange(len(labels)), test_size=held_out, stratify=labels, random_state=0
    )
    return images[known], labels[known], images[unseen], labels[unseen]


@task
def split(labels: Labels, folds: int) -> list[list[int]]:
    """Which images each fold is tested on; all digits have their share in each."""
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(folds, shuffle=True, random_state=0)
    return [tested.tolist() for _, tested in splitter.split(labels, labels)]


@task
def list_settings(hidden: list[int], alphas: list[float]) -> list[Setting]:
    """Every pair."""
    return [Setting(neurons, alpha) for neurons in hidden for alpha in alphas]


def fit(images: Images, labels: Labels, setting: Setting) -> MLPClassifier:
    """A trained network."""
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier(
        (setting.hidden,), alpha=setting.alpha, max_iter=1000, tol=5e-4, random_state=0
    )
    return network.fit(images, labels)


@task(backend="process", resources=Resources(cpu=1))
def try_on_fold(images: Images, labels: Labels, tested: list[int], setting: Setting) -> float:
    """The accuracy on one fold of a network that has not seen it."""
    seen = np.ones(len(labels), dtype=bool)
    seen[tested] = False
    network = fit(images[seen], labels[seen], setting)
    return float(network.score(images[~seen], labels[~seen]))


@task
def summarise(setting: Setting, accuracies: list[float]) -> Score:
    """The score of a setting."""
    return Score(setting, float(np.mean(accuracies)), min(accuracies))


@graph
def try_setting(setting: Setting, images: Images, labels: Labels, folds: list[list[int]]) -> Score:
    """One setting on every fold."""
    return summarise(setting, try_on_fold.map(images, labels, each(folds), setting))


@task
def pick_best(scores: list[Score]) -> Score:
    """The highest mean; of equals, the smaller network."""
    return max(scores, key=lambda score: (score.mean, -score.setting.hidden))


@task(backend="process")
def train(
    images: Images, labels: Labels, best: Score, node: NodeContext = Provided(NodeContext)
) -> File:
    """The final model: the weights of its layers, as an .npz file of plain arrays."""
    network = fit(images, labels, best.setting)
    path = node.folder / "model.npz"
    weights = {f"weights{layer}": matrix for layer, matrix in enumerate(network.coefs_)}
    biases = {f"biases{layer}": vector for layer, vector in enumerate(network.intercepts_)}
    np.savez(path, allow_pickle=False, **weights, **biases)
    return File(path)


@task
def predict(model: File, images: Images) -> Labels:
    """What the model takes the images for: a matrix product for each layer."""
    with np.load(model, allow_pickle=False) as arrays:
        hidden = np.maximum(images @ arrays["weights0"] + arrays["biases0"], 0.0)
        outputs: Images = hidden @ arrays["weights1"] + arrays["biases1"]
        digits_found: Labels = outputs.argmax(axis=1)
        return digits_found


@task
def measure(predicted: Labels, labels: Labels) -> float:
    """The share of images that were recognised."""
    return float(np.mean(predicted == labels))


@task(backend="process")
def draw(predicted: Labels, labels: Labels, node: NodeContext = Provided(NodeContext)) -> File:
    """A picture of which digits are taken for which."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from sklearn.metrics import ConfusionMatrixDisplay

    figure, axes = plt.subplots(figsize=(6, 6))
    ConfusionMatrixDisplay.from_predictions(labels, predicted, ax=axes, colorbar=False)
    axes.set_title("Handwritten digits nobody trained on")
    path = node.folder / "confusion.png"
    figure.savefig(path, dpi=120)
    return File(path)


@graph
def digits(
    hidden: list[int] = [32, 64, 128, 256],
    alphas: list[float] = [1e-4, 1e-2, 1.0],
    folds: int = 5,
    held_out: float = 0.25,
) -> Selection:
    """Try every setting on every fold, train the best, judge it on images that nobody has seen."""
    images, labels, unseen, unseen_labels = load(held_out)
    settings = list_settings(hidden, alphas)
    scores = try_setting.map(each(settings), images, labels, split(labels, folds))
    best = pick_best(scores)
    model = train(images, labels, best)
    predicted = predict(model, unseen)
    return {
        "accuracy": measure(predicted, unseen_labels),
        "best": best,
        "model": model,
        "confusion": draw(predicted, unseen_labels),
    }


def main() -> None:
    """Run it, and copy the files here."""
    found = run_sync(digits.bind())
    setting = found["best"].setting
    print(f"best of all: {setting.hidden} hidden neurons, alpha {setting.alpha:g}")
    print(f"recognises {found['accuracy']:.1%} of the held-out digits")
    for file, name in ((found["model"], "digits.npz"), (found["confusion"], "digits.png")):
        print(f"wrote {shutil.copyfile(file, Path(name))}")


if __name__ == "__main__":
    main()
