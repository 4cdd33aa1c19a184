"""Curves of another kind than lrsearch is made for, to try its strategy on: a small transformer that foretells letters.

    python benchmarks/language_sweep.py --out FILE.jsonl [--rates 9] [--epochs 8]
    python benchmarks/replay.py --curves FILE.jsonl --methods lr product optuna

The text is the help on topics that comes with Python. Trained are AdamW and SGD with momentum .9, each by a constant
rate, a cosine and a decay in the last fifth, at rates even in the logarithm. A line a training, as benchmarks/replay.py
reads them, with the validation loss after each epoch, null from where it was not finite. Run again it goes on where it
stopped.
"""

import argparse
import json
import math
from pathlib import Path
from pydoc_data import topics
from typing import Any

import numpy as np
import torch
from torch import nn

LETTERS, LENGTH, BATCH, WIDTH, WARMUP = 120_000, 32, 64, 32, 0.05
RATES = {"adamw": (1e-4, 0.3), "sgd": (1e-3, 10.0)}
SCHEDULES = ("constant", "cosine", "wsd")


class Transformer(nn.Module):
    """One layer that looks back.

    Args:
        n_letters: of the alphabet.
    """

    def __init__(self, n_letters: int) -> None:
        super().__init__()
        self.letters = nn.Embedding(n_letters, WIDTH)
        self.places = nn.Parameter(torch.randn(LENGTH, WIDTH) * 0.02)
        self.layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(WIDTH, n_letters)
        self.register_buffer("mask", torch.triu(torch.full((LENGTH, LENGTH), -math.inf), 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, `[n, length, n_letters]`."""
        out: torch.Tensor = self.head(self.layer(self.letters(x) + self.places, src_mask=self.mask))
        return out


def factor(schedule: str, part: float) -> float:
    """Return the learning rate at a part [0..1) of a training, as a fraction of the peak."""
    shape = {"constant": 1.0, "cosine": 0.5 * (1 + math.cos(math.pi * part)), "wsd": min(1.0, (1 - part) / 0.2)}
    return shape[schedule] * min(1.0, part / WARMUP + 1e-3)


def data() -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return lines of letters to train and to validate on, `[n, LENGTH + 1]`, and how many letters there are."""
    text = "".join(topics.topics.values())[:LETTERS]
    numbers = {letter: i for i, letter in enumerate(sorted(set(text)))}
    whole = torch.tensor([numbers[letter] for letter in text])
    lines = whole[: len(whole) // (LENGTH + 1) * (LENGTH + 1)].view(-1, LENGTH + 1)
    n = int(0.9 * len(lines))
    return lines[:n], lines[n:], len(numbers)


def trained(optimizer: str, schedule: str, lr: float, epochs: int) -> list[float | None]:
    """Return the validation loss after each epoch."""
    training, validation, n_letters = data()
    torch.manual_seed(0)
    net, drawn = Transformer(n_letters), torch.Generator().manual_seed(0)
    made = (
        torch.optim.AdamW(net.parameters(), lr) if optimizer == "adamw" else torch.optim.SGD(net.parameters(), lr, 0.9)
    )
    steps, done = len(training) // BATCH, 0
    out: list[float | None] = []
    for _ in range(epochs):
        order = torch.randperm(len(training), generator=drawn)
        for i in range(steps):
            made.param_groups[0]["lr"] = lr * factor(schedule, done / (steps * epochs))
            lines = training[order[i * BATCH : (i + 1) * BATCH]]
            loss = nn.functional.cross_entropy(net(lines[:, :-1]).flatten(0, 1), lines[:, 1:].flatten())
            made.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            made.step()
            done += 1
        with torch.no_grad():
            logits = net(validation[:, :-1]).flatten(0, 1)
            told = float(nn.functional.cross_entropy(logits, validation[:, 1:].flatten()))
        if not math.isfinite(told):
            break
        out.append(told)
    return out + [None] * (epochs - len(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rates", type=int, default=9)
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    behind = {(row["optimizer"], row["schedule"], row["lr"]) for row in known}
    for optimizer, (low, high) in RATES.items():
        for schedule in SCHEDULES:
            for rate in np.geomspace(low, high, args.rates):
                lr = float(f"{rate:.6g}")
                if (optimizer, schedule, lr) in behind:
                    continue
                row: dict[str, Any] = {
                    "source": "lrsearch/benchmarks/language_sweep.py",
                    "problem": "letters",
                    "optimizer": optimizer,
                    "schedule": schedule,
                    "lr": lr,
                    "seed": 0,
                    "batch_size": BATCH,
                    "epochs": args.epochs,
                    "val_loss": trained(optimizer, schedule, lr, args.epochs),
                }
                with args.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            print(f"{optimizer} {schedule}: done", flush=True)


if __name__ == "__main__":
    main()
