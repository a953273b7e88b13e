"""Demand: the most that a request may use, told from its body before it is sent.

Budgets and windows of tokens reserve it at admission, so it has to be an upper estimate, and quick: no tokenizer runs
in a worker. `of_body` reads a request; `TextBound` counts a text that streams by.
"""

from addon.demand.bodies import of_body
from addon.demand.bounds import why_unbounded
from addon.demand.cut import Cut
from addon.demand.texts import TextBound, text_bound
from addon.demand.vocabularies import Vocabulary, vocabulary_of

__all__ = ["Cut", "TextBound", "Vocabulary", "of_body", "text_bound", "vocabulary_of", "why_unbounded"]
