"""Small Flax models for sequence classification and language modeling, sampling, a summary table, and ONNX.

The package needs `pip install "jlstm[flax]"`.
"""

from jlstm._src.packages import needed_by

with needed_by("jlstm.models", "jlstm[flax]"):
    from jlstm.models.language_model import LanguageModel
    from jlstm.models.neural_cache import NeuralCache
    from jlstm.models.nnx_model import NNXModel
    from jlstm.models.onnx_writer import write_onnx
    from jlstm.models.penalties import activation_penalty
    from jlstm.models.sampling import generate
    from jlstm.models.sequence_classifier import SequenceClassifier
    from jlstm.models.summary import summary
    from jlstm.models.uniform import Uniform

__all__ = [
    "LanguageModel",
    "NNXModel",
    "NeuralCache",
    "SequenceClassifier",
    "Uniform",
    "activation_penalty",
    "generate",
    "summary",
    "write_onnx",
]
