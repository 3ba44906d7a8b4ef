"""The service's objectives and what is measured of them: from its processes, or from a Prometheus."""

from streams.slo.measure import Measured, from_processes
from streams.slo.objectives import OBJECTIVES, Objective, Row, Verdict, judge
from streams.slo.prometheus import from_prometheus

__all__ = [
    "OBJECTIVES",
    "Measured",
    "Objective",
    "Row",
    "Verdict",
    "from_processes",
    "from_prometheus",
    "judge",
]
