"""The X-rays: source, archive, manifest, splits, and the cache of pixels."""
