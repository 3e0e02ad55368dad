"""Co-mining: with sparse boxes, two views of one image label for each other as they train."""

from typing import TYPE_CHECKING

from almining.lazy import attach

if TYPE_CHECKING:
    from almining.papers.comining import rivals as rivals
    from almining.papers.comining import views as views
    from almining.papers.comining.asking import doubts as doubts
    from almining.papers.comining.audit import Audit as Audit
    from almining.papers.comining.cogeneration import cogenerate as cogenerate
    from almining.papers.comining.cogeneration import cogenerate_many as cogenerate_many
    from almining.papers.comining.config import Config as Config
    from almining.papers.comining.recipes import recipe as recipe
    from almining.papers.comining.recipes import step as step
    from almining.papers.comining.views import look as look

__getattr__, __dir__ = attach(
    __name__,
    modules=["rivals", "views"],
    names={
        "Audit": "almining.papers.comining.audit",
        "Config": "almining.papers.comining.config",
        "cogenerate": "almining.papers.comining.cogeneration",
        "cogenerate_many": "almining.papers.comining.cogeneration",
        "doubts": "almining.papers.comining.asking",
        "look": "almining.papers.comining.views",
        "recipe": "almining.papers.comining.recipes",
        "step": "almining.papers.comining.recipes",
    },
)
