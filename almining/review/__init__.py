"""The review: a person looks at what was picked, sees why, and answers; nothing of it is lost."""

from typing import TYPE_CHECKING

from almining.lazy import attach

if TYPE_CHECKING:
    from almining.review import events as events
    from almining.review import reviewer as reviewer
    from almining.review import scripted as scripted
    from almining.review import state as state
    from almining.review import store as store
    from almining.review import views as views
    from almining.review import widget as widget
    from almining.review.reviewer import Reviewer as Reviewer
    from almining.review.state import Review as Review
    from almining.review.state import fold as fold

__getattr__, __dir__ = attach(
    __name__,
    modules=["events", "reviewer", "scripted", "state", "store", "views", "widget"],
    names={
        "Review": "almining.review.state",
        "Reviewer": "almining.review.reviewer",
        "fold": "almining.review.state",
    },
)
