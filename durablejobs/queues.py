"""Which queues a worker serves, and in which order.

`mail,default` is strict: nothing of `default` while `mail` has pending jobs. `mail=3,default=1` is weighted: of
four turns, `mail` comes first in three. None is all queues together, by priority, then id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

from .config import checked_name
from .errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class QueuePlan:
    """The parsed `--queues`: names with weights (all 0: strict order); no names: all queues."""

    names: tuple[str, ...] = ()
    weights: tuple[int, ...] = ()

    @property
    def serves_all(self) -> bool:
        return not self.names

    def orders(self) -> Iterator[tuple[str, ...]]:
        """Yield for each turn, without end, the order in which the queues are looked at.

        Weighted turns are spread by the smooth weighted round robin of nginx: each turn every queue gains its
        weight, the richest one leads and pays the sum of all weights.
        """
        if not any(self.weights):
            for _ in count():
                yield self.names
        credit = dict.fromkeys(self.names, 0)
        total = sum(self.weights)
        while True:
            for name, weight in zip(self.names, self.weights, strict=True):
                credit[name] += weight
            richest_first = tuple(sorted(self.names, key=lambda name: -credit[name]))
            credit[richest_first[0]] -= total
            yield richest_first

    def quotas(self, orders: Iterator[tuple[str, ...]], most: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Return for a claim of `most` jobs the order of the queues and, where they are weighted, each one's part.

        A claim of many jobs counts as so many turns, else quick jobs, claimed by the hundred, would not be shared out
        by weight. `orders` is the iterator of this plan's `orders`.
        """
        order = next(orders)
        if not any(self.weights):
            return order, ()
        rounds, more = divmod(most - 1, sum(self.weights))
        leads = Counter([order[0], *(other[0] for other in islice(orders, more))])
        weight = dict(zip(self.names, self.weights, strict=True))
        return order, tuple(rounds * weight[name] + leads[name] for name in order)

    def __str__(self) -> str:
        if self.serves_all:
            return "all"
        if not any(self.weights):
            return ",".join(self.names)
        return ",".join(f"{name}={weight}" for name, weight in zip(self.names, self.weights, strict=True))


def parse_queues(text: str | None) -> QueuePlan:
    """Parse `mail,default` or `mail=3,default=1`; None means all queues.

    Raises `ConfigurationError` in goworker's sense: some queues with a weight and some without, a weight that is
    missing, not numeric, or not positive; also for empty, malformed, or repeated names.
    """
    if text is None:
        return QueuePlan()
    if not isinstance(text, str):
        raise ConfigurationError("queues", f"must be a text such as 'mail,default' or 'mail=3,default=1', not {text!r}")
    names, weights = [], []
    for part in text.split(","):
        name, separator, weight = part.strip().partition("=")
        if not name:
            raise ConfigurationError("queues", f"an empty name in {text!r}; write mail,default or mail=3,default=1")
        names.append(checked_name(name, "queues"))
        weights.append(_parse_weight(name, weight) if separator else 0)
    if len(set(names)) < len(names):
        raise ConfigurationError("queues", f"a queue is named twice in {text!r}")
    if any(weights) and not all(weights):
        missing = names[weights.index(0)]
        raise ConfigurationError("queues", f"queue {missing!r} has no weight, others have; write {missing}=1")
    return QueuePlan(tuple(names), tuple(weights))


def _parse_weight(name: str, weight: str) -> int:
    if not weight:
        raise ConfigurationError("queues", f"queue {name!r} has '=' but no weight; write {name}=1")
    if not (weight.isascii() and weight.isdigit()):
        raise ConfigurationError("queues", f"the weight of queue {name!r} is not a whole number: {weight!r}")
    if not 1 <= int(weight) <= 1000:
        raise ConfigurationError("queues", f"the weight of queue {name!r} must be 1 to 1000, not {weight}")
    return int(weight)
