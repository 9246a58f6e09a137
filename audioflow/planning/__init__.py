"""What a run will take, told from a small sample: pure functions, without media.

`sample.py` draws the recordings to probe, `intervals.py` and `estimate.py` go from what is measured
of them to all, `forecast.py` puts together what the job `embed` will take (`figures.py`), `text.py`
says it. `engine/plan.py` does the probing.
"""
