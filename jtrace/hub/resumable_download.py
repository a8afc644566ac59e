"""Downloads of bytes into a file: resumed, bounded by the listed size, retried, and counted on one bar."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.file_download import xet_get
from huggingface_hub.utils import XetFileData, build_hf_headers, hf_raise_for_status, http_stream_backoff
from tqdm import tqdm

from jtrace.errors import StoppedError

IDENTITY = {"Accept-Encoding": "identity"}
WORTH_SAYING = 4.0  # seconds of waiting

T = TypeVar("T")


def download(url: str, unfinished: Path, size: int, bar: type[tqdm]) -> None:
    """Appends the missing bytes to a file, and at most one byte beyond its size, which shows that there are more.

    Nothing is unpacked: a compressed body counts as another content.

    Args:
        bar: class of a bar that is made and updated with the received bytes.

    Raises:
        HTTPError: the connection fails, or the server refuses; received bytes are kept.
    """
    with unfinished.open("ab") as stream:
        if (start := stream.tell()) >= size:
            return
        headers = build_hf_headers() | IDENTITY | ({"Range": f"bytes={start}-"} if start else {})
        patience: dict[str, Any] = {"retry_on_exceptions": (), "retry_on_status_codes": (408, 429)}
        about = {"headers": headers, "timeout": constants.HF_HUB_DOWNLOAD_TIMEOUT, **patience}
        with http_stream_backoff("GET", url, **about) as reply:
            hf_raise_for_status(reply)
            if reply.status_code != 206:  # the server does not support ranges
                stream.seek(0)
                stream.truncate()
            progress = bar()
            for chunk in reply.iter_raw(constants.DOWNLOAD_CHUNK_SIZE):
                stream.write(chunk[: size + 1 - stream.tell()])
                if stream.tell() > size:
                    return
                progress.update(len(chunk))


def download_by_xet(file: XetFileData, unfinished: Path, size: int, bar: type[tqdm]) -> None:
    """Writes a file by Xet, the real hub's transfer protocol; an interrupted one is thrown away.

    Args:
        file: the hub's data about the file.
        bar: as in `download`.
    """
    unfinished.unlink(missing_ok=True)
    try:
        xet_get(
            incomplete_path=unfinished,
            xet_file_data=file,
            headers=build_hf_headers(),
            expected_size=size,
            tqdm_class=bar,
        )
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def with_retries(call: Callable[[], T], waits: Sequence[float], received_bytes: Callable[[], int] = lambda: 0) -> T:
    """Calls the hub, and again after each wait if the fault is transient; progress resets the waits.

    Args:
        received_bytes: function that returns the bytes received so far; a call that received some is repeated at once.
    """
    left, before = iter(waits), received_bytes()
    while True:
        try:
            return call()
        except HTTPError as error:
            if not is_transient(error):
                raise
            progressed, before = (now := received_bytes()) > before, now
            if progressed:
                left = iter(waits)
            elif (wait := next(left, None)) is None:
                raise
            else:
                if wait >= WORTH_SAYING:
                    tqdm.write(f"the hub fails ({type(error).__name__}), again in {wait:.0f} s", file=sys.stderr)
                time.sleep(wait)


def is_transient(error: Exception) -> bool:
    """Returns whether a fault may pass by itself."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, HTTPError)


def passing_on(bar: tqdm, stop: Event | None = None) -> type[tqdm]:
    """Makes a class for huggingface_hub's bar of a file, which shows nothing and passes bytes on to `bar`.

    Args:
        stop: event that ends the download by `StoppedError`; received bytes are kept.
    """

    class PassingOn(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(disable=True)

        def update(self, n: float | None = 1) -> bool | None:
            if stop is not None and stop.is_set():
                raise StoppedError
            return bar.update(n)

        # Xet reports received bytes beside written ones; a bar that has these methods gets both.
        def update_transfer(self, n: float) -> None: ...

        def set_transfer_postfix_str(self, *args: Any, **kwargs: Any) -> None: ...

    return PassingOn
