"""Small Flax models for sequence classification and language modeling, sampling, and a summary table."""

from jlstm.models.language_model import LanguageModel
from jlstm.models.sampling import generate
from jlstm.models.sequence_classifier import SequenceClassifier
from jlstm.models.summary import summary
from jlstm.models.uniform import Uniform

__all__ = ["LanguageModel", "SequenceClassifier", "Uniform", "generate", "summary"]
