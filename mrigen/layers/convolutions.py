"""Keras's convolutions of volumes: the same numbers, with gradients that are right in bfloat16 and quicker.

TensorFlow's kernel for the gradient of a bias (BiasAddGrad, through which Keras adds one) sums bfloat16 in bfloat16 on
CPU: beyond some hundred voxels the sum stops growing, and of 128,000 ones it finds 256. The gradient of a plain
addition is right, and takes a fifth of the time; in float16 it is the other way round. Forward both are the same.
"""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="mrigen")
class Conv3D(keras.layers.Conv3D):
    """Keras's Conv3D of volumes (batch, x, y, z, channels); same arguments, weights and numbers."""

    def call(self, inputs):
        # With two places along the first axis oneDNN's bfloat16 gradient of the kernel reads memory that nothing was
        # written to, on some CPUs; so few are quick in float32 as well.
        dtype = tf.float32 if inputs.dtype == tf.bfloat16 and inputs.shape[1] == 2 else inputs.dtype
        volumes, kernel = tf.cast(inputs, dtype), tf.cast(self.kernel, dtype)
        if self._makes_one_channel():
            outputs = _convolve_to_one(volumes, kernel)
        else:
            outputs = self.convolution_op(volumes, kernel)
        return finish(self, tf.cast(outputs, inputs.dtype))

    def _makes_one_channel(self) -> bool:
        """Whether `_convolve_to_one` does what this layer does."""
        plain = self.padding == "same" and set(self.strides) == set(self.dilation_rate) == {1}
        return self.filters == 1 and plain and all(size % 2 for size in self.kernel_size)


@keras.saving.register_keras_serializable(package="mrigen")
class Conv3DTranspose(keras.layers.Conv3DTranspose):
    """Keras's Conv3DTranspose of volumes (batch, x, y, z, channels); same arguments, weights and numbers."""

    def call(self, inputs):
        outputs = keras.ops.conv_transpose(
            inputs, self.kernel, self.strides, self.padding, self.output_padding, dilation_rate=self.dilation_rate
        )
        return finish(self, outputs)


def finish(layer, outputs):
    """Returns `outputs` of a layer's convolution with its bias and its activation."""
    if layer.use_bias:
        add = tf.add if outputs.dtype == tf.bfloat16 else tf.nn.bias_add
        outputs = add(outputs, tf.cast(layer.bias, outputs.dtype))
    return outputs if layer.activation is None else layer.activation(outputs)


@tf.custom_gradient
def _convolve_to_one(inputs, kernel):
    """Returns the convolution ("same") of `inputs` to one channel.

    The gradient of its kernel is a correlation of many channels with one. TensorFlow is twice as quick when the one
    stands for the input and the many for the output, which gives the same taps in reverse order.
    """
    options = {"strides": [1] * 5, "padding": "SAME"}

    def gradient(upstream):
        to_inputs = tf.raw_ops.Conv3DBackpropInputV2(
            input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, **options
        )
        *taps, channels, _ = kernel.shape
        reversed_taps = tf.raw_ops.Conv3DBackpropFilterV2(
            input=upstream, filter_sizes=[*taps, 1, channels], out_backprop=inputs, **options
        )
        return to_inputs, tf.transpose(tf.reverse(reversed_taps, [0, 1, 2]), [0, 1, 2, 4, 3])

    return tf.nn.conv3d(inputs, kernel, **options), gradient
