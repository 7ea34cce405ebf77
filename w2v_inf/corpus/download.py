"""Download a file over http(s), once, and resume an interrupted download.

Decisions:
- Not pooch: its downloaders start from the first byte again, and these files have up to 323 MB.
- Bytes go to `NAME.part`. A later call continues there, with an http Range. The file gets its name
  only after it is synced and the caller has checked it, so a file of that name is right.
- A part that fails the check is deleted. If it was resumed, it is downloaded once more from the
  start: it may have begun as another version of the file or on another mirror.
- A part is locked while it is written, so that two processes do not write to the same one.
- Connection errors are retried after growing pauses. An answer such as 404 is final. A server that
  was never reached is tried twice only, so that an offline user does not wait long.
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
    """The corpus cannot be downloaded now."""


class _ConnectionCut(Exception):
    """The connection ended before the file did."""


def download(
    url: str,
    path: Path,
    check: Callable[[Path], None],
    attempts: int = 5,
    pause_s: float = 1.0,
    timeout_s: float = 15.0,
    advice: str = "give a mirror with corpus.url or a local zip with corpus.path",
) -> Path:
    """Download `url` to `path`, unless that exists; returns `path`.

    Args:
      check: raises UserError if the content of the file given to it is wrong. It is called before
        the file gets its name.
      attempts: connections before giving up.
      pause_s: pause before the second attempt, seconds; it doubles each time.
      timeout_s: seconds without a byte after which a connection counts as broken.
      advice: what the user can do if the file cannot be downloaded.
    Raises: CorpusUnavailable, with the URL, if the file cannot be downloaded or its content is
      wrong; UserError if it cannot be stored.
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
            _download_checked(url, part, check, attempts, pause_s, timeout_s, advice)
            os.fsync(part.fileno())
            os.rename(part.name, path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"data_dir: cannot write {path}: {error.strerror or error}: choose another data_dir"
            ) from error
        path.with_name(path.name + ".part").unlink(missing_ok=True)  # the disk is full
        advice = "free some or choose another data_dir"
        raise UserError(f"no space left on device downloading {url} to {path}: {advice}") from error
    return path


@contextmanager
def _locked_part(path: Path) -> Iterator[BinaryIO]:
    """Open and lock `NAME.part` for appending; delete it at the end if it is empty."""
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


def _download_checked(
    url: str,
    part: BinaryIO,
    check: Callable[[Path], None],
    attempts: int,
    pause_s: float,
    timeout_s: float,
    advice: str,
) -> None:
    """Download all of it and check it; a resumed part gets a second chance from the start."""
    resumed = part.seek(0, os.SEEK_END) > 0
    while True:
        _download_rest(url, part, attempts, pause_s, timeout_s, advice)
        try:
            return check(Path(part.name))
        except UserError as error:
            part.truncate(0)
            if not resumed:
                raise CorpusUnavailable(
                    f"{url}: what came is not the expected file ({error})"
                ) from error
            log.warning("%s: the resumed download is wrong; starting over", url)
            resumed = False


def _download_rest(
    url: str, part: BinaryIO, attempts: int, pause_s: float, timeout_s: float, advice: str
) -> None:
    """Append the missing bytes, with retries."""
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
                    f"{url} cannot be downloaded ({reason}): {advice}"
                ) from error
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
            ssl.SSLError,
            _ConnectionCut,
        ) as error:
            reason = str(getattr(error, "reason", "") or error) or type(error).__name__
            if not reached and attempt == 2:
                break
        if attempt < attempts:
            wait_s = pause_s * 2 ** (attempt - 1)
            what_next = f"trying again in {wait_s:.0f} s ({attempt + 1} of {attempts})"
            log.warning("%s: %s; %s", url, reason, what_next)
            time.sleep(wait_s)
    have = part.seek(0, os.SEEK_END)
    kept = f" ({have:,} bytes are kept: run again to continue)" if have else ""
    raise CorpusUnavailable(f"{url} cannot be downloaded ({reason}){kept}: {advice}")


def _open(url: str, have: int, timeout_s: float) -> http.client.HTTPResponse:
    headers = {"User-Agent": "w2v_inf"} | ({"Range": f"bytes={have}-"} if have else {})
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_s)


def _append(response: http.client.HTTPResponse, part: BinaryIO, have: int, url: str) -> None:
    """Append the response, or write it from the start if the server ignored the Range."""
    if response.status != 206 and have:
        part.truncate(0)
        have = 0
    length = response.headers.get("Content-Length")
    total = have + int(length) if length else 0
    size = f" ({total >> 20} MiB)" if total else ""
    start = f", continuing at {have >> 20} MiB" if have else ""
    log.info("downloading %s%s%s", url, size, start)
    reported = time.monotonic()
    while chunk := response.read(_CHUNK_BYTES):
        part.write(chunk)
        have += len(chunk)
        if time.monotonic() - reported > 5:
            reported = time.monotonic()
            log.info("downloading %s: %d of %s MiB", url, have >> 20, total >> 20 or "?")
    part.flush()
    if total and have < total:
        raise _ConnectionCut(f"the connection was cut at {have:,} of {total:,} bytes")
