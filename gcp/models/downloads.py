"""Published weights from the hub, without waiting for a network that is not there.

The hub's library asks for every file of a model six times with pauses in between: without a network that is forty lines
in eighty seconds before the one that matters.
"""

from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 5.0  # seconds for one answer


@contextmanager
def from_hub() -> Iterator[None]:
    """While weights of timm are loaded: where the hub cannot be reached, its cache on this machine is all there is.

    Raises:
        ConnectionError: the hub cannot be reached, and what is asked for is not in the cache.
    """
    from huggingface_hub import constants

    reason = _unreachable(constants.ENDPOINT)
    if reason is None:
        yield
        return
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    except OSError as error:  # LocalEntryNotFoundError, OfflineModeIsEnabled
        raise ConnectionError(f"{constants.ENDPOINT} cannot be reached: {reason}") from error
    finally:
        constants.HF_HUB_OFFLINE = before


def _unreachable(address: str) -> str | None:
    """Why nothing answers at an address, None where something does."""
    from huggingface_hub.utils import get_session

    try:
        get_session().head(address, timeout=PATIENCE)
    except Exception as error:  # of the library that the hub's library uses, which has changed
        return str(error).partition("\n")[0] or type(error).__name__
    return None
