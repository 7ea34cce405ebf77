"""Upload an exported folder to the Hugging Face hub, for export.push=OWNER/NAME.

Decisions:
- A new repository is private: what a text may be published as is its user's decision. One that
  exists stays as it is.
- The token is the one that huggingface_hub finds: HF_TOKEN, or `hf auth login`.
- Whatever fails, the folder stays, and the message says how to upload it later.
"""

import logging
import shlex
from importlib import metadata
from pathlib import Path

from w2v_inf.errors import UserError, check
from w2v_inf.vector_folders.folder import LIBRARY

log = logging.getLogger(__name__)
REFUSED = "the token may not write there: take one with the right to write, or another OWNER"
ADVICE = {
    401: "the hub does not accept the token: renew it (hf auth login)",
    403: REFUSED,
    404: REFUSED,
}
"""By the status of the hub's answer."""


def check_name(repository: str) -> None:
    """Raises: UserError if no repository of the hub can have this name."""
    from huggingface_hub.errors import HFValidationError  # takes most of a second
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
        is_name = repository.count("/") == 1
    except HFValidationError:
        is_name = False
    allowed = "OWNER/NAME of ASCII letters, digits, -, _ and . (no -- or .., no .git at the end)"
    check("export.push", repository, is_name, allowed)


def push_folder(folder: Path, repository: str) -> str:
    """Upload the files of `folder`; returns the address of the repository.

    Raises: UserError if there is no token or network, or the hub refuses.
    """
    from huggingface_hub import HfApi, get_token

    later = f"{folder} is complete (later: hf upload {repository} {shlex.quote(str(folder))})"
    if get_token() is None:
        raise UserError(
            f"export.push={repository} needs a token of huggingface.co, found none: "
            f"set HF_TOKEN or run `hf auth login`; {later}"
        )
    api = HfApi(library_name=LIBRARY, library_version=metadata.version(LIBRARY))
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Upload vectors of w2v_inf"
        )
    except Exception as error:  # of the library, its HTTP client and its uploader in Rust
        status = getattr(getattr(error, "response", None), "status_code", 0)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        advice = ADVICE.get(status, "check the network and the name")
        raise UserError(f"export.push={repository} failed ({reason}): {advice}; {later}") from error
    log.info("%s: uploaded to %s", folder, address)
    return str(address)
