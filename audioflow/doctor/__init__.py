"""What `audioflow doctor` looks at: whether this machine gives the right vectors, and more.

`vectors.py` runs the golden vectors, `packages.py` tells versions, `machine.py` what the machine
has, `reach.py` whether stores answer, `kept.py` which weights are here; `text.py` puts it in words.
Ray is looked at by `engine/doctor.py`.
"""
