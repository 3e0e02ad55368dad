"""The run directory: requests, answers, cycles and weights; nothing acknowledged is ever lost."""

from typing import TYPE_CHECKING

from almining.lazy import attach

if TYPE_CHECKING:
    from almining.ledger import book as book
    from almining.ledger import database as database
    from almining.ledger import files as files
    from almining.ledger import lock as lock
    from almining.ledger import manifest as manifest
    from almining.ledger import rows as rows
    from almining.ledger import weights as weights
    from almining.ledger.book import Ledger as Ledger
    from almining.ledger.book import open_ledger as open_ledger
    from almining.ledger.files import LedgerError as LedgerError
    from almining.ledger.lock import LockedError as LockedError
    from almining.ledger.manifest import RunMismatchError as RunMismatchError
    from almining.ledger.weights import Weights as Weights

__getattr__, __dir__ = attach(
    __name__,
    modules=["book", "database", "files", "lock", "manifest", "rows", "weights"],
    names={
        "Ledger": "almining.ledger.book",
        "LedgerError": "almining.ledger.files",
        "LockedError": "almining.ledger.lock",
        "RunMismatchError": "almining.ledger.manifest",
        "Weights": "almining.ledger.weights",
        "open_ledger": "almining.ledger.book",
    },
)
