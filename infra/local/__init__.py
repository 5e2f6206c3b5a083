"""A whole Headwater on one machine: embedded servers, the bundled model and the services.

`LocalCluster` (cluster.py) is the library; `python -m infra.local` is the command line over it.
"""
