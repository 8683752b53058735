"""cxr: take ImageNet networks to chest X-rays, with numbers that can be traced and rebuilt.

The stages in ``stages/`` call this library; ``dvc.yaml`` puts them in order. Import the module
that you need (``from cxr.data import manifest``); importing ``cxr`` itself loads nothing.
"""

__version__ = "0.1.0"
