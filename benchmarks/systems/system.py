"""The systems that are trained: each is the command line of an example."""

from typing import NamedTuple


class System(NamedTuple):
    """An example, and how it is run for the comparison.

    Attributes:
        title: its name in the README's table.
        script: its name in the folder `examples`.
        arguments: its command-line arguments; a seed is added.
        quick: additional arguments for a quick check.
        seeds: number of seeds, from 0.
        metric: the measured figure: "accuracy" or "perplexity".
        exact: whether both sides must have the same losses. They need not if dropout masks are drawn during training.
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
        """The command that trains the same system by hand."""
        return " ".join(("python", f"examples/{self.script}.py", *self.arguments))


SYSTEMS = {
    "mnist": System("MNIST, row by row", "01_mnist", ("--steps", "300"), ("--dataset", "digits", "--steps", "20"), 3),
    "sentiment": System("IMDB, two layers", "02_sentiment", ("--epochs", "2"), ("--steps", "5"), 1, exact=False),
    "imdb": System("IMDB, Keras's classifier", "03_imdb", ("--epochs", "5"), ("--steps", "5"), 5),
    "language": System(
        "Penn Treebank, small LSTM", "04_language_model", ("--epochs", "1", "--sample", "1"), ("--steps", "10"), 1, "perplexity"
    ),
}
