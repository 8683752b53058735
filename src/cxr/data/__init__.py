"""The X-rays: from their source to an archive, a manifest with splits, and a cache of pixels."""
