"""How fast this library and others run an LSTM, forwards and in training: the same sizes, threads and float32 for all.

Each framework has a process of its own, which lives as long as the run and does nothing while another one is measured. At each
point the parent goes round all of them several times, so that what the machine does besides hits all alike.

    python -m benchmarks                                all, most of an hour on two cores
    python -m benchmarks --quick                        a few points, three minutes
    python -m benchmarks --compare OLD.json             all, then old times over new ones
    python -m benchmarks --compare OLD.json NEW.json    compare two files and measure nothing
    python -m benchmarks --draw benchmarks/results/speed.json
"""
