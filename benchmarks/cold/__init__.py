"""What benchmarks/cold_start.py measures: items and users that training has not seen."""
