"""Beam search against all sequences, and against a search in plain Python."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlstm.models import beam_search

pytestmark = pytest.mark.no_cover

VOCABULARY, UNITS, BATCH, START, END, LENGTH = 3, 4, 2, 0, 2, 4
RNG = np.random.default_rng(3)
WEIGHTS = {
    "recurrent": RNG.normal(size=(UNITS, UNITS)),
    "embedding": 2 * RNG.normal(size=(VOCABULARY, UNITS)),
    "head": 2 * RNG.normal(size=(UNITS, VOCABULARY)),
}
CARRY = RNG.normal(size=(BATCH, UNITS))


def step(carry, tokens):
    """Run a plain recurrent network, whose logits depend on all tokens so far."""
    h = jnp.tanh(carry["h"] @ WEIGHTS["recurrent"] + jnp.asarray(WEIGHTS["embedding"])[tokens])
    return {"h": h}, h @ WEIGHTS["head"]


def search(width, penalty=0.0, length=LENGTH):
    """Return the beams, from a compiled search."""
    carry = {"h": np.repeat(CARRY[:, None], width, 1)}
    run = jax.jit(lambda carry: beam_search(step, carry, start=START, end=END, length=length, length_penalty=penalty))
    return jax.tree.map(np.asarray, run(carry))


def continuations(h, token):
    """Return the next state and the log-probabilities of the next token, in NumPy."""
    h = np.tanh(h @ WEIGHTS["recurrent"] + WEIGHTS["embedding"][token])
    logits = h @ WEIGHTS["head"]
    return h, logits - np.log(np.exp(logits).sum())


def log_probability(h, sequence):
    """Return the log-probability of a sequence up to its end token, and the number of tokens before it."""
    total, token = 0.0, START
    for k, following in enumerate(sequence):
        h, log_probs = continuations(h, token)
        total, token = total + log_probs[following], following
        if token == END:
            return total, k
    return total, len(sequence)


def divisor(sequence, penalty):
    """Return what the log-probability of a sequence is divided by, ((5 + n) / 6) ^ penalty, where n counts one end token."""
    counted = sequence.index(END) + 1 if END in sequence else len(sequence)
    return ((5 + counted) / 6) ** penalty


def all_sequences():
    """Return all different sequences: after the end token there are only end tokens."""
    for sequence in itertools.product(range(VOCABULARY), repeat=LENGTH):
        stop = sequence.index(END) if END in sequence else LENGTH
        if set(sequence[stop:]) <= {END}:
            yield sequence


def test_a_wide_search_finds_the_best_of_all_sequences(x64):
    """As wide as there are sequences, a search finds all of them, in the order of their probabilities."""
    sequences = list(all_sequences())
    beams = search(len(sequences) + 2)
    for b in range(BATCH):
        expected = sorted(((*log_probability(CARRY[b], sequence), sequence) for sequence in sequences), reverse=True)
        log_probs, lengths, tokens = zip(*expected, strict=True)
        np.testing.assert_allclose(beams.log_probs[b, : len(sequences)], log_probs, rtol=1e-12)
        np.testing.assert_array_equal(beams.tokens[b, : len(sequences)], tokens)
        np.testing.assert_array_equal(beams.lengths[b, : len(sequences)], lengths)
        assert (beams.log_probs[b, len(sequences) :] == -np.inf).all()
        assert np.exp(beams.log_probs[b]).sum() == pytest.approx(1)


@pytest.mark.table(quick=1)
@pytest.mark.parametrize(("width", "penalty"), [(3, 1.5), (2, 0.0), (1, 0.0)])
def test_a_narrow_search_is_that_of_plain_python(width, penalty, x64):
    """A width of 1 is greedy. A penalty favors longer sequences."""
    beams = search(width, penalty)
    for b in range(BATCH):
        kept = [((), CARRY[b], START, 0.0)]
        for _ in range(LENGTH):
            candidates = []
            for sequence, h, token, total in kept:
                if END in sequence:
                    candidates.append(((*sequence, END), h, END, total))
                else:
                    new_h, log_probs = continuations(h, token)
                    candidates += [((*sequence, k), new_h, k, total + log_probs[k]) for k in range(VOCABULARY)]
            kept = sorted(candidates, key=lambda candidate: candidate[3] / divisor(candidate[0], penalty), reverse=True)[:width]
        np.testing.assert_array_equal(beams.tokens[b], [sequence for sequence, *_ in kept])
        np.testing.assert_allclose(beams.log_probs[b], [total for *_, total in kept], rtol=1e-12)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"step": None}, TypeError, "step must be a function of carry and tokens"),
        ({"carry": {"h": np.ones((2, 3)), "c": np.ones((3, 2))}}, ValueError, "must share the leading axes"),
        ({"carry": np.ones(2)}, ValueError, "must share the leading axes"),
        ({"end": 3}, ValueError, r"step must return logits \(2, 1, vocabulary\) with more than 3 tokens, got \(2, 1, 3\)"),
        ({"start": -1}, ValueError, "start must be a whole number of at least 0"),
        ({"start": 3}, ValueError, "start must be a token below 3, got 3"),
        ({"length": 0}, ValueError, "length must be a whole number of at least 1"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(changes, error, message, x64):
    """Bad arguments are refused before anything is computed."""
    good = {"step": step, "carry": {"h": CARRY[:, None]}, "start": START, "end": END, "length": LENGTH}
    with pytest.raises(error, match=message):
        beam_search(**(good | changes))
