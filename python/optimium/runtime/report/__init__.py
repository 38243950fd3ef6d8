"""Reports of how a model spends its time.

    import optimium.runtime as rt
    from optimium.runtime import report

    model = rt.load_model("path/to/model", threads=2)
    (profile,) = report.measure([report.Subject(model)], repeat=100)
    report.write_html(profile, "report.html")

The data flows one way: `measure` runs models, or `collect` takes what a request has profiled; both give a `Profile`, which
is plain data. Everything else makes something of it: `write_html` a page, `write_trace` a trace for Perfetto, `save` a file
that `load` reads again, `compare` the differences of two.
"""

from .collect import collect
from .comparison import Change, Comparison, compare
from .data import Layer, Machine, Profile, Span, Timing, Total, total
from .machine import probe
from .measuring import Subject, measure
from .page import write_html
from .store import load, save, to_json
from .trace import trace_events, write_trace

__all__ = [
    "Change",
    "Comparison",
    "Layer",
    "Machine",
    "Profile",
    "Span",
    "Subject",
    "Timing",
    "Total",
    "collect",
    "compare",
    "load",
    "measure",
    "probe",
    "save",
    "to_json",
    "total",
    "trace_events",
    "write_html",
    "write_trace",
]
