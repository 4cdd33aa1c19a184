# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From pictures to a trained network
#
# A folder of pictures, a folder for each class, and a network that is a function in this notebook. lrsearch finds the
# optimizer, the peak learning rate, the schedule and the batch size to train it with, and gives the trained network
# back.

# %%
import inspect
import itertools
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

import lrsearch

# %% [markdown]
# ## Pictures
#
# Put a folder of your own in the place of `pictures`. Without one, 600 handwritten digits that come with scikit-learn
# are laid there, and 20 others beside it, for later.

# %%
pictures, others = Path("pictures"), Path("others")
if not pictures.is_dir():
    digits = load_digits()
    names = [f"{number:03}-{label}.png" for number, label in enumerate(digits.target)]
    for image, label, name in itertools.islice(zip(digits.images, digits.target, names, strict=True), 620):
        folder = others if len(list(others.glob("*.png"))) < 20 else pictures / f"digit {label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 - image * 255 / 16).astype("uint8")).save(folder / name)

sorted(folder.name for folder in pictures.iterdir())

# %% [markdown]
# ## A network
#
# A function that builds it, anew for every trial. It is called with those of `num_classes`, `in_chans`, `input_shape`
# and `image_size` that it takes.


# %%
def block(n_in, n_out):
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU(), nn.MaxPool2d(2))


def build(num_classes, in_chans, width=16):
    return nn.Sequential(
        block(in_chans, width),
        block(width, 2 * width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(2 * width, num_classes),
    )


# %% [markdown]
# ## The search
#
# One output shows what is trained, the best so far and how long it will take. To interrupt the kernel is safe: the
# study is kept, and the same cell goes on with it.

# %%
study = lrsearch.search(data=pictures, model=build, trials=12, epochs=8, name="digits-on-paper")

# %%
study.best

# %% [markdown]
# Every trial is a row of a table of pandas:

# %%
study.table()[["state", "value", "epoch", "optimizer", "peak_lr", "schedule", "batch_size"]].head(8)

# %% [markdown]
# Is the answer worth more trials? `trials` is the study's total: the cell trains four more.

# %%
study = lrsearch.search(data=pictures, model=build, trials=16, epochs=8, name="digits-on-paper")
len(study.trials)

# %% [markdown]
# ## The network
#
# With the weights of the best trial, ready to be used. `inputs` makes of pictures what it was trained on: their size,
# their channels, their normalisation.

# %%
best = study.best
network = best.model()
paths = sorted(others.glob("*.png"))
found = network(best.inputs(paths)).softmax(1).max(1)
for path, label, probability in list(zip(paths, found.indices, found.values, strict=True))[:6]:
    print(f"{path.name}: {best.classes[label]} ({probability:.2f})")

# %%
right = sum(path.stem.endswith(best.classes[label][-1]) for path, label in zip(paths, found.indices, strict=True))
f"{right} of {len(paths)} right"

# %% [markdown]
# ## What to keep
#
# A page that opens anywhere, and the learning rate of every update for other programs.

# %%
study.report("digits-on-paper.html"), study.export("csv")

# %% [markdown]
# ## Several processes
#
# Other processes cannot see this notebook. Put the functions in a file, and they can, and so can the command line and
# other machines.

# %%
functions = "\n\n".join(inspect.getsource(function) for function in (block, build))
Path("net.py").write_text(f"from torch import nn\n\n\n{functions}", "utf-8")

import net

by_two = lrsearch.search(data=pictures, model=net.build, trials=6, epochs=8, workers=2, name="digits-by-two")
by_two.best

# %% [markdown]
# Now a program can find it that trains the winner without lrsearch:

# %%
print(by_two.export("torch").read_text("utf-8")[:700])
