"""Push and pull of keeper files; what arrives is verified before it has its name (container: huggingface_hub).

The token is huggingface_hub's own (`hf auth login`, HF_TOKEN), and is never taken as an option or written anywhere.
Messages hold no text of the server's answer.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import logging

from nnunet_uhf.errors import UHFError
from nnunet_uhf.imageio.output import file_sha256, require_new, written_whole
from nnunet_uhf.keepers.file import read_keeper, require_name
from nnunet_uhf.keepers.header import KeeperHeader
from nnunet_uhf.sharing.card import model_card

ENDPOINT_VARIABLE = "HF_ENDPOINT"
# of the library below huggingface_hub, which is another one in each of its generations
_TRANSPORT = HfHubHTTPError.__bases__
_HASH = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}\.safetensors")


@dataclass(frozen=True)
class Shared:
    """A keeper file on the Hub.

    Attributes:
        repo: OWNER/NAME.
        name: of the file there.
        revision: commit that holds it.
        sha256: of the whole file.
        header: of the keeper.
    """

    repo: str
    name: str
    revision: str
    sha256: str
    header: KeeperHeader


def push(path: Path, repo: str, *, name: str | None = None, private: bool = False) -> Shared:
    """Put a keeper file and its model card into a repository, in one commit; it is made where there is none.

    Args:
        path: keeper file, which is verified first.
        repo: OWNER/NAME.
        name: of the file there; None for its own.
        private: of a repository that is made.

    Raises:
        UHFError: no keeper file, an unusable name, or no access.
    """
    file = read_keeper(path)
    path = file.path
    name = checked_name(name or path.name)
    sha256 = file_sha256(path)
    card = model_card(file.header, name=name, repo=repo, sha256=sha256)
    api = HfApi(endpoint=_endpoint())
    with _told(repo, None):
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.create_commit(
            repo,
            [CommitOperationAdd(name, path), CommitOperationAdd("README.md", card.encode())],
            commit_message=f"Add {name}",
        )
    return Shared(repo, name, str(commit.oid), sha256, file.header)


def pull(
    repo: str,
    output: Path,
    *,
    name: str | None = None,
    revision: str = "main",
    sha256: str | None = None,
    overwrite: bool = False,
) -> Shared:
    """Fetch a keeper file, verify it, and only then give it its name.

    The cache of huggingface_hub is used; with HF_HUB_OFFLINE=1 or without a network it is all there is.

    Args:
        repo: OWNER/NAME.
        output: keeper file to write.
        name: of the file there; None for that of `output`.
        revision: commit, tag or branch.
        sha256: that the whole file has to have; None verifies it against its own header alone.
        overwrite: replace a file that is there.

    Raises:
        UHFError: another hash, no such repository, revision or file, no network, or no keeper file.
    """
    require_new(require_name(output), overwrite=overwrite)
    name = checked_name(name or output.name)
    if sha256 is not None and _HASH.fullmatch(sha256) is None:
        raise UHFError(f"--sha256 {sha256!r:.80}: give the 64 hexadecimal digits that push printed")
    with _told(repo, revision, name):
        cached = Path(str(hf_hub_download(repo, name, revision=revision, endpoint=_endpoint())))
    with written_whole(output) as temporary:
        shutil.copyfile(cached, temporary)
        found = file_sha256(temporary)
        if sha256 is not None and found != sha256:
            raise UHFError(
                f"{repo} {name} at {revision} has the SHA-256 {found}, not {sha256}: it is another file than the one "
                "you were told of; nothing was written"
            )
        header = _verified(temporary, f"{repo} {name} at {revision}")
    return Shared(repo, name, commit_of(cached, revision), found, header)


def checked_name(name: str) -> str:
    """A file name at the top of a repository; UHFError for anything else."""
    if _NAME.fullmatch(name) is None:
        raise UHFError(f"--name {name!r:.120}: a file name of letters, digits, - . _ that ends in .safetensors")
    return name


def commit_of(cached: Path, revision: str) -> str:
    """The commit that a file of the cache is of: `snapshots/COMMIT/NAME`."""
    folder = PurePosixPath(cached.as_posix()).parent.name
    return folder if _COMMIT.fullmatch(folder) else revision


def is_commit(revision: str) -> bool:
    """Whether a revision names one state for ever; branches and tags move."""
    return _COMMIT.fullmatch(revision) is not None


def _verified(path: Path, where: str) -> KeeperHeader:
    """Header of a file that has no name yet; UHFError names where it came from."""
    try:
        return read_keeper(path).header
    except UHFError as error:
        raise UHFError(f"{where}: {str(error).replace(str(path), 'the file')}; nothing was written") from error


def _endpoint() -> str | None:
    """That of the environment when it is asked for; huggingface_hub reads it once, at its import."""
    return os.environ.get(ENDPOINT_VARIABLE) or None


@contextmanager
def _told(repo: str, revision: str | None, name: str = "") -> Iterator[None]:
    """One line for whatever the Hub, the network or the cache refuse."""
    at = repo if revision is None else f"{repo} at {revision}"
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # it tells of every attempt
    try:
        yield
    except HFValidationError:
        raise UHFError(f"{repo!r:.120} names no repository: write OWNER/NAME") from None
    except GatedRepoError:
        raise UHFError(f"{repo} is gated: ask for access on its page, then log in (hf auth login)") from None
    except RepositoryNotFoundError:
        raise UHFError(
            f"{repo}: no such repository, or a private one; if it is yours, log in (hf auth login)"
        ) from None
    except RevisionNotFoundError:
        raise UHFError(f"{at}: no such revision; take the commit that push printed, or leave --revision away") from None
    except OfflineModeIsEnabled:
        raise UHFError(f"{at}: HF_HUB_OFFLINE is set, and nothing can be sent; unset it") from None
    except LocalEntryNotFoundError:
        raise UHFError(
            f"{at}: {name} is not in the cache, and the Hub was not reached (no network, or HF_HUB_OFFLINE)"
        ) from None
    except EntryNotFoundError:
        raise UHFError(f"{at} holds no file {name}; name another with --name") from None
    except HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        refused = (
            "you are not logged in, or may not write there (hf auth login)" if status in (401, 403) else "try again"
        )
        raise UHFError(f"{at}: the Hub answered with status {status}; {refused}") from None
    except (OSError, *_TRANSPORT) as error:
        raise UHFError(f"{at}: the Hub cannot be reached ({type(error).__name__}); check the network") from None
    finally:
        logging.set_verbosity(before)
