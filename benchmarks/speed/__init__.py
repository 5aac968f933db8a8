"""Speed of an LSTM in this library and in other frameworks, in the forward pass and in training.

All frameworks have the same sizes, the same number of threads, and float32. Each framework has its own process, which lives as
long as the run, and is idle while another one is measured. At each point, the frameworks take turns several times, so that other
load of the machine affects all of them alike.

    python -m benchmarks                                all points, most of an hour on two cores
    python -m benchmarks --quick                        a few points, three minutes
    python -m benchmarks --compare OLD.json             all points, then the old times over the new ones
    python -m benchmarks --compare OLD.json NEW.json    compare two files and measure nothing
    python -m benchmarks --draw benchmarks/results/speed.json    page and picture of a file
"""
