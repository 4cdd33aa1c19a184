"""Keras on PyTorch: `lrsearch run --train keras_loop.py:loop --n-train 1437 --set space.optimizer=adamw`."""

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
from keras import layers
from sklearn.datasets import load_digits


class Searched(keras.callbacks.Callback):
    """Sets the learning rate of every update, and tells what every epoch came to."""

    def __init__(self, run):
        super().__init__()
        self.run = run

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = self.run.lr

    def on_train_batch_end(self, batch, logs=None):
        self.run.step()

    def on_epoch_end(self, epoch, logs=None):
        self.run.report(val_accuracy=logs["val_accuracy"], val_loss=logs["val_loss"], train_loss=logs["loss"])


def loop(run):
    keras.utils.clear_session()  # it numbers layers through the process, and the names of what is kept must not differ
    digits = load_digits()
    images, labels = digits.images[..., None] / 16, digits.target
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.1),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    said = run.config.optimizer  # Keras has optimizers of its own
    adamw = keras.optimizers.AdamW(
        beta_1=said.beta1, beta_2=said.beta2, epsilon=said.eps, weight_decay=said.weight_decay
    )
    adamw.exclude_from_weight_decay(var_names=["bias"])
    model.compile(adamw, loss, metrics=["accuracy"])
    model.test_on_batch(images[:2], labels[:2])  # builds all there is, so that fit() begins alike when it goes on

    def save():
        return [one.value.detach().clone() for one in model.optimizer.variables]

    def load(values):
        for one, value in zip(model.optimizer.variables, values, strict=True):
            one.assign(value)

    behind = run.resume(save, load, model=model)
    model.fit(
        images[:1437],
        labels[:1437],
        validation_data=(images[1437:], labels[1437:]),
        batch_size=run.config.batch_size,
        initial_epoch=behind,
        epochs=run.config.epochs,
        callbacks=[Searched(run)],
        verbose=0,
    )
