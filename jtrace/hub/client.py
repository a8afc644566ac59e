"""Model revisions from the Hugging Face hub: their listings, and their download.

Files are kept in huggingface_hub's cache layout, so caches filled by other tools serve too. They are not fetched by
`hf_hub_download`, which takes a server's ETag as a path, accepts any bytes, and discards what an interrupted download
has received. Here the names, sizes and hashes of the revision's listing are checked first, and the bytes have to be
those listed. Plain HTTP writes to an `.incomplete` blob, which a later attempt or a later run continues. Over Xet (the
real hub's transfer protocol) an interrupted file starts anew.
"""

import difflib
import json
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

# HTTPError belongs to the HTTP client that this huggingface_hub is built on: httpx or httpx2.
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import is_xet_available
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, validate_repo_id
from tqdm import tqdm

from jtrace.errors import InputError
from jtrace.hub.cache import RepositoryCache, SpoiltError
from jtrace.hub.files import (
    Listing,
    RemoteFile,
    check_small,
    is_inner_path,
    needed,
    parse_refs,
    parse_revision,
    shards,
    small_files,
    some,
)
from jtrace.hub.resumable_download import IDENTITY, download, download_by_xet, is_transient, passing_on, with_retries
from jtrace.runtime.budget import bytes_text
from jtrace.runtime.progress import Bar

SPARE_BYTES = 512 << 20
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
LARGEST_ANSWER = 64 << 20  # bytes of a list of files or revisions
SAMPLE_BYTES, SAMPLE_SECONDS, SAMPLE_CHUNK = 32 << 20, 5.0, 1 << 16
DIGITS = re.compile(r"\d+")


class UnreachableError(InputError):
    """The hub does not answer: no connection, server errors, or HF_HUB_OFFLINE."""


@dataclass(frozen=True)
class Hub:
    """A hub to download from, and the cache to keep files in. Authentication is huggingface_hub's (HF_TOKEN, login).

    Attributes:
        cache_dir: the cache; None is huggingface_hub's default.
        endpoint: the hub's address; None is huggingface_hub's default (HF_ENDPOINT).
        waits: seconds before each further attempt after a transient fault.
        kind: kind of the repositories: `model` or `dataset`.
    """

    cache_dir: Path | None = None
    endpoint: str | None = None
    waits: Sequence[float] = field(default=WAITS, repr=False)
    kind: str = "model"

    def revisions(self, repo: str) -> list[str]:
        """Lists the names of all branches and tags of a repository, sorted.

        Raises:
            InputError: no such repository, no access, or the hub cannot be reached.
        """
        with self._as_input_errors(repo):
            validate_repo_id(repo)
            return parse_refs(
                with_retries(lambda: self._answer(f"{repo}/refs"), self.waits), f"{self._address}: {repo}"
            )

    def look(self, repo: str, revision: str, weights: bool = True) -> Listing:
        """Lists the files that a download of a revision needs; no weights are moved.

        While the hub cannot be reached (no connection, server errors, HF_HUB_OFFLINE=1), the cache answers if it
        holds the complete revision, as `fetch` leaves it.

        Args:
            repo: `namespace/name`.
            revision: a branch, a tag or a commit hash.
            weights: whether weights are needed; without them, config and tokeniser suffice.

        Raises:
            InputError: no such repository or revision, no access, no config.json, no weights that jtrace reads, or
                the hub cannot be reached and the cache does not hold the revision.
        """
        where = f"{repo}@{revision}"
        if not is_inner_path(revision):
            raise InputError(f"{where}: not the name of a branch or tag; write repository@revision")
        with self._as_input_errors(repo, revision):
            validate_repo_id(repo)
            cached = self._storage(repo).listing(revision, weights)
            try:
                # Where the cache can answer, an absent hub is not waited for.
                commit, listed = self._files(repo, revision, self.waits[:1] if cached else self.waits)
            except (HTTPError, OSError) as error:
                if cached and (is_transient(error) or isinstance(error, OfflineModeIsEnabled)):
                    return cached
                raise
        # Folders inside a repository hold other things: an optimiser's state, an earlier checkpoint, a variant.
        files = {name: file for name, file in listed.items() if "/" not in name}
        if not weights:
            small, chosen = small_files(files), []
        else:
            nested = sorted(name.removesuffix("/config.json") for name in listed if name.endswith("/config.json"))
            small, first = needed(files, where, nested)
            chosen = [first]
        check_small(small, where)
        if chosen and chosen[0].name.endswith(".json"):
            (index,) = chosen
            check_small([index], where)
            small.append(index)
            folder = self.fetch_small(Listing(repo, revision, commit, (index,), ()))
            chosen = [files[name] for name in shards(folder / index.name, f"{where}: {index.name}", files)]
        return Listing(repo, revision, commit, tuple(small), tuple(chosen))

    def fetch_small(self, listing: Listing) -> Path:
        """Brings config.json, tokeniser files and weight index into the cache.

        Returns:
            The folder that holds them.

        Raises:
            InputError: as `fetch`.
        """
        return self._fetch(listing, listing.small, None)

    def fetch(self, listing: Listing, progress: str | None = None, stop: Event | None = None) -> Path:
        """Brings all files of a listing into the cache; only missing bytes are downloaded.

        Args:
            listing: from `look`.
            progress: label of a bar over bytes, shown on terminals; None shows none.
            stop: event that ends the download by `StoppedError`; the next download continues from there.

        Returns:
            The folder that holds them, for `load_params`.

        Raises:
            InputError: the disk is too small (found before anything moves), access is denied, the hub cannot be reached
                or keeps failing, or it sent other bytes than listed (they are thrown away).
        """
        self.check_space([listing])
        folder = self._fetch(listing, listing.files, progress, stop)
        self._storage(listing.repo).name_revision(listing.revision, listing.commit)
        return folder

    def holds(self, listing: Listing, file: RemoteFile) -> bool:
        """Returns whether the cache holds a complete file of a listing, of this or another revision."""
        return self._storage(listing.repo).holds(listing.commit, file)

    def evict(self, repo: str, commit: str, files: Iterable[str], blobs: Iterable[str]) -> None:
        """Removes files of a commit from the cache, and blobs that no other commit's files link to.

        Args:
            files: names of files.
            blobs: names of blobs; unfinished downloads of them are removed as well.
        """
        self._storage(repo).evict(commit, files, blobs)

    def check_space(self, listings: Sequence[Listing]) -> None:
        """Refuses a download that the cache's disk cannot hold.

        Raises:
            InputError: the missing bytes of the listings, and some to spare, are more than the disk has free.
        """
        missing, free = self.missing_bytes(*listings), self.free_bytes()
        if missing and free < missing + SPARE_BYTES:
            what = str(listings[0]) if len(listings) == 1 else f"{len(listings)} checkpoints"
            raise InputError(
                f"{what}: {bytes_text(missing)} to download (and {bytes_text(SPARE_BYTES)} to spare), but "
                f"{bytes_text(free)} free on the disk of {self.cache}; free some, choose another disk with "
                "--cache_dir, or trace fewer checkpoints"
            )

    def missing_bytes(self, *listings: Listing) -> int:
        """Counts the bytes of the listings that the cache lacks; a file that several listings share counts once."""
        missing: dict[tuple[str, str], int] = {}
        for listing in listings:
            storage = self._storage(listing.repo)
            for file in listing.files:
                held = storage.holds(listing.commit, file)
                missing[listing.repo, file.blob] = 0 if held else max(0, file.size - storage.unfinished_bytes(file))
        return sum(missing.values())

    def fetch_tokenizer(self, repo: str) -> Path:
        """Brings the tokeniser of a repository's `main` into the cache.

        Returns:
            The folder that holds it.

        Raises:
            InputError: as `fetch`.
        """
        listing = self.look(repo, "main", weights=False)
        folder = self.fetch_small(listing)
        self._storage(repo).name_revision(listing.revision, listing.commit)
        return folder

    def fetch_file(self, repo: str, revision: str, name: str) -> Path:
        """Brings one file, of any folder of a repository, into the cache.

        Returns:
            Its path.

        Raises:
            InputError: as `fetch`, or there is no such file.
        """
        with self._as_input_errors(repo, revision):
            validate_repo_id(repo)
            commit, files = self._files(repo, revision, self.waits)
        if name not in files:
            raise InputError(f"{repo}@{revision}: no file {name} on {self._address}; check the name")
        return self.fetch(Listing(repo, revision, commit, (files[name],), ())) / name

    def measured_rate(self, listing: Listing) -> float:
        """Measures bytes per second by downloading a piece of the first weight file, which is thrown away.

        Raises:
            InputError: as `fetch`.
        """
        file = listing.weights[0]
        url = self._url(listing, file)
        headers = build_hf_headers() | IDENTITY | {"Range": f"bytes=0-{min(file.size, SAMPLE_BYTES) - 1}"}
        with self._as_input_errors(listing.repo, listing.revision):
            started, received = time.perf_counter(), 0
            about: dict[str, Any] = {"headers": headers, "follow_redirects": True}
            with get_session().stream("GET", url, timeout=constants.HF_HUB_ETAG_TIMEOUT, **about) as reply:
                hf_raise_for_status(reply)
                for chunk in reply.iter_raw(SAMPLE_CHUNK):
                    received += len(chunk)
                    # A server may not support ranges, or be slow.
                    if received >= SAMPLE_BYTES or time.perf_counter() - started > SAMPLE_SECONDS:
                        break
        return received / (time.perf_counter() - started)

    @property
    def _address(self) -> str:
        return (self.endpoint or constants.ENDPOINT).rstrip("/")

    def _files(self, repo: str, revision: str, waits: Sequence[float]) -> tuple[str, dict[str, RemoteFile]]:
        """Asks for commit and files of a revision."""
        path = f"{repo}/revision/{quote(revision, safe='')}?blobs=true"
        answer = with_retries(lambda: self._answer(path), waits)
        return parse_revision(answer, f"{self._address}: {repo}@{revision}")

    def _answer(self, path: str) -> Any:
        """Asks the hub's API about a repository."""
        about: dict[str, Any] = {"headers": build_hf_headers() | IDENTITY, "follow_redirects": True}
        about["timeout"] = constants.HF_HUB_ETAG_TIMEOUT
        content = bytearray()
        with get_session().stream("GET", f"{self._address}/api/{self.kind}s/{path}", **about) as reply:
            hf_raise_for_status(reply)
            for chunk in reply.iter_raw():
                content += chunk
                if len(content) > LARGEST_ANSWER:
                    raise ValueError(f"its answer is longer than {bytes_text(LARGEST_ANSWER)}")
        try:
            return json.loads(content)
        except RecursionError:
            raise ValueError("its answer is nested too deeply") from None

    @property
    def cache(self) -> Path:
        """The folder that holds the downloads; it may not exist yet."""
        return Path(self.cache_dir or constants.HF_HUB_CACHE).expanduser().absolute()

    def _url(self, listing: Listing, file: RemoteFile) -> str:
        about: dict[str, Any] = {"repo_type": self.kind, "revision": listing.commit, "endpoint": self._address}
        return hf_hub_url(listing.repo, file.name, **about)

    def _storage(self, repo: str) -> RepositoryCache:
        return RepositoryCache(self.cache, repo, self.kind)

    def free_bytes(self) -> int:
        """Free space on the cache's disk."""
        return shutil.disk_usage(next(path for path in (self.cache, *self.cache.parents) if path.exists())).free

    def _fetch(
        self, listing: Listing, files: Sequence[RemoteFile], progress: str | None, stop: Event | None = None
    ) -> Path:
        storage = self._storage(listing.repo)
        start = listing.size - self.missing_bytes(listing)
        with (
            self._as_input_errors(listing.repo, listing.revision),
            Bar(total=listing.size, initial=start, desc=progress, unit="B", unit_scale=True) as bar,
        ):
            for file in files:
                if storage.has(listing.commit, file):
                    continue
                source = partial(self._download, listing, file, passing_on(bar, stop))
                bring = partial(storage.bring, listing.commit, file, source)
                with_retries(bring, self.waits, partial(storage.unfinished_bytes, file))
                # Bytes that were sent twice count once.
                bar.update(listing.size - self.missing_bytes(listing) - bar.n)
        return storage.snapshot(listing.commit)

    def _download(self, listing: Listing, file: RemoteFile, bar: type[tqdm], unfinished: Path) -> None:
        url = self._url(listing, file)
        xet = None
        if file in listing.weights and is_xet_available():
            xet = get_hf_file_metadata(url).xet_file_data
        if xet:
            download_by_xet(xet, unfinished, file.size, bar)
        else:
            download(url, unfinished, file.size, bar)

    @contextmanager
    def _as_input_errors(self, repo: str, revision: str | None = None) -> Iterator[None]:
        """Turns exceptions of huggingface_hub into one line that says what to do."""
        where = f"{repo}@{revision}" if revision else repo
        again = "the same command goes on with what is missing"
        try:
            yield
        except SpoiltError as error:
            raise InputError(f"{where}: {error}") from None
        except GatedRepoError:
            raise InputError(
                f"{where}: gated; accept its terms at {self._address}/{repo}, then set HF_TOKEN or run `hf auth login`"
            ) from None
        except RepositoryNotFoundError:
            raise InputError(
                f"{where}: no such {self.kind} on {self._address}, or a private one; check the id, or set HF_TOKEN "
                "(or run `hf auth login`) if you have access"
            ) from None
        except RevisionNotFoundError:
            names = self.revisions(repo)
            raise InputError(
                f"{where}: no such revision; nearest of the {len(names)} that there are: "
                f"{', '.join(_nearest(revision or '', names))}"
            ) from None
        except HFValidationError as error:
            raise InputError(f"'{repo}' is no repository of the hub ({_line(error)}); write namespace/name") from None
        except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
            raise UnreachableError(self._unreachable(repo, where, error.__cause__ or error)) from None
        except HTTPError as error:
            if is_transient(error):
                raise UnreachableError(self._unreachable(repo, where, error)) from None
            refused = isinstance(error, HfHubHTTPError) and error.response.status_code == 401
            what = "refuses the token; check HF_TOKEN" if refused else f"refuses ({_line(error)})"
            raise InputError(f"{where}: {self._address} {what}; {again}") from None
        except OSError as error:
            # Only errors of the system have a number; the others come from huggingface_hub's checks of the content.
            what = f"the cache {self.cache} fails" if error.errno else "a file did not come as announced"
            raise InputError(f"{where}: {what} ({_line(error)}); {again}") from None
        except (ValueError, KeyError) as error:
            raise InputError(f"{where}: {self._address} does not answer like a hub ({_line(error)})") from None

    def _unreachable(self, repo: str, where: str, reason: BaseException) -> str:
        match reason:
            case OfflineModeIsEnabled():
                why = "HF_HUB_OFFLINE is set"
            case HfHubHTTPError():
                why = f"HTTP {reason.response.status_code}"
            case _:
                why = f"{type(reason).__name__}: {_line(reason)}"
        storage = self._storage(repo)
        whole = [name for name in storage.revisions() if storage.listing(name)]
        return (
            f"{where}: {self._address} cannot be reached ({why}); the same command goes on once it can. Usable without "
            f"it, as the cache {self.cache} holds them whole: {some(whole) or 'no revisions'}"
        )


def hub_in(cache_dir: str | Path | None) -> Hub:
    """Returns the hub whose downloads lie in a folder laid out as HF_HOME; None is Hugging Face's own."""
    return Hub(Path(cache_dir) / "hub" if cache_dir else None)


def _nearest(name: str, names: Sequence[str], most: int = 4) -> list[str]:
    """Returns names that differ from `name` in their numbers only, nearest first, then those spelt like it."""

    def distance(other: str) -> tuple[bool, list[float]]:
        if DIGITS.sub("", other) != DIGITS.sub("", name):
            return True, [-difflib.SequenceMatcher(None, name, other).ratio()]
        pairs = zip(DIGITS.findall(name), DIGITS.findall(other), strict=False)
        return False, [abs(int(mine) - int(its)) for mine, its in pairs]

    return sorted(names, key=distance)[:most]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
