"""Every metric of Sluice: its name, which processes show it, what it means, and what to do about a bad value.

`docs/metrics.md` is made from this list. One more metric is one more entry in the file of its process and one
call where the thing happens, as in `metrics.STORED.add(rows)`. Seconds and bytes, never their multiples.
"""

from tasks.observe.instruments import Metric
from tasks.observe.metrics import beat, bridge, control, gateway, several, worker

# In the order in which a message goes, which is that of the page.
CATALOGUE = [
    metric
    for module in (gateway, control, bridge, worker, beat, several)
    for metric in vars(module).values()
    if isinstance(metric, Metric)
]
