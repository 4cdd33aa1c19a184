"""Plain PyTorch: `lrsearch run --train pytorch_loop.py:loop --n-train 1437`."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def data():
    digits = load_digits()
    x = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    y = torch.tensor(digits.target)
    return TensorDataset(x[:1437], y[:1437]), (x[1437:], y[1437:])


def build():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.1), nn.Linear(16 * 4 * 4, 10),
    )  # fmt: skip


@torch.no_grad()
def evaluate(model, images, labels):
    was_training = model.training
    logits = model.eval()(images)
    model.train(was_training)
    return (logits.argmax(1) == labels).float().mean().item(), F.cross_entropy(logits, labels).item()


def loop(run):
    train, (images, labels) = data()
    images, labels = images.to(run.device), labels.to(run.device)
    loader = DataLoader(train, batch_size=run.config.batch_size, shuffle=True)
    model = build().to(run.device)
    optimizer = run.optimizer(model, inputs=images[:2])
    averaged = run.average(model)
    for _ in range(run.resume(model=model, optimizer=optimizer), run.config.epochs):
        for x, y in loader:
            loss = F.cross_entropy(model(x.to(run.device)), y.to(run.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.step(loss)  # the learning rate of the next update is set here
        accuracy, val_loss = evaluate(model, images, labels)
        averaged_accuracy, _ = evaluate(averaged, images, labels)
        yield run.epoch(val_accuracy=accuracy, val_loss=val_loss, averaged_val_accuracy=averaged_accuracy)
