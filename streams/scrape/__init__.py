"""What our processes say of themselves at /metrics, read from outside: samples, rates, percentiles."""

from streams.scrape.rates import Change
from streams.scrape.sample import Sample, parse

__all__ = ["Change", "Sample", "parse"]
