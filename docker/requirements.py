"""Print what lrsearch needs, a line each: the dependencies of pyproject.toml and of the extras that are named.

    python requirements.py pyproject.toml s3,gcs

For the image, where they are a layer of their own, below lrsearch.
"""

import sys
import tomllib
from pathlib import Path


def main(path: str, extras: str) -> None:
    """Print them.

    Raises:
        SystemExit: lrsearch has no such extra.
    """
    project = tomllib.loads(Path(path).read_text("utf-8"))["project"]
    known = project["optional-dependencies"]
    asked = [extra.strip() for extra in extras.split(",") if extra.strip()]
    if unknown := sorted(set(asked) - set(known)):
        sys.exit(f"EXTRAS must name extras of lrsearch ({', '.join(sorted(known))}), got {', '.join(unknown)}")
    print(*project["dependencies"], *(line for extra in asked for line in known[extra]), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
