"""The curves of all classes together as one PNG: ROC, precision and recall, reliability."""

from audioflow.report.canvas import GREY, colour_of, label_text, new_figure, titled_legend, to_png
from audioflow.report.figures import Figures


def curve_plots(figures: Figures) -> dict[str, bytes]:
    """`curves.png`; nothing where no system has curves."""
    systems = [s for s in figures.evaluated if s.curves is not None and s.curves.micro is not None]
    if not systems:
        return {}
    figure = new_figure(11.0, 3.6)
    roc, ranked, reliable = figure.subplots(1, 3)
    for system in systems:
        assert system.curves is not None
        assert system.curves.micro is not None
        curves, colour = system.curves.micro, colour_of(system.index)
        label = label_text(system.name)
        roc.plot(100 * curves.roc.x, 100 * curves.roc.y, color=colour, label=label)
        ranked.plot(100 * curves.pr.x, 100 * curves.pr.y, color=colour)
        bins = curves.reliability
        reliable.plot(100 * bins.confidence, 100 * bins.right, "o-", color=colour, ms=4)
    for axes in (roc, reliable):
        axes.plot([0, 100], [0, 100], color=GREY, lw=1, ls=":")
    for axes in (roc, ranked, reliable):
        axes.set(xlim=(0, 100), ylim=(0, 102))
        axes.grid()
    titled_legend(roc, "ROC")
    roc.set(xlabel="false alarms, percent", ylabel="found, percent")
    ranked.set(title="precision and recall", xlabel="recall, percent", ylabel="precision, percent")
    reliable.set(title="reliability", xlabel="score, percent", ylabel="right, percent")
    return {"curves.png": to_png(figure)}
