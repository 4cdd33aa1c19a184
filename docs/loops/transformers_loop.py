"""Hugging Face Trainer: `lrsearch run --train transformers_loop.py:loop --n-train 1437`."""

from tempfile import TemporaryDirectory

import torch
from sklearn.datasets import load_digits
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback


def data():
    digits = load_digits()
    images, labels = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1), torch.tensor(digits.target)
    rows = [{"pixel_values": image, "labels": label} for image, label in zip(images, labels, strict=True)]
    return rows[:1437], rows[1437:]


def build():
    layers = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(num_channels=1, num_labels=10, **layers))


def accuracy(predicted):
    return {"accuracy": (predicted.predictions.argmax(1) == predicted.label_ids).mean()}


class Searched(TrainerCallback):
    """What lrsearch needs of a training by the Trainer, whatever its model."""

    def __init__(self, run):
        self.run = run

    def on_step_end(self, args, state, control, **_):
        self.run.step()

    def on_evaluate(self, args, state, control, metrics, **_):
        self.run.report(val_accuracy=metrics["eval_accuracy"], val_loss=metrics["eval_loss"])


def loop(run):
    train, validation = data()
    model = build().to(run.device)
    optimizer = run.optimizer(model)
    behind = run.resume(model=model, optimizer=optimizer)
    with TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder,
            num_train_epochs=run.config.epochs - behind,
            per_device_train_batch_size=run.config.batch_size,
            per_device_eval_batch_size=360,
            seed=run.seed,
            data_seed=run.seed + behind,  # an epoch's order follows from this and its number
            eval_strategy="epoch",
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            use_cpu=run.device.type == "cpu",
        )
        trainer = Trainer(
            model,
            args,
            train_dataset=train,
            eval_dataset=validation,
            compute_metrics=accuracy,
            callbacks=[Searched(run)],
            optimizers=(optimizer, run.scheduler(optimizer, counts=False)),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
