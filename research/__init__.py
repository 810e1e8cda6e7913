"""Studies behind the documentation: ablations, conversions, benchmarks; not part of the wheel."""
