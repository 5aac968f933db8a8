"""The systems: command lines of the examples."""

from typing import NamedTuple


class System(NamedTuple):
    """An example, and how it is run for the comparison.

    Attributes:
        title: what README's table calls it.
        script: of the folder `examples`.
        arguments: of its command line; a seed is added.
        quick: more arguments for a look at whether it works.
        seeds: how many seeds are run, from 0.
        metric: what it is judged by: "accuracy" or "perplexity".
        exact: whether both sides have the same losses, since nothing is drawn during training; with dropout they have not.
    """

    title: str
    script: str
    arguments: tuple[str, ...]
    quick: tuple[str, ...]
    seeds: int
    metric: str = "accuracy"
    exact: bool = True

    @property
    def command(self) -> str:
        """What a person types to train the same."""
        return " ".join(("python", f"examples/{self.script}.py", *self.arguments))


SYSTEMS = {
    "mnist": System("MNIST, row by row", "01_mnist", ("--steps", "300"), ("--dataset", "digits", "--steps", "20"), 3),
    "sentiment": System("IMDB, two layers", "02_sentiment", ("--epochs", "2"), ("--steps", "5"), 1, exact=False),
    "imdb": System("IMDB, Keras' classifier", "03_imdb", ("--epochs", "5"), ("--steps", "5"), 5),
    "language": System(
        "Penn Treebank, small LSTM", "04_language_model", ("--epochs", "1", "--sample", "1"), ("--steps", "10"), 1, "perplexity"
    ),
}
