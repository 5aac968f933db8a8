"""Models made of the layers: small Flax modules for the two commonest tasks, sampling, and a table of what is in them."""

from jlstm.models.language_model import LanguageModel
from jlstm.models.sampling import generate
from jlstm.models.sequence_classifier import SequenceClassifier
from jlstm.models.summary import summary
from jlstm.models.uniform import Uniform

__all__ = ["LanguageModel", "SequenceClassifier", "Uniform", "generate", "summary"]
