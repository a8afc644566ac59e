"""Model revisions from the Hugging Face hub: what a download needs, and the download itself.

Files are kept in huggingface_hub's own cache layout, so caches filled by other tools serve too. Since release 1.18
huggingface_hub discards what an interrupted download has got; weights that come over plain HTTP are therefore written
to an `.incomplete` blob here, which a later attempt, or a later run, carries on. What comes over Xet (the real hub's
transfer protocol) is left to huggingface_hub: there an interrupted file starts anew, finished ones are kept.
"""

import difflib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

# HTTPError is the HTTP client's own: of httpx or httpx2, whichever this huggingface_hub is built on.
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
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, validate_repo_id
from tqdm import tqdm

from jtrace.checkpoints.listing import (
    SMALL_FILES,
    Listing,
    RemoteFile,
    bytes_text,
    needed,
    shards,
    small_files,
    some,
)
from jtrace.checkpoints.transfer import (
    discard,
    download_resumably,
    is_transient,
    note,
    passing_on,
    patiently,
    size_of,
    spoilt,
)
from jtrace.checkpoints.weights import WEIGHT_FILES, weight_files
from jtrace.errors import InputError
from jtrace.progress import Bar

SPARE_BYTES = 512 << 20
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
SAMPLE_BYTES, SAMPLE_SECONDS, SAMPLE_CHUNK = 32 << 20, 5.0, 1 << 16
DIGITS = re.compile(r"\d+")


class UnreachableError(InputError):
    """The hub does not answer: no connection, server errors, or HF_HUB_OFFLINE."""


@dataclass(frozen=True)
class Hub:
    """Where models come from and where they are kept. Authentication is huggingface_hub's (HF_TOKEN, stored login).

    Attributes:
        cache_dir: the cache; None is huggingface_hub's default.
        endpoint: the hub's address; None is huggingface_hub's default (HF_ENDPOINT).
        waits: seconds before each further attempt after a transient fault.
    """

    cache_dir: Path | None = None
    endpoint: str | None = None
    waits: Sequence[float] = field(default=WAITS, repr=False)

    def revisions(self, repo: str) -> list[str]:
        """The names of all branches and tags of a repository, sorted.

        Raises:
            InputError: no such repository, no access, or the hub cannot be reached.
        """
        # Not by HfApi.list_repo_refs: it has no timeout.
        url = f"{self._address}/api/models/{repo}/refs"

        def ask() -> Any:
            reply = get_session().get(url, headers=build_hf_headers(), timeout=constants.HF_HUB_ETAG_TIMEOUT)
            hf_raise_for_status(reply)
            return reply.json()

        with self._explained(repo):
            validate_repo_id(repo)
            refs = patiently(ask, self.waits)
            return sorted({ref["name"] for kind in ("branches", "tags") for ref in refs.get(kind, ())})

    def look(self, repo: str, revision: str, weights: bool = True) -> Listing:
        """What a download of a revision needs; no weights are moved.

        While the hub cannot be reached (no connection, server errors, HF_HUB_OFFLINE=1), the cache answers if it
        holds the whole revision, as `fetch` leaves it.

        Args:
            repo: `namespace/name`.
            revision: a branch, a tag or a commit hash.
            weights: whether they are needed; else config and tokeniser are all.

        Raises:
            InputError: no such repository or revision, no access, no config.json, no weights that jtrace reads, or
                the hub cannot be reached and the cache does not hold the revision.
        """
        where = f"{repo}@{revision}"
        if not revision or {"", ".", ".."} & set(revision.split("/")):
            raise InputError(f"{where}: not the name of a branch or tag; write repository@revision")
        with self._explained(repo, revision):
            cached = self._cached(repo, revision, weights)
            try:
                info = patiently(
                    lambda: self._api.model_info(
                        repo, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
                    ),
                    # An absent hub is not waited for where the cache can answer.
                    self.waits[:1] if cached else self.waits,
                )
            except (HTTPError, OSError) as error:
                if cached and (is_transient(error) or isinstance(error, OfflineModeIsEnabled)):
                    return cached
                raise
        if not info.sha or info.siblings is None or any(file.size is None for file in info.siblings):
            raise InputError(f"{where}: {self._address} does not tell commit and file sizes; is it a hub?")
        # A folder inside the repository holds something else: an optimiser's state, an earlier checkpoint, a variant.
        files = {
            file.rfilename: RemoteFile(
                file.rfilename, file.size or 0, (file.lfs.sha256 if file.lfs else file.blob_id) or ""
            )
            for file in info.siblings
            if "/" not in file.rfilename
        }
        if not weights:
            return Listing(repo, revision, info.sha, tuple(small_files(files)), ())
        small, chosen = needed(files, where)
        shards_ = [chosen]
        if chosen.name.endswith(".json"):
            small.append(chosen)
            index = Listing(repo, revision, info.sha, (chosen,), ())
            shards_ = shards(self.fetch_small(index) / chosen.name, f"{where}: {chosen.name}", files)
        return Listing(repo, revision, info.sha, tuple(small), tuple(shards_))

    def fetch_small(self, listing: Listing) -> Path:
        """Bring config.json, tokeniser files and weight index into the cache.

        Returns:
            The folder that holds them.

        Raises:
            InputError: as `fetch`.
        """
        return self._fetch(listing, listing.small, None)

    def fetch(self, listing: Listing, progress: str | None = None, stop: Event | None = None) -> Path:
        """Bring all files of a listing into the cache; only what is missing moves.

        Args:
            listing: from `look`.
            progress: label of a bar over bytes, shown on terminals; None shows none.
            stop: ends the download, by `StoppedError`, once it is set; the next one goes on with what has come.

        Returns:
            The folder that holds them, for `load_params`.

        Raises:
            InputError: the disk is too small (said before anything moves), no access, the hub cannot be reached or
                keeps failing, or it sent other bytes than it had listed (they are thrown away).
        """
        self.check_space([listing])
        folder = self._fetch(listing, listing.files, progress, stop)
        self._note(listing)
        return folder

    def holds(self, listing: Listing, file: RemoteFile) -> bool:
        """Whether the cache holds a file of a listing whole, of this revision or of another."""
        blob = self._storage(listing.repo) / "blobs" / (file.blob or "-")
        return file.size in (size_of(self._folder(listing) / file.name), size_of(blob))

    def evict(self, repo: str, commit: str, files: Iterable[str], blobs: Iterable[str]) -> None:
        """Remove files of a commit from the cache, and blobs unless another commit's files are the same.

        Args:
            files: names.
            blobs: names; what an interrupted download has left of one goes as well.
        """
        storage = self._storage(repo)
        for name in files:
            (storage / "snapshots" / commit / name).unlink(missing_ok=True)
        links = (path for path in (storage / "snapshots").rglob("*") if path.is_symlink())
        for blob in set(blobs) - {os.path.basename(os.readlink(path)) for path in links}:
            for path in (storage / "blobs" / blob, storage / "blobs" / f"{blob}.incomplete"):
                path.unlink(missing_ok=True)

    def _note(self, listing: Listing) -> None:
        """Let the cache know a revision by its name, once its files are there; a read-only cache serves without."""
        if listing.revision != listing.commit:
            with suppress(OSError):
                note(self._storage(listing.repo) / "refs" / listing.revision, listing.commit)

    def check_space(self, listings: Sequence[Listing]) -> None:
        """Refuse a download that the cache's disk cannot hold.

        Raises:
            InputError: what is missing of the listings, and some to spare, is more than is free.
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
        """How many bytes of the listings the cache does not hold yet; a file that several share counts once."""
        missing: dict[tuple[str, str], int] = {}
        for listing in listings:
            blobs = self._storage(listing.repo) / "blobs"
            for file in listing.files:
                key = (listing.repo, file.blob or f"{listing.commit}/{file.name}")
                if self.holds(listing, file):
                    missing[key] = 0
                else:
                    missing[key] = max(0, file.size - (size_of(blobs / f"{file.blob}.incomplete") or 0))
        return sum(missing.values())

    def fetch_tokenizer(self, repo: str) -> Path:
        """Bring the tokeniser of a repository's `main` into the cache.

        Returns:
            The folder that holds it.

        Raises:
            InputError: as `fetch`.
        """
        listing = self.look(repo, "main", weights=False)
        folder = self.fetch_small(listing)
        self._note(listing)
        return folder

    def measured_rate(self, listing: Listing) -> float:
        """Bytes per second of a piece of the first weight file, downloaded and thrown away.

        Raises:
            InputError: as `fetch`.
        """
        file = listing.weights[0]
        url = hf_hub_url(listing.repo, file.name, revision=listing.commit, endpoint=self._address)
        headers = build_hf_headers() | {"Range": f"bytes=0-{min(file.size, SAMPLE_BYTES) - 1}"}
        with self._explained(listing.repo, listing.revision):
            started, received = time.perf_counter(), 0
            about: dict[str, Any] = {"headers": headers, "follow_redirects": True}
            with get_session().stream("GET", url, timeout=constants.HF_HUB_ETAG_TIMEOUT, **about) as reply:
                hf_raise_for_status(reply)
                for chunk in reply.iter_bytes(SAMPLE_CHUNK):
                    received += len(chunk)
                    # A server may not know ranges, or be slow.
                    if received >= SAMPLE_BYTES or time.perf_counter() - started > SAMPLE_SECONDS:
                        break
        return received / (time.perf_counter() - started)

    @property
    def _address(self) -> str:
        return (self.endpoint or constants.ENDPOINT).rstrip("/")

    @property
    def _api(self) -> HfApi:
        return HfApi(endpoint=self._address)

    @property
    def cache(self) -> Path:
        """The folder that holds the downloads; it may not exist yet."""
        return Path(self.cache_dir or constants.HF_HUB_CACHE).expanduser().absolute()

    def _storage(self, repo: str) -> Path:
        return self.cache / repo_folder_name(repo_id=repo, repo_type="model")

    def _folder(self, listing: Listing) -> Path:
        return self._storage(listing.repo) / "snapshots" / listing.commit

    def free_bytes(self) -> int:
        """Free space on the cache's disk."""
        return shutil.disk_usage(next(path for path in (self.cache, *self.cache.parents) if path.exists())).free

    def _cached(self, repo: str, revision: str, weights: bool = True) -> Listing | None:
        """The revision as the cache holds it; None unless it is whole."""
        ref = self._storage(repo) / "refs" / revision
        commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
        folder = self._storage(repo) / "snapshots" / commit
        try:
            held = [path.name for path in weight_files(folder)] if weights else []
        except InputError:
            return None
        indexes = [name for name in WEIGHT_FILES if name.endswith(".json")]
        small = [name for name in (*SMALL_FILES, *indexes) if (folder / name).is_file()]
        if not small or (weights and "config.json" not in small):
            return None

        def sized(names: list[str]) -> tuple[RemoteFile, ...]:
            return tuple(RemoteFile(name, (folder / name).stat().st_size) for name in names)

        return Listing(repo, revision, commit, sized(small), sized(held))

    def _fetch(
        self, listing: Listing, files: Sequence[RemoteFile], progress: str | None, stop: Event | None = None
    ) -> Path:
        folder = self._folder(listing)
        start = listing.size - self.missing_bytes(listing)
        with (
            self._explained(listing.repo, listing.revision),
            Bar(total=listing.size, initial=start, desc=progress, unit="B", unit_scale=True) as bar,
        ):
            for file in files:
                path = folder / file.name
                if size_of(path) == file.size:
                    continue
                if path.is_file():
                    discard(path)
                self._patiently(listing, partial(self._download, listing, file, passing_on(bar, stop)))
                if (size := size_of(path)) != file.size:
                    discard(path)
                    raise InputError(spoilt(listing, file, size))
                # What was sent twice counts once.
                bar.update(listing.size - self.missing_bytes(listing) - bar.n)
        return folder

    def _patiently(self, listing: Listing, download: Callable[[], None]) -> None:
        """Download in as many attempts as it takes, so long as something comes while we are patient."""
        while True:
            missing = self.missing_bytes(listing)
            try:
                return patiently(download, self.waits)
            except HTTPError as error:
                if not is_transient(error) or self.missing_bytes(listing) >= missing:
                    raise

    def _download(self, listing: Listing, file: RemoteFile, bar: type[tqdm]) -> None:
        place: dict[str, Any] = {"filename": file.name, "revision": listing.commit, "endpoint": self._address}
        if file in listing.weights and file.blob:
            url = hf_hub_url(listing.repo, **place)
            if constants.HF_HUB_DISABLE_XET or get_hf_file_metadata(url).xet_file_data is None:
                download_resumably(listing, file, url, self._storage(listing.repo), bar)
        hf_hub_download(listing.repo, cache_dir=self.cache, tqdm_class=bar, **place)

    @contextmanager
    def _explained(self, repo: str, revision: str | None = None) -> Iterator[None]:
        """Turn what huggingface_hub raises into one line that says what to do."""
        where = f"{repo}@{revision}" if revision else repo
        again = "the same command goes on with what is missing"
        try:
            yield
        except GatedRepoError:
            raise InputError(
                f"{where}: gated; accept its terms at {self._address}/{repo}, then set HF_TOKEN or run `hf auth login`"
            ) from None
        except RepositoryNotFoundError:
            raise InputError(
                f"{where}: no such model on {self._address}, or a private one; check the id, or set HF_TOKEN (or run "
                "`hf auth login`) if you have access"
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
            # Only the system's errors have a number; the others are huggingface_hub's checks of what came.
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
        refs = self._storage(repo) / "refs"
        names = sorted(path.relative_to(refs).as_posix() for path in refs.rglob("*") if path.is_file())
        whole = [name for name in names if self._cached(repo, name)]
        return (
            f"{where}: {self._address} cannot be reached ({why}); the same command goes on once it can. Usable without "
            f"it, as the cache {self.cache} holds them whole: {some(whole) or 'no revisions'}"
        )


def _nearest(name: str, names: Sequence[str], most: int = 4) -> list[str]:
    """Names that differ from `name` in their numbers only, the nearest numbers first, then those spelt like it."""

    def distance(other: str) -> tuple[bool, list[float]]:
        if DIGITS.sub("", other) != DIGITS.sub("", name):
            return True, [-difflib.SequenceMatcher(None, name, other).ratio()]
        pairs = zip(DIGITS.findall(name), DIGITS.findall(other), strict=False)
        return False, [abs(int(mine) - int(its)) for mine, its in pairs]

    return sorted(names, key=distance)[:most]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
