"""Results and gradients of Keras's recurrent layers in float64."""

from tensorflow_modules import tf


def differentiate_keras(layer, weights, problem, cotangent, **options):
    """Return what `problems.differentiate` returns for our layer, computed by a Keras layer with these weights.

    Outputs come in the order of the inputs, also of a backward run. The gradients of the weights are a list.
    """
    layer.build(problem.xs.shape)
    layer.set_weights(weights)
    xs, *state = map(tf.constant, (problem.xs, *problem.carry))
    with tf.GradientTape() as tape:
        tape.watch((xs, state))
        ys, *last = layer(xs, initial_state=state, **options)
        ys = tf.reverse(ys, [1]) if problem.layer.reverse else ys
    of_last, of_ys = cotangent
    gradients = tape.gradient((ys, *last), [*layer.trainable_weights, xs, *state], (of_ys, *of_last))
    of_weights, (of_xs, *of_state) = gradients[: len(weights)], gradients[len(weights) :]
    carry = type(problem.carry)
    return (carry(*last), ys), (of_weights, of_xs, carry(*of_state))
