"""Every metric of Sluice: its name, which processes show it, what it means, and what to do about a bad value.

`docs/metrics.md` is made from this list. One more metric is one more entry in the file of its process and one
call where the thing happens, as in `metrics.STORED.add(rows)`. Seconds and bytes, never their multiples.
"""

from tasks.instruments import Metric as Metric

# In the order in which a message goes, which is that of the page.
# isort: off
from tasks.metrics.gateway import *
from tasks.metrics.control import *
from tasks.metrics.bridge import *
from tasks.metrics.worker import *
from tasks.metrics.beat import *

# isort: on

CATALOGUE = Metric.catalogue
