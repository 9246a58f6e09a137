"""Why a system scores a clip as it does; the tool `explain`. Pure torch and NumPy, without Ray.

`logits.py` is the logit of a class as a function of what may be altered: spectrograms, waveforms,
vectors. `gradients.py` (integrated gradients) and `occlusion.py` say where in a clip it comes from,
in time and frequency as `grid.py` lays them out; `tabular.py` (SHAP) which columns of its vector,
`concepts.py` (TCAV) which concepts. `rows.py` has the tables, `pictures.py` draws.

What cannot be computed is an error: nothing here returns an explanation that does not hold.
"""
