"""timm, in the order of its train.py.

`lrsearch run --train timm_loop.py:loop --n-train 1437 --set training.drop_last=true`
"""

import timm
import torch
from PIL import Image
from sklearn.datasets import load_digits
from timm.data import Mixup, create_loader
from timm.loss import SoftTargetCrossEntropy
from timm.optim import param_groups_layer_decay
from timm.utils import AverageMeter, accuracy
from torch.nn import functional as F


class Digits(torch.utils.data.Dataset):
    """Pictures, as timm's loader takes them."""

    transform = None

    def __init__(self, rows):
        digits = load_digits()
        self.images, self.labels = (digits.images[rows] * 255 / 16).astype("uint8"), digits.target[rows]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def loader(rows, batch_size, **more):
    same = {"use_prefetcher": False, "num_workers": 0, "no_aug": True, "mean": [0.5], "std": [0.5], "crop_pct": 1.0}
    return create_loader(Digits(rows), (1, 16, 16), batch_size, **same, **more)


@torch.no_grad()
def validate(model, batches, device):
    losses, right = AverageMeter(), AverageMeter()
    model.eval()
    for images, labels in batches:
        logits, labels = model(images.to(device)), labels.to(device)
        losses.update(F.cross_entropy(logits, labels).item(), len(labels))
        right.update(accuracy(logits, labels)[0].item() / 100, len(labels))
    model.train()
    return right.avg, losses.avg


def loop(run):
    train = loader(slice(0, 1437), run.config.batch_size, is_training=True)
    validation = loader(slice(1437, 1797), 360)
    model = timm.create_model("test_efficientnet", in_chans=1, num_classes=10, drop_rate=0.1).to(run.device)
    mixup, loss_of = Mixup(mixup_alpha=0.1, num_classes=10), SoftTargetCrossEntropy()
    groups = param_groups_layer_decay(model, run.config.optimizer.weight_decay, layer_decay=0.9)
    optimizer = run.optimizer(groups)  # each group learns with its lr_scale
    averaged = run.average(model)
    for _ in range(run.resume(model=model, optimizer=optimizer), run.config.epochs):
        for images, labels in train:
            images, targets = mixup(images.to(run.device), labels.to(run.device))
            loss = loss_of(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.step(loss)  # where train.py has lr_scheduler.step_update(); leave out lr_scheduler.step()
        val_accuracy, val_loss = validate(model, validation, run.device)
        averaged_accuracy, _ = validate(averaged, validation, run.device)
        yield run.epoch(val_accuracy=val_accuracy, val_loss=val_loss, averaged_val_accuracy=averaged_accuracy)
