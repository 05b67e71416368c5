"""A small client of the decision API (OpenID AuthZEN Authorization API 1.0) for applications that enforce policy themselves.

An error is no permit, half an answer is none, and a permit under an obligation that is not applied is none either.
"""

from ._client import (
    AddressError,
    Answer,
    AsyncClient,
    Client,
    DecisionError,
    ForeignAnswer,
    Obligation,
    Question,
    Refused,
    Unreachable,
)
from .asgi import Guard

__all__ = [
    "AddressError",
    "Answer",
    "AsyncClient",
    "Client",
    "DecisionError",
    "ForeignAnswer",
    "Guard",
    "Obligation",
    "Question",
    "Refused",
    "Unreachable",
]
