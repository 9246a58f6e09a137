"""A curve with fewer points that looks the same.

Shapes: P points.
"""

import heapq

import numpy as np
from numpy.typing import NDArray

from audioflow.ranking import Float


def thinned(x_P: Float, y_P: Float, most: int) -> NDArray[np.intp]:
    """The places of at most `most` points (2 or more) whose connecting lines keep to the curve.

    The ends are kept; then, again and again, the point farthest from the lines so far. Points that
    lie on the lines are left out. Both axes count alike. Ramer, An iterative procedure for the
    polygonal approximation of plane curves (1972); Douglas and Peucker (1973).
    """
    last = len(x_P) - 1
    kept = {0, last}
    waiting = [_farthest(x_P, y_P, 0, last)]
    while waiting and len(kept) < most:
        distance, place, start, end = heapq.heappop(waiting)
        if distance > -1e-9:
            break
        kept.add(place)
        heapq.heappush(waiting, _farthest(x_P, y_P, start, place))
        heapq.heappush(waiting, _farthest(x_P, y_P, place, end))
    return np.array(sorted(kept), np.intp)


def _farthest(x_P: Float, y_P: Float, start: int, end: int) -> tuple[float, int, int, int]:
    """Minus the distance of the point farthest from the line from start to end, and its place."""
    if end - start < 2:
        return 0.0, start, start, end
    x = x_P[start + 1 : end] - x_P[start]
    y = y_P[start + 1 : end] - y_P[start]
    dx, dy = x_P[end] - x_P[start], y_P[end] - y_P[start]
    length = float(np.hypot(dx, dy))
    distance = np.abs(x * dy - y * dx) / length if length > 0 else np.hypot(x, y)
    place = int(distance.argmax())
    return -float(distance[place]), start + 1 + place, start, end
