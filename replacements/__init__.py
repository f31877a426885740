"""Workflows made for other AnimateDiff packs, rewritten to this pack's nodes and core's."""
