"""A folder of samples: where its pictures lie, what its manifest says, and how it is read.

`tocache.sampling` writes such folders, `tocache.evaluation` reads them; docs/scale.md describes them.
"""

from tocache.samples.layout import CONFIG, MANIFEST, Layout
from tocache.samples.manifest import Row, read_rows
from tocache.samples.reader import Samples

__all__ = ["CONFIG", "MANIFEST", "Layout", "Row", "Samples", "read_rows"]
