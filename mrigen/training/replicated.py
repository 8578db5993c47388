"""The training loop of several devices: what Keras does in `fit`, with one batch and one loss over all of them.

Keras's own loop cannot be used with several workers (it reduces the model's output and its figures wrongly), and reads
figures from each replica. This one takes one step of all replicas at a time, and every worker knows the same figures.
"""

import keras
import numpy as np
import tensorflow as tf

from mrigen.system.stopping import StopRequest
from mrigen.training.callbacks import Checkpoint
from mrigen.training.devices import Placement


class SharedCheckpoint(Checkpoint):
    """The checkpoint of several devices: worker 0 writes it, and all end at the same step.

    Args:
        loop: whose running figures are kept.
        See `Checkpoint` for the others; `stop` is that of the loop, in which all workers agree.
    """

    def __init__(self, loop: "ReplicatedLoop", *args, **kwargs):
        super().__init__(*args, **kwargs, stop=loop.agreed)
        self.loop = loop

    def on_epoch_begin(self, epoch, logs=None):
        if self.progress.step:
            self.loop.running = np.array(self.progress.metrics).reshape(-1, 2)

    def running_metrics(self) -> list[float]:
        return [float(value) for value in self.loop.running.ravel()]

    def _save(self) -> None:
        if self.loop.placement.is_chief:
            super()._save()

    def _interrupted(self):
        self.loop.placement.all_reduce(0.0)  # Nobody goes before the checkpoint is written.
        return super()._interrupted()


class ReplicatedLoop:
    """Steps of all replicas at a time.

    Args:
        model: compiled, made in the scope of the strategy.
        placement: of the fit.
        clip_norm: largest norm of the whole gradient, or None; the optimizer clips at that divided by the replicas.
        stop: who asks this worker to stop.

    Attributes:
        agreed: whether any worker was asked, known to all after the same step.
        running: (names, 2), sums and counts of the figures of the epoch so far.
    """

    def __init__(self, model, placement: Placement, clip_norm: float | None, stop: StopRequest):
        self.model = model
        self.placement = placement
        self.clips = clip_norm is not None
        self.stop = stop
        self.agreed = StopRequest()
        self.names = ["loss", *model.reported]
        self.running = np.zeros((len(self.names), 2))
        self._train = tf.function(self._train_all, autograph=False, reduce_retracing=True)
        self._test = tf.function(self._test_all, autograph=False, reduce_retracing=True)

    def fit(self, batches, first_epoch: int, last_epoch: int, steps: int, validation, callbacks) -> None:
        """Trains, and calls callbacks as Keras does.

        Args:
            batches: of one replica each, those of this worker's devices one after the other.
            first_epoch, last_epoch: numbers of the epochs, the last exclusive.
            steps: of each.
            validation: from a number of batches to leave out between two to whole batches, or None.
            callbacks: of Keras.
        """
        model, listeners = self.model, keras.callbacks.CallbackList(callbacks, model=self.model)
        model.stop_training = False
        iterator = iter(batches)
        listeners.on_train_begin()
        for epoch in range(first_epoch, last_epoch):
            self.running = np.zeros((len(self.names), 2))
            listeners.on_epoch_begin(epoch)
            for step in range(steps):
                listeners.on_train_batch_begin(step)
                inputs = [next(iterator) for _ in range(self.placement.num_devices)]
                summed, asked = self._run(self._train, inputs, float(self.stop.asked))
                self.running += summed
                self.agreed.asked = self.agreed.asked or asked > 0.0
                listeners.on_train_batch_end(step, {"loss": summed[0, 0] / summed[0, 1]})
            logs = self._figures(self.running)
            if validation is not None:
                logs |= {f"val_{name}": value for name, value in self._validate(validation).items()}
            (asked,) = self.placement.all_reduce(float(self.stop.asked))
            self.agreed.asked = self.agreed.asked or asked > 0.0
            listeners.on_epoch_end(epoch, logs)
            # What worker 0 wrote down counts, whatever another's arithmetic says.
            (ends,) = self.placement.all_reduce(float(model.stop_training and self.placement.is_chief))
            if ends:
                break
        listeners.on_train_end()

    def _validate(self, validation) -> dict[str, float]:
        """Returns figures of all validation people: each replica takes whole batches, as one device would see them."""
        placement, summed = self.placement, np.zeros((len(self.names), 2))
        number, first = placement.num_replicas, placement.worker * placement.num_devices
        waiting = []
        for index, batch in enumerate(validation):
            if len(waiting) < placement.num_devices and index % number >= first:
                waiting.append((batch, 1.0))
            if index % number == number - 1:
                summed += self._run(self._test, *zip(*waiting, strict=True))[0]
                waiting = []
            last = batch
        if (index + 1) % number:  # Who has none left looks at the last again, for nothing.
            waiting += [(last, 0.0)] * (placement.num_devices - len(waiting))
            summed += self._run(self._test, *zip(*waiting, strict=True))[0]
        return self._figures(summed)

    def _figures(self, summed: np.ndarray) -> dict[str, float]:
        return {name: float(total / count) for name, (total, count) in zip(self.names, summed, strict=True)}

    def _run(self, function, inputs, numbers) -> tuple[np.ndarray, float]:
        """Returns the sums and counts of the figures over the replicas, and the sum of what was asked."""
        strategy, placement = self.placement.strategy, self.placement
        numbers = [numbers] * placement.num_devices if isinstance(numbers, float) else numbers
        pairs = iter(list(zip(inputs, numbers, strict=True)))

        def give(context):
            batch, number = next(pairs)
            return batch, tf.constant(number)

        values = strategy.experimental_distribute_values_from_function(give)
        summed = strategy.experimental_local_results(function(*values))[0].numpy().astype(np.float64)
        return summed[:-1].reshape(-1, 2), float(summed[-1])

    def _train_all(self, inputs, asked):
        return self.placement.strategy.run(self._train_one, args=(inputs, asked))

    def _test_all(self, inputs, counts):
        return self.placement.strategy.run(self._test_one, args=(inputs, counts))

    def _train_one(self, inputs, asked):
        model, number = self.model, self.placement.num_replicas
        self._reset()
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            loss = model.compute_loss(x=inputs, y_pred=outputs, training=True)
            scaled = loss / number
        variables = model.trainable_variables
        gradients = tape.gradient(scaled, [variable.value for variable in variables])
        if self.clips:  # The optimizer clips what it is given, and then adds the replicas'.
            gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            gradients = [gradient / number for gradient in gradients]
        model.optimizer.apply(gradients, variables)
        return self._reduced(inputs, loss, 1.0, asked)

    def _test_one(self, inputs, counts):
        self._reset()
        outputs = self.model(inputs, training=False)
        loss = self.model.compute_loss(x=inputs, y_pred=outputs, training=False)
        return self._reduced(inputs, loss, counts, 0.0)

    def _reset(self):
        for tracker in self.model.reported.values():
            tracker.reset_state()

    def _reduced(self, inputs, loss, counts, asked):
        size = tf.cast(tf.shape(tf.nest.flatten(inputs)[0])[0], tf.float32)
        own = [loss * size, size]
        for tracker in self.model.reported.values():
            own += [tf.convert_to_tensor(tracker.total), tf.convert_to_tensor(tracker.count)]
        own = [tf.cast(value, tf.float32) * counts for value in own]
        # Of people who are not there nothing is known, not even that it is a number.
        own = [tf.where(tf.equal(counts, 0.0), 0.0, value) for value in own]
        values = tf.stack([*own, tf.cast(asked, tf.float32)])
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)
