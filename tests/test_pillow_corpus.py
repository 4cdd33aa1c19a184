"""Pillow's own test pictures through the decoder: a picture or a sentence, no crash, no hang, and little memory.

They come with Pillow's source, which is not carried here: ``pip download --no-deps --no-binary pillow pillow``, unpack
it, and name its folder ``Tests/images`` in ``LRSEARCH_PILLOW_IMAGES``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

VARIABLE = "LRSEARCH_PILLOW_IMAGES"
WHERE = os.environ.get(VARIABLE)
"""Read before the variables of the shell are taken away."""

MOST_BYTES = 1 << 30
MOST_SECONDS = 120.0
"""Of all pictures together: with both cores busy they took 7 seconds."""

CHILD = """
import json, resource, sys, warnings
from pathlib import Path
from lrsearch.pictures import decode
from lrsearch.pictures.decode import Decoding, PictureError

warnings.simplefilter("error")
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
said, n_pictures = [], 0
for path in sorted(one for one in Path(sys.argv[1]).rglob("*") if one.is_file()):
    print(path, flush=True)
    try:
        content = decode.read_file(path)
        header = decode.header(content, path)
        assert header.width > 0 < header.height, path
        for how in (Decoding(64, 64, 3, "pad"), Decoding(64, 64, 1, "crop"), Decoding(300, 200, 3)):
            pixels = decode.decode(content, how, path).pixels
            assert pixels.shape == (how.channels, how.height, how.width), path
        n_pictures += 1
    except PictureError as error:
        said.append(str(error))
print(json.dumps([n_pictures, said, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""


@pytest.mark.slow
def test_every_picture_of_pillow_is_a_picture_or_one_sentence() -> None:
    if WHERE is None or not Path(WHERE).is_dir():
        pytest.skip(f"{VARIABLE} names no folder with the test pictures of Pillow's source")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, WHERE, str(MOST_BYTES)], capture_output=True, text=True, timeout=MOST_SECONDS
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"at {lines[-1:]}: {done.stderr[-2000:]}"
    n_pictures, said, n_bytes = json.loads(lines[-1])
    assert n_pictures > 500
    assert len(said) > 100
    assert n_bytes < MOST_BYTES
    assert not [sentence for sentence in said if "\n" in sentence or "Error" in sentence]
