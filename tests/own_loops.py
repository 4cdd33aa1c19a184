"""A training loop of one's own, quick to train. PYTEST_DONT_REWRITE: tests import it before pytest registers it."""

from pathlib import Path

import pytest

LOOP = '''
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

N_TRAIN = 500


def data():
    images, labels = load_digits(return_X_y=True)
    images, labels = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
    return TensorDataset(images[:N_TRAIN], labels[:N_TRAIN]), (images[-300:], labels[-300:])


def build():
    return nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))


@torch.no_grad()
def evaluate(model, images, labels):
    model.eval()
    logits = model(images)
    return (logits.argmax(1) == labels).float().mean().item(), F.cross_entropy(logits, labels).item()


def train_epoch(run, loader, model, optimizer):
    model.train()
    for images, labels in loader:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.step(loss)


def loop(run):
    train, validation = data()
    loader = DataLoader(train, batch_size=run.config.batch_size, shuffle=True)
    model = build()
    optimizer = run.optimizer(model)
    averaged = run.average(model) if run.averaging else None
    for epoch in range(run.resume(model=model, optimizer=optimizer), run.config.epochs):
        train_epoch(run, loader, model, optimizer)
        accuracy, loss = evaluate(model, *validation)
        told = {"val_accuracy": accuracy, "val_loss": loss}
        if averaged is not None:
            told["averaged_val_accuracy"], told["averaged_val_loss"] = evaluate(averaged, *validation)
        yield run.epoch(**told)


def forgetful(run):
    train, validation = data()
    loader = DataLoader(train, batch_size=run.config.batch_size, shuffle=True)
    model = build()
    optimizer = run.optimizer(model)
    for epoch in range(run.config.epochs):
        train_epoch(run, loader, model, optimizer)
        yield run.epoch(val_accuracy=evaluate(model, *validation)[0])


def by_callback(run):
    """As a framework does it that owns the loop and calls back."""
    for told in forgetful(run):
        run.report(val_accuracy=told.val_accuracy)
'''


@pytest.fixture
def loop_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(LOOP)
    return path
