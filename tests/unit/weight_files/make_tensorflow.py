"""How the TensorFlow and Keras files beside this script were made, with TensorFlow 2.21.

    python make_tensorflow.py OUT    (in an environment with tensorflow and tf_keras)

Needs packages that the project does not use; what it wrote is committed. `tensorflow.npz` and
`keras*.npz` hold the values as TensorFlow and Keras gave them, '/' written as '|' or '~'. The
`.h5` and `.keras` files were compressed by `gzip -9 -n` afterwards.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf_keras

v1 = tf.compat.v1


def slices_of(whole):
    def part(shape, dtype=None, partition_info=None):
        starts = partition_info.var_offset
        places = tuple(
            slice(start, start + size) for start, size in zip(starts, shape, strict=True)
        )
        return tf.constant(whole[places])

    return part


def checkpoints(out):
    rng = np.random.default_rng(4)
    values = {
        "vggish/conv1/weights": rng.standard_normal((3, 3, 1, 2)).astype("f4"),
        "vggish/conv1/biases": rng.standard_normal(2).astype("f4"),
        "wide": rng.standard_normal((5, 2)),
        "half": rng.standard_normal((3, 2)).astype("f2"),
        "brain": np.float32([1, 1.5, -2, 3.25]),  # bfloat16, V2 only
        "global_step": np.int64(-123456789012),
        "ints": np.int32([[-1, 2, -3], [2**31 - 1, -(2**31), 0]]),
        "bytes": np.uint8([0, 127, 128, 255]),
        "small": np.int8([-128, 127, -1]),
        "short": np.int16([-32768, 32767]),
        "yes": np.array([True, False, True]),
        "complex": np.complex64([1 + 2j, -3j]),
        "empty": np.zeros((0, 4), "f4"),
    }
    with tf.Graph().as_default():
        for name, value in values.items():
            kind = tf.bfloat16 if name == "brain" else None
            v1.get_variable(name, initializer=tf.constant(value, dtype=kind))
        v1.get_variable("text", initializer=tf.constant(["a", "bc"]))
        for scope, shape, parts, axis in (("parts", (70, 3), 3, 0), ("p2", (2, 130), 2, 1)):
            value = rng.standard_normal(shape).astype("f4")
            values[f"{scope}/sliced"] = value
            slicing = v1.fixed_size_partitioner(parts, axis=axis)
            with v1.variable_scope(scope, partitioner=slicing):
                v1.get_variable("sliced", shape=shape, initializer=slices_of(value))
        every = v1.global_variables()
        old = [each for each in every if each.dtype.base_dtype != tf.bfloat16]
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            for version, kept in ((1, old), (2, every)):
                saver = v1.train.Saver(kept, write_version=version)
                saver.save(session, str(out / f"v{version}.ckpt"), write_meta_graph=False)
    np.savez(out / "tensorflow.npz", **{k.replace("/", "|"): v for k, v in values.items()})


def network(library):
    layers = library.layers
    inner = library.Sequential(
        [layers.Input((4,)), layers.Dense(3, name="inner_dense")], name="inner"
    )
    model = library.Sequential(
        [
            layers.Input((6, 6, 1)),
            layers.Conv2D(2, 3, name="conv"),
            layers.BatchNormalization(name="bn"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, name="dense"),
            inner,
        ],
        name="net",
    )
    model.compile(optimizer="adam", loss="mse")
    model.fit(np.random.rand(4, 6, 6, 1), np.random.rand(4, 3), verbose=0)
    return model


def keras_files(out):
    for name, library in (("keras2", tf_keras), ("keras3", keras)):
        model = network(library)
        values = {
            f"{layer.name}|{getattr(weight, 'path', weight.name)}": weight.numpy()
            for layer in model.layers
            for weight in layer.weights
        }
        np.savez(out / f"{name}.npz", **{k.replace("/", "~"): v for k, v in values.items()})
        if name == "keras2":
            model.save_weights(out / "keras2.h5")
            model.save_weights(out / "objects")
        else:
            model.save(out / "keras3_model.h5")
            model.save(out / "keras3.keras")
            model.save_weights(out / "keras3.weights.h5")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    checkpoints(folder)
    keras_files(folder)
