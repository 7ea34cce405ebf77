"""Getting a file over http(s), once.

Decisions:
- Bytes go to `NAME.part`; a later call goes on from there with an http Range. It is synced and renamed only after the
  caller's check of its content, so a file of the final name is whole and right.
- A part that fails the check is deleted. If it had been resumed, it is fetched once more from the start: it may have
  begun as another version of the file or on another mirror.
- A part is locked while it is written, so that two processes do not write the same one.
- Connection trouble is retried with growing pauses; an answer such as 404 is final; a server that was never reached is
  asked twice only, so that an offline machine learns it soon.
"""

import errno
import fcntl
import http.client
import logging
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from w2v_inf.errors import UserError

_CHUNK_BYTES = 1 << 18
_RETRY_STATUS = (408, 429, 500, 502, 503, 504)
log = logging.getLogger(__name__)


class CorpusUnavailable(UserError):
    """A corpus that cannot be had from the network now."""


class _CutShort(Exception):
    """The connection ended before the file did."""


def download(
    url: str,
    path: Path,
    check: Callable[[Path], None],
    attempts: int = 5,
    pause_s: float = 1.0,
    timeout_s: float = 15.0,
) -> Path:
    """Fetch `url` into `path` unless it is there; returns `path`.

    Args:
      check: raises UserError if the content of the file it is given is wrong; called before the file gets its name.
      attempts: connections made before giving up. The pause before the next doubles each time, from `pause_s`.
      timeout_s: seconds without a byte after which a connection counts as broken.
    Raises: CorpusUnavailable with the URL if it cannot be had or its content is wrong; UserError if it cannot be stored.
    """
    if path.exists():
        return path
    if not url.startswith(("http://", "https://")):
        raise UserError(f"corpus.url must start with http:// or https://, got {url}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked_part(path) as part:
            if path.exists():  # another process finished it while we waited for the lock
                return path
            _fetch_checked(url, Path(part.name), part, check, attempts, pause_s, timeout_s)
            os.fsync(part.fileno())
            os.rename(part.name, path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"data_dir: cannot write {path}: {error.strerror or error}: choose another data_dir"
            ) from error
        path.with_name(path.name + ".part").unlink(
            missing_ok=True
        )  # a full disk is no place to keep it
        raise UserError(
            f"no space left on device downloading {url} to {path}: free some or choose another data_dir"
        ) from error
    return path


@contextmanager
def _locked_part(path: Path) -> Iterator[BinaryIO]:
    """Open and lock `NAME.part` for appending; removed at the end if nothing is in it."""
    part_path = path.with_name(path.name + ".part")
    while True:
        part = part_path.open("ab")
        fcntl.flock(part, fcntl.LOCK_EX)
        if part_path.exists() and os.path.samestat(os.fstat(part.fileno()), part_path.stat()):
            break
        part.close()  # its holder renamed or deleted it while we waited
    try:
        yield part
    finally:
        if part_path.exists() and part_path.stat().st_size == 0:
            part_path.unlink()
        part.close()


def _fetch_checked(
    url: str,
    part_path: Path,
    part: BinaryIO,
    check: Callable[[Path], None],
    attempts: int,
    pause_s: float,
    timeout_s: float,
) -> None:
    """Fetch all of it and check it; a part begun earlier gets a second chance from the start."""
    resumed = part.seek(0, os.SEEK_END) > 0
    while True:
        _fetch(url, part, attempts, pause_s, timeout_s)
        try:
            return check(part_path)
        except UserError as error:
            part.truncate(0)
            if not resumed:
                raise CorpusUnavailable(
                    f"{url}: what came is not the expected file ({error})"
                ) from error
            log.warning("%s: the resumed download is wrong; starting over", url)
            resumed = False


def _fetch(url: str, part: BinaryIO, attempts: int, pause_s: float, timeout_s: float) -> None:
    """Append what is missing, with retries."""
    reached, reason = False, ""
    for attempt in range(1, attempts + 1):
        have = part.seek(0, os.SEEK_END)
        try:
            with _open(url, have, timeout_s) as response:
                reached = True
                return _append(response, part, have, url)
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"HTTP {error.code} {error.reason}"
            if error.code == 416 and have:  # the part does not fit the file of this server
                part.truncate(0)
            elif error.code not in _RETRY_STATUS:
                raise CorpusUnavailable(
                    f"{url} cannot be had ({reason}): give a mirror with corpus.url or a local zip with corpus.path"
                ) from error
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
            ssl.SSLError,
            _CutShort,
        ) as error:
            reason = str(getattr(error, "reason", "") or error) or type(error).__name__
            if not reached and attempt == 2:
                break
        if attempt < attempts:
            wait_s = pause_s * 2 ** (attempt - 1)
            log.warning(
                "%s: %s; trying again in %.0f s (%d of %d)",
                url,
                reason,
                wait_s,
                attempt + 1,
                attempts,
            )
            time.sleep(wait_s)
    have = part.seek(0, os.SEEK_END)
    kept = f" ({have:,} bytes are kept: run again to go on from there)" if have else ""
    raise CorpusUnavailable(
        f"{url} cannot be had ({reason}){kept}: give a mirror with corpus.url or a local zip with corpus.path"
    )


def _open(url: str, have: int, timeout_s: float) -> http.client.HTTPResponse:
    headers = {"User-Agent": "w2v_inf"} | ({"Range": f"bytes={have}-"} if have else {})
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_s)


def _append(response: http.client.HTTPResponse, part: BinaryIO, have: int, url: str) -> None:
    """Write the response behind what is there, or from the start if the server ignored the Range."""
    if response.status != 206 and have:
        part.truncate(0)
        have = 0
    length = response.headers.get("Content-Length")
    total = have + int(length) if length else 0
    log.info(
        "downloading %s%s%s",
        url,
        f" ({total >> 20} MiB)" if total else "",
        f", going on from {have >> 20} MiB" if have else "",
    )
    reported = time.monotonic()
    while chunk := response.read(_CHUNK_BYTES):
        part.write(chunk)
        have += len(chunk)
        if time.monotonic() - reported > 5:
            reported = time.monotonic()
            log.info("downloading %s: %d of %s MiB", url, have >> 20, total >> 20 or "?")
    part.flush()
    if total and have < total:
        raise _CutShort(f"the connection was cut at {have:,} of {total:,} bytes")
