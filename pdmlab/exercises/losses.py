"""A judge of power cuts: the steps and the cut that somebody hands in are replayed on a card with FAT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pdmlab.errors import PdmlabError
from pdmlab.storage.powercuts import Player, StoreStory, stories
from pdmlab.storage.powercuts.cuts import parse

if TYPE_CHECKING:
    from pdmlab.exercises import Judge

PRECIOUS = "/settings"
_CARD_B = 128 * 1024


def card(seed: int) -> list[str]:
    """Return what lies on a participant's card: other files, and /settings."""
    others = [f"write /log-{number} {100 + 30 * number}" for number in range((seed - 1) % 5)]
    return [*others, f"write {PRECIOUS} {500 + 10 * (seed % 7)}"]


def on_card(steps: list[str], seed: int) -> StoreStory:
    """Return the story of some steps on a participant's card."""
    return stories.fat(steps=steps, before=card(seed), size=_CARD_B)


def smallest_loss(seed: int) -> Judge:
    """Judge (steps, cut): one device operation in all, cut before, in (a prefix) or after it, and the file is gone."""

    def judge(answer: Any) -> bool | str:
        steps, cut = answer
        try:
            player = Player(on_card([steps] if isinstance(steps, str) else list(steps), seed))
            cuts = parse(str(cut))
            if len(cuts) > 1 or cuts[0].kind not in "bpa":
                return "One cut is asked for: before (1b), in (1p40) or after (1a) an operation."
            instant = player.at(str(cut))
        except PdmlabError as error:
            return f"{error.message}."
        if instant.finding.outcome != "lost":
            return f"Replayed: {instant.verdict}."
        if PRECIOUS not in instant.finding.words:
            return f"Replayed: {instant.finding.words}; {PRECIOUS} is not what was lost."
        if player.operations > 1:
            return f"It is lost, with {player.operations} device operations in the steps; fewer will do."
        return True

    return judge
