"""Act III, Data & Scale: data loaders, datasets, convolutions and pooling."""

from tt_data.__about__ import __version__ as __version__
