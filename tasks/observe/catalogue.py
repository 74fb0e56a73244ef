"""Every metric of Sluice: its name, which processes show it, what it means, and what to do about a bad value.

`docs/metrics.md` is generated from this list. A new metric is one entry in the file of its process and one
call where the thing happens, as in `metrics.STORED.add(rows)`. Units are seconds and bytes, never multiples.
"""

from tasks.observe.instruments import Metric
from tasks.observe.metrics import beat, bridge, control, gateway, several, web, worker

# In the order in which a message passes the processes, which is that of the page.
CATALOGUE = [
    metric
    for module in (gateway, control, bridge, worker, beat, web, several)
    for metric in vars(module).values()
    if isinstance(metric, Metric)
]
