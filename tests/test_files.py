# SPDX-License-Identifier: LGPL-2.1-or-later

"""A file is written completely or not at all, and nothing but a regular file is ever replaced."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from drgn_vmemmap.files import atomic_file


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def write(path: Path, content: bytes = b"new", **options: bool | int) -> None:
    with atomic_file(str(path), **options) as file:  # type: ignore[arg-type]
        file.write(content)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path: Path) -> None:
    write(tmp_path / "report")
    write(tmp_path / "program", mode=0o777)
    assert (mode(tmp_path / "report"), mode(tmp_path / "program")) == (0o640, 0o750)


@pytest.mark.usefixtures("umask")
def test_a_file_that_is_replaced_hands_on_who_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.write_text("old")
    path.chmod(0o604)
    write(path)
    assert (path.read_bytes(), mode(path)) == (b"new", 0o604)
    write(path, mode=0o777)
    assert mode(path) == 0o604 | 0o110


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_file_that_is_replaced_hands_on_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.write_text("old")
    path.chmod(0o600)
    os.chown(path, 1234, 2345)
    write(path)
    status = path.stat()
    assert (status.st_uid, status.st_gid, mode(path)) == (1234, 2345, 0o600)


def test_a_file_whose_owner_cannot_be_kept_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, user: int, group: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    path = tmp_path / "report"
    path.write_text("old")
    write(path)
    assert path.read_bytes() == b"new"


def test_a_file_is_not_touched_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.write_text("old")
    with atomic_file(str(path)) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("error", (KeyboardInterrupt, ValueError, OSError))
def test_what_fails_half_way_leaves_everything_as_it_was(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "report"
    path.write_text("old")
    with pytest.raises(error), atomic_file(str(path)) as file:
        file.write(b"half")
        raise error
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_the_name_of_the_temporary_file_cannot_be_guessed(tmp_path: Path) -> None:
    names = set()
    for number in range(16):
        with atomic_file(str(tmp_path / "report")) as file:
            (temporary,) = tmp_path.glob(".*")
            assert file.name == str(temporary)
            names.add(temporary.name)
        assert len(names) == number + 1


def test_a_file_is_replaced_where_a_symbolic_link_leads(tmp_path: Path) -> None:
    target, link = tmp_path / "directory" / "target", tmp_path / "link"
    target.parent.mkdir()
    link.symlink_to("directory/target")
    write(link, b"first")  # nothing is there yet
    write(link)
    assert link.is_symlink() and target.read_text() == "new"


def test_a_fifo_is_written_to(tmp_path: Path) -> None:
    path, seen = tmp_path / "fifo", list[bytes]()
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: seen.append(path.read_bytes()))
    reader.start()
    write(path)
    reader.join(10)
    assert seen == [b"new"] and path.is_fifo()


def test_a_device_is_written_to(tmp_path: Path) -> None:
    # The numbers of /dev/null, in a node of our own.
    path = tmp_path / "null"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        path.open("wb").close()
    except PermissionError:
        pytest.skip("device nodes need root, and a file system that is not mounted nodev")
    before = path.stat()
    write(path)
    assert path.is_char_device() and path.stat().st_ino == before.st_ino
    assert [*tmp_path.iterdir()] == [path]


def test_an_error_names_the_file_of_the_user(tmp_path: Path) -> None:
    for path, number in (
        (tmp_path, errno.EISDIR),
        (tmp_path / "no" / "report", errno.ENOENT),
        (Path("/dev/full"), errno.ENOSPC),
    ):
        with pytest.raises(OSError) as raised:
            write(path)
        assert (raised.value.errno, raised.value.filename) == (number, str(path))


def test_a_full_file_system_names_the_file_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "report"
    with pytest.raises(OSError) as raised, atomic_file(str(path)):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert raised.value.filename == str(path)


def test_the_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(OSError) as raised, atomic_file(str(tmp_path / "report")):
        open(tmp_path / "other")  # noqa: SIM115
    assert raised.value.filename == str(tmp_path / "other")


def test_a_file_that_must_be_new_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_text("old")
    with pytest.raises(FileExistsError):
        write(path, must_be_new=True)
    path.unlink()
    with pytest.raises(FileExistsError), atomic_file(str(path), must_be_new=True) as file:
        file.write(b"new")
        path.write_text("appeared meanwhile")
    assert path.read_text() == "appeared meanwhile"
    path.unlink()
    write(path, must_be_new=True)
    assert path.read_text() == "new"
    assert [*tmp_path.iterdir()] == [path]
