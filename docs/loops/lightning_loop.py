"""Lightning: `lrsearch run --train lightning_loop.py:loop --n-train 1437`."""

import logging
import warnings

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its greeting, once a trial
warnings.filterwarnings("ignore", ".*(does not have many workers|LeafSpec).*")


class Digits(L.LightningModule):
    def __init__(self, run):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
        self.optimizer = run.optimizer(self)

    def configure_optimizers(self):
        return self.optimizer  # and no scheduler

    def training_step(self, batch, _):
        images, labels = batch
        return F.cross_entropy(self.net(images), labels)

    def validation_step(self, batch, _):
        images, labels = batch
        logits = self.net(images)
        self.log("val_loss", F.cross_entropy(logits, labels))
        self.log("val_accuracy", (logits.argmax(1) == labels).float().mean())


class Searched(L.Callback):
    """What lrsearch needs of a Lightning training, whatever its module."""

    def __init__(self, run):
        self.run = run

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.run.step(outputs["loss"])

    def on_train_epoch_end(self, trainer, module):
        told = trainer.callback_metrics
        self.run.report(val_accuracy=told["val_accuracy"], val_loss=told["val_loss"])


def loop(run):
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target))
    train, validation = torch.utils.data.Subset(data, range(1437)), torch.utils.data.Subset(data, range(1437, 1797))
    module = Digits(run).to(run.device)
    behind = run.resume(model=module, optimizer=module.optimizer)
    trainer = L.Trainer(
        max_epochs=run.config.epochs - behind,
        accelerator=run.device.type,
        devices=1,
        callbacks=[Searched(run)],
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(train, run.config.batch_size, shuffle=True), DataLoader(validation, 360))
