"""What a type checker says of options: `just check` runs mypy on this file.

mypy reports a comment `type: ignore` that suppresses nothing. So the check fails if a wrong option below passes unnoticed.
"""

import jlstm

jlstm.LSTM(4, peephole=True, coupled="f=1-i", layer_norm="ba2016", recurrent_dropout_on="g", reverse=True, unroll="all")
jlstm.GRU(4, reset_after=False, backend="scan", dtype="bfloat16")

jlstm.LSTM(4, hidden_size=8)  # type: ignore[call-arg]
jlstm.LSTM(4, coupled="f=i")  # type: ignore[arg-type]
jlstm.LSTM(4, recurrent_dropout_on="c")  # type: ignore[arg-type]
jlstm.LSTM(4, use_bias="no")  # type: ignore[arg-type]
jlstm.LSTM("4")  # type: ignore[arg-type]
jlstm.GRU(4, peephole=True)  # type: ignore[call-arg]
jlstm.GRU(4, backend="tpu")  # type: ignore[arg-type]
jlstm.GRU(4, unroll="none")  # type: ignore[arg-type]
