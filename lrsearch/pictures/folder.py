"""Pictures in folders: a folder for each class, or train, val and test with such folders in them."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Final

from lrsearch.errors import StudyFileError
from lrsearch.pictures.found import Found, Listing, SetName, composed, given_classes, in_order, no_twins, some
from lrsearch.text import counted, shown

READ: Final = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
"""How the names of pictures end."""
NOT_READ: Final = (".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".tga", ".psd", ".svg", ".eps", ".ico", ".dng")
"""How the names of pictures end that cannot be read here: they are told of as such, and not passed over."""
LEFT_OUT: Final = ("@eaDir", "__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information")
"""Folders that file servers, archives and systems leave behind; ``.ipynb_checkpoints`` is hidden anyway."""
SETS: Final[Mapping[str, SetName]] = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
"""Folders that stand for sets, in any case of letters."""


@dataclass(frozen=True, slots=True)
class _Listed:
    """A file or a folder in a folder."""

    name: str
    path: str
    relative: str
    """To the folder of the data, with ``/``; empty for that folder itself."""
    is_folder: bool
    is_link: bool = False


@dataclass
class _Walk:
    """One walk through a folder: each real folder is entered once, and what is passed over is kept for a sentence."""

    entered: set[tuple[int, int]] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)
    """Hidden files and folders, and those of ``LEFT_OUT``."""
    no_pictures: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    """Links to folders that were entered by another name."""
    empty: list[str] = field(default_factory=list)
    """Folders that could be classes and hold no picture."""
    others: list[str] = field(default_factory=list)
    """Folders beside those of the sets."""
    loose: list[str] = field(default_factory=list)
    """Pictures outside the folders of classes."""

    def folders(self, entries: list[_Listed]) -> list[_Listed]:
        """Return the folders among them; real ones come before links, so that a link never takes the place of one."""
        found = [one for one in entries if one.is_folder]
        return [one for one in sorted(found, key=attrgetter("is_link", "name")) if self._enter(one)]

    def pictures(self, folder: _Listed) -> Iterator[tuple[_Listed, _Listed]]:
        """Yield the pictures in it and in the folders below, and the folder of each."""
        entries = self.listed(folder)
        for one in entries:
            if one.is_folder:
                continue
            if one.name.lower().endswith((*READ, *NOT_READ)):
                yield one, folder
            else:
                self.no_pictures.append(one.relative)
        for inner in self.folders(entries):
            yield from self.pictures(inner)

    def classes(self, entries: list[_Listed], of: SetName | None, group: str | None) -> Iterator[Found]:
        """Yield the pictures of the folders among them, each of which is a class."""
        self.outside(entries)
        for one in self.folders(entries):
            label, any_there = composed(one.name), False
            for picture, folder in self.pictures(one):
                any_there = True
                together = composed(folder.relative) if group == "parent" and folder is not one else ""
                yield Found(composed(picture.relative), Path(picture.path), label, of, together)
            if not any_there:
                self.empty.append(one.relative)

    def outside(self, entries: list[_Listed]) -> None:
        """Keep the names of the pictures among them: they lie beside the folders of classes or of sets."""
        self.loose += [one.relative for one in entries if not one.is_folder and one.name.lower().endswith(READ)]

    def listed(self, folder: _Listed) -> list[_Listed]:
        """Return what lies in a folder, in the order of names.

        Raises:
            StudyFileError: it cannot be read, or two names in it look the same.
        """
        try:
            with os.scandir(folder.path) as found:
                entries = sorted(found, key=attrgetter("name"))
        except OSError as error:
            raise StudyFileError(
                f"dataset.name: the folder {shown(folder.path)} cannot be read: {error.strerror}"
            ) from None
        no_twins([one.name for one in entries], f"the folder {shown(folder.path)}")
        out = []
        for one in entries:
            relative = f"{folder.relative}/{one.name}" if folder.relative else one.name
            if one.name.startswith(".") or one.name in LEFT_OUT:
                self.left_out.append(relative)
            else:
                out.append(_Listed(one.name, one.path, relative, _is_folder(one), one.is_symlink()))
        return out

    def _enter(self, folder: _Listed) -> bool:
        status = os.stat(folder.path)  # noqa: PTH116 - of a path that is text
        known = (status.st_dev, status.st_ino)
        if known in self.entered:
            self.again.append(folder.relative)
            return False
        self.entered.add(known)
        return True

    def warnings(self) -> Iterator[str]:
        """Yield what was passed over."""
        for names, noun, which in (
            (self.left_out, "name", "of hidden files or of a system's own"),
            (self.others, "folder", "beside train, val and test"),
            (self.empty, "folder", "without pictures"),
            (self.loose, "picture", "outside the folders of classes"),
            (self.no_pictures, "file", "whose name does not end as that of a picture"),
            (self.again, "link", "to a folder that was read under another name"),
        ):
            if names:
                yield f"skipped {counted(len(names), noun)} {which}: {some(names, 3)}"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads to itself


def listing(path: str, where: Path | None, *, group: str | None, classes: str | None) -> Listing:
    """Return the pictures of ``folder:PATH``.

    Args:
        path: that PATH.
        where: the folder here, if it is another.
        group: ``parent``, or None.
        classes: the file that names them, or None.

    Raises:
        StudyFileError: no such folder, no pictures in it, one class only, classes that only a set besides train has,
            or names that look the same.
    """
    root = (Path(path) if where is None else where).expanduser().absolute()
    if group not in (None, "parent"):
        raise StudyFileError(
            f"dataset.group: must be 'parent' for a folder, got '{shown(group or '')}'; a column is for csv:FILE"
        )
    if not root.is_dir():
        there = f"{shown(str(root))} is a file" if root.exists() else f"there is no folder {shown(str(root))}"
        raise StudyFileError(
            f"dataset.name: folder:PATH must name a folder of pictures, and {there}; if they lie elsewhere on this "
            f"machine, name that folder with --data-dir"
        )
    walk = _Walk()
    (top,) = walk.folders([_Listed(root.name, str(root), "", is_folder=True)])
    entries = walk.listed(top)
    if sets := _sets(entries, root):
        walk.outside(entries)
        found = [
            picture
            for folder in walk.folders([one for one in entries if one in sets])
            for picture in walk.classes(walk.listed(folder), sets[folder], group)
        ]
        walk.others += [one.name for one in entries if one.is_folder and one not in sets]
    else:
        found = list(walk.classes(entries, None, group))
    if not found:
        raise StudyFileError(_nothing(root, walk.loose))
    order = in_order(found, given_classes(classes, root), f"the folder {shown(str(root))}")
    return Listing(root, tuple(sorted(found, key=attrgetter("name"))), order, tuple(walk.warnings()))


def _sets(entries: list[_Listed], root: Path) -> dict[_Listed, SetName]:
    """Return the folders that stand for sets; none where the folders are classes, one of which may be called train."""
    folders = [one for one in entries if one.is_folder]
    named = {folder: SETS[folder.name.lower()] for folder in folders if folder.name.lower() in SETS}
    kinds = list(named.values())
    if not named or (kinds == ["train"] and len(folders) > 1):
        return {}
    if "train" not in kinds:
        if len(named) < len(folders):
            return {}
        names = " and ".join(folder.name for folder in named)
        raise StudyFileError(f"dataset.name: {root} has {names} and must have train beside it, which it has not")
    for kind in kinds:
        if kinds.count(kind) > 1:
            names = " and ".join(folder.name for folder, one in named.items() if one == kind)
            raise StudyFileError(f"dataset.name: {root} must have one folder of {kind} pictures, got {names}")
    return named


def _nothing(root: Path, loose: list[str]) -> str:
    if loose:
        return (
            f"dataset.name: {root} must hold a folder for each class, and its {counted(len(loose), 'picture')} "
            f"({some(loose, 3)}) lie in none; sort them into folders, or list them in a table: csv:FILE"
        )
    return (
        f"dataset.name: {root} must hold a folder for each class with pictures in it ({' '.join(READ)}), "
        f"and holds no picture"
    )
