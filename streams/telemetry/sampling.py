"""Which spans are recorded: the SDK's samplers, asked only when the answer is not obvious."""

from __future__ import annotations

from typing import Final, NamedTuple

from opentelemetry.sdk.trace import sampling

from streams.telemetry.context import SAMPLED, TraceContext, as_parent
from streams.telemetry.records import Attributes, Shape

_ALWAYS: Final = {id(sampling.ALWAYS_ON): True, id(sampling.ALWAYS_OFF): False}


class Decision(NamedTuple):
    sampled: bool
    attributes: Attributes
    tracestate: str | None


class Sampling:
    """A sampler's decisions. `should_sample` costs more than a whole span of ours: 5 µs."""

    def __init__(self, sampler: sampling.Sampler = sampling.DEFAULT_ON) -> None:
        self._sampler = sampler
        self.follows_parent = sampler is sampling.DEFAULT_ON
        """The default, parentbased_always_on: no need to ask."""
        self.always = _ALWAYS.get(id(sampler))
        """The decision that never changes, if this is a sampler of that kind: no need to ask either."""

    def decide(
        self, shape: Shape, parent: TraceContext | None, trace_id: str, attributes: Attributes
    ) -> Decision:
        state = parent.tracestate if parent else None
        if self.follows_parent:
            return Decision(parent is None or bool(parent.flags & SAMPLED), attributes, state)
        if self.always is not None:
            return Decision(self.always, attributes, state)
        result = self._sampler.should_sample(
            as_parent(parent), int(trace_id, 16), shape.name, shape.kind, {**shape.attributes, **attributes}
        )
        sampled = result.decision is sampling.Decision.RECORD_AND_SAMPLE
        # A sampler may add to the attributes that it was shown.
        added = {name: value for name, value in result.attributes.items() if name not in shape.attributes}
        written = result.trace_state.to_header() if result.trace_state else None
        return Decision(sampled, added if sampled else attributes, written or None)
