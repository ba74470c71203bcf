"""Bindings to frameworks, each an extra: strangers to each other, imported only when they are asked for."""
